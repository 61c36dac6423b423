"""Is the photograph good enough to judge, and what would make it better?"""

from __future__ import annotations

import cv2
import numpy as np

from services.preprocessor.imaging.outcomes import Mask, Pixels, QualityMeasures, Rejection
from services.preprocessor.imaging.parameters import ImagingParameters

#: Grey level from which a channel counts as clipped; JPEG moves full white by a few levels.
CLIPPED = 250
#: Side in pixels at which sharpness is measured: a blur that spoils the lesion still shows, and the
#: difference between a sharp upload and a strongly compressed training image no longer does.
COARSE_SIDE = 56
#: Grey levels², added to the variance so that the noise of an empty frame does not pass for detail.
FLAT_VARIANCE = 4.0

BLANK = Rejection("blank", "The photo shows nothing but one even colour. Retake it with the spot in view.", soft=True)
TOO_DARK = Rejection("too_dark", "The photo is too dark. Retake it in daylight or with the lamp on.", soft=True)
TOO_BRIGHT = Rejection(
    "too_bright", "The photo is overexposed. Retake it without flash, away from direct sun.", soft=True
)
TOO_BLURRED = Rejection(
    "too_blurred",
    "The photo is out of focus. Hold still about 10 cm away, tap the spot to focus, and retake it.",
    soft=True,
)
GLARE = Rejection("glare", "Light is reflected from the skin. Tilt the camera or turn off the flash.", soft=True)
NO_LESION_FOUND = Rejection(
    "no_lesion_found",
    "No spot stands out from the skin. Make sure that it is in the middle of the photo.",
    soft=True,
)
OFF_CENTRE = Rejection(
    "off_centre", "The spot is far from the middle. Retake the photo with the spot in the centre.", soft=True
)
CUT_OFF = Rejection(
    "cut_off",
    "The spot reaches over the edge of the photo. Step back until skin shows all around it.",
    soft=True,
)


def measure(square: Pixels, mask: Mask) -> QualityMeasures:
    """Measure the uncorrected square, uint8 [224, 224, 3], with the lesion's mask, bool [224, 224]."""
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    coarse = cv2.resize(grey.astype(np.float32), (COARSE_SIDE, COARSE_SIDE), interpolation=cv2.INTER_AREA)
    edges = float(cv2.Laplacian(coarse, cv2.CV_32F).var())
    red, green, blue = cv2.split(square)
    clipped = cv2.min(cv2.min(red, green), blue) >= CLIPPED
    height, width = mask.shape
    offset = 0.0
    if mask.any():
        rows, columns = np.nonzero(mask)
        offset = float(
            np.hypot(columns.mean() - (width - 1) / 2, rows.mean() - (height - 1) / 2) / (min(height, width) / 2)
        )
    edge = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return QualityMeasures(
        brightness=float(mean.ravel()[0]),
        contrast=float(deviation.ravel()[0]),
        sharpness=edges / (float(coarse.var()) + FLAT_VARIANCE),
        glare_share=float(clipped.mean()),
        lesion_offset=offset,
        lesion_cut_share=float(edge.mean()),
    )


def refusals(quality: QualityMeasures, parameters: ImagingParameters) -> tuple[Rejection, ...]:
    """Reasons not to judge the photograph, the most telling first; empty for nearly every real photo."""
    reasons: list[Rejection] = []
    if quality.brightness < parameters.dark_mean:
        reasons.append(TOO_DARK)
    elif quality.brightness > parameters.bright_mean:
        reasons.append(TOO_BRIGHT)
    if quality.contrast < parameters.blank_deviation:
        reasons.append(BLANK)
    elif quality.sharpness < parameters.blur_sharpness:
        reasons.append(TOO_BLURRED)
    return tuple(reasons)


def advice(quality: QualityMeasures, mask: Mask, parameters: ImagingParameters) -> tuple[Rejection, ...]:
    """What would make the next photograph better; never a reason to refuse this one."""
    reasons: list[Rejection] = []
    if quality.glare_share > parameters.glare_share:
        reasons.append(GLARE)
    if not mask.any():
        reasons.append(NO_LESION_FOUND)
    else:
        if quality.lesion_offset > parameters.off_centre:
            reasons.append(OFF_CENTRE)
        if quality.lesion_cut_share > parameters.cut_off_share:
            reasons.append(CUT_OFF)
    return tuple(reasons)
