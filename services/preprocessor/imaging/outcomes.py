"""What comes out of imaging: a prepared lesion, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

#: An image, uint8 [height, width, 3], RGB; or one channel of it, uint8 [height, width].
Pixels: TypeAlias = npt.NDArray[np.uint8]
#: bool [height, width].
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an image cannot, or should not, be judged.

    An outcome, not an exception: unusable photographs are expected.

    Attributes:
        code: stable, machine-readable, snake case.
        sentence: for the person: what is wrong and how to retake the photo.
        soft: True when the person may say "use it anyway".
    """

    code: str
    sentence: str
    soft: bool = False


@dataclass(frozen=True, slots=True)
class QualityMeasures:
    """Measures of the 224 × 224 square as photographed, before any correction.

    Attributes:
        brightness: mean grey level, 0–255.
        contrast: standard deviation of the grey level, 0–128.
        sharpness: variance of the Laplacian of the grey level over the variance of the grey level itself,
            both on the square reduced to 56 × 56, where noise, rounding and compression no longer count; ≥ 0,
            dimensionless, 0.05–0.8 for nine in ten usable photos.
        glare_share: share of pixels that are clipped and colourless, 0–1.
        lesion_offset: distance of the lesion's centroid from the centre in half sides, 0–1.5; 0 when no
            lesion was found.
        lesion_cut_share: share of the frame's edge that the lesion covers, 0–1.
    """

    brightness: float
    contrast: float
    sharpness: float
    glare_share: float
    lesion_offset: float
    lesion_cut_share: float


@dataclass(frozen=True, slots=True)
class Frame:
    """A square within a photograph's centre square: its left and upper edge and its side, in sides of that."""

    left: float
    top: float
    side: float


#: The frame of all photographs but those with something dark around what is lit.
WHOLE_SQUARE = Frame(0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class PreparedLesion:
    """A photograph ready for the networks.

    Attributes:
        tensor: uint8 [224, 224, 3], RGB.
        mask: bool [224, 224], True on the lesion; all False when none was found. Never painted into the
            tensor.
        hair_share: share of pixels inpainted, 0–1.
        mask_share: share of pixels in the mask, 0–1.
        quality: measures of the square before correction.
        source_size: (width, height) in pixels, upright, as sent.
        frame: where the tensor lies in the centre square of the photograph.
        concerns: advice, and the soft refusals that were overruled.
    """

    tensor: Pixels
    mask: Mask
    hair_share: float
    mask_share: float
    quality: QualityMeasures
    source_size: tuple[int, int]
    frame: Frame = WHOLE_SQUARE
    concerns: tuple[Rejection, ...] = ()
