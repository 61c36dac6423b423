"""Light denoising, which also brings sharp uploads close to the compressed images of the training sets."""

from __future__ import annotations

import cv2
import numpy as np

from services.preprocessor.imaging.outcomes import Pixels
from services.preprocessor.imaging.parameters import ImagingParameters


def denoise(rgb: Pixels, parameters: ImagingParameters) -> Pixels:
    """Return the median-filtered copy of rgb, uint8 [h, w, 3]; edges stay where they are."""
    return np.asarray(cv2.medianBlur(rgb, parameters.median_window), dtype=np.uint8)
