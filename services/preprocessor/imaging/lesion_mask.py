"""Where the lesion lies: for framing advice and display, never painted into the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from services.preprocessor.imaging.outcomes import Mask, Pixels
from services.preprocessor.imaging.parameters import ImagingParameters


def lesion_mask(rgb: Pixels, parameters: ImagingParameters) -> Mask:
    """Segment the lesion in a normalised square.

    Otsu's threshold (1979) on the distance in CIE L*a*b* from the skin, whose colour is the median of the
    brighter half; when that finds nothing, on darkness alone. Of the regions found, the one largest after
    weighting towards the centre is the lesion.

    Args:
        rgb: uint8 [h, w, 3] after colour constancy and hair removal.
        parameters: the amount of blur, and what a region must be like to be a lesion.

    Returns:
        bool [h, w]; all False when no region stands out.
    """
    height, width = rgb.shape[:2]
    half = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(half.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    lab = cv2.GaussianBlur(lab, (0, 0), parameters.mask_blur / 2)
    lightness = lab[..., 0]
    skin = np.median(lab[lightness >= np.median(lightness)], axis=0)
    distance = np.sqrt(((lab - skin) ** 2).sum(axis=2))
    for evidence in (distance, np.maximum(skin[0] - lightness, 0)):
        found = _central_region(np.asarray(evidence, dtype=np.float32), parameters)
        if found is not None:
            smooth = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
            return np.asarray(smooth >= 0.5, dtype=np.bool_)
    return np.zeros((height, width), np.bool_)


def _central_region(evidence: npt.NDArray[np.float32], parameters: ImagingParameters) -> Mask | None:
    """Threshold the evidence (L*a*b* units) and pick the region that a photographer would have meant."""
    height, width = evidence.shape
    scaled = np.clip(np.rint(evidence * 2), 0, 255).astype(np.uint8)  # half a unit per level, up to 127 units
    _level, binary = cv2.threshold(scaled, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(binary, connectivity=8)
    if count < 2:
        return None
    offset = np.hypot(centroids[:, 0] - (width - 1) / 2, centroids[:, 1] - (height - 1) / 2) / (width / 2)
    score = stats[:, cv2.CC_STAT_AREA] * np.exp(-((offset / 0.5) ** 2))
    score[0] = -1
    region = (labels == int(np.argmax(score))).astype(np.uint8)
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(region)
    cv2.drawContours(filled, contours, -1, 1, thickness=cv2.FILLED)
    mask = np.asarray(filled, dtype=np.bool_)
    share = float(mask.mean())
    if not parameters.mask_share_min <= share <= parameters.mask_share_max:
        return None
    contrast = float(evidence[mask].mean() - evidence[~mask].mean())
    return mask if contrast >= parameters.mask_contrast else None
