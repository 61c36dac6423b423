"""The one way from a photograph to what the networks see, in training and in serving."""

from __future__ import annotations

from dataclasses import replace

from services.preprocessor.imaging.colour_constancy import shades_of_gray
from services.preprocessor.imaging.decode import Photograph, decode
from services.preprocessor.imaging.denoise import denoise
from services.preprocessor.imaging.exposure import exposed
from services.preprocessor.imaging.falloff import evened
from services.preprocessor.imaging.field import lit_square
from services.preprocessor.imaging.hair import without_hair
from services.preprocessor.imaging.lesion_mask import lesion_mask
from services.preprocessor.imaging.outcomes import Frame, Pixels, PreparedLesion, Rejection
from services.preprocessor.imaging.parameters import DEFAULT, ImagingParameters
from services.preprocessor.imaging.quality import advice, measure, refusals
from services.preprocessor.imaging.srgb import to_srgb


def normalise(rgb: Pixels, parameters: ImagingParameters = DEFAULT) -> PreparedLesion:
    """Bring a photograph to the networks' size, light and cleanliness.

    What is lit of the centre square is scaled to 224 × 224 first, then even light, shades-of-gray colour constancy,
    enough light, hair removal, light denoising and the lesion mask follow, all at 224: training images are 224
    squares, so training and serving see one domain. Pure and deterministic; the input is not modified.

    Args:
        rgb: uint8 [height, width, 3], any size.
        parameters: defaults are what the networks were trained with.

    Raises:
        ValueError: rgb has another shape or type.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != "uint8" or min(rgb.shape[:2]) < 1:
        raise ValueError(f"expected uint8 [height, width, 3], got {rgb.dtype} {list(rgb.shape)}")
    square, frame = lit_square(rgb, parameters)
    return _normalised(square, frame, (rgb.shape[1], rgb.shape[0]), parameters)


def _normalised(
    square: Pixels, frame: Frame, source_size: tuple[int, int], parameters: ImagingParameters
) -> PreparedLesion:
    lit = exposed(shades_of_gray(evened(square, parameters), parameters), parameters)
    hairless, hair_share = without_hair(lit, parameters)
    tensor = denoise(hairless, parameters)
    mask = lesion_mask(tensor, parameters)
    return PreparedLesion(
        tensor=tensor,
        mask=mask,
        hair_share=hair_share,
        mask_share=float(mask.mean()),
        quality=measure(square, mask),
        source_size=source_size,
        frame=frame,
    )


def prepared(photograph: Photograph, parameters: ImagingParameters = DEFAULT) -> PreparedLesion:
    """Bring a decoded photograph to sRGB and normalise it; nothing judges it."""
    # Colour profiles are applied to the square only: 50,000 pixels instead of millions.
    square, frame = lit_square(photograph.rgb, parameters)
    return _normalised(to_srgb(square, photograph.profile), frame, photograph.source_size, parameters)


def prepare_lesion(
    data: bytes, parameters: ImagingParameters = DEFAULT, *, force: bool = False
) -> PreparedLesion | Rejection:
    """Decode an uploaded file, judge its quality and normalise it.

    Args:
        data: the file as uploaded: JPEG, PNG, WebP, BMP, TIFF, HEIC/HEIF or AVIF.
        parameters: limits and what the networks were trained with.
        force: go on where only soft reasons speak against it; they are then among the concerns.

    Returns:
        The lesion with advice in `concerns`, or the first reason why the photograph is refused.
    """
    photograph = decode(data, parameters)
    if isinstance(photograph, Rejection):
        return photograph
    lesion = prepared(photograph, parameters)
    reasons = refusals(lesion.quality, parameters)
    if reasons and not force:
        return reasons[0]
    return replace(lesion, concerns=reasons + advice(lesion.quality, lesion.mask, parameters))
