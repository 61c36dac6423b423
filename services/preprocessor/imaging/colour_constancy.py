"""Colour constancy: the same lesion under warm and cold light becomes the same colour."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from services.preprocessor.imaging.outcomes import Pixels
from services.preprocessor.imaging.parameters import ImagingParameters


def channel_gains(rgb: Pixels, parameters: ImagingParameters) -> npt.NDArray[np.float64]:
    """Gains that turn the estimated illuminant grey, float64 [3], within the parameters' bounds.

    Method: shades of gray (Finlayson & Trezzi, "Shades of gray and colour constancy", CIC 2004): the
    illuminant is the Minkowski mean of each channel. Brightness is kept: an image of equal channels has gains
    of one.
    """
    levels = np.arange(256, dtype=np.float64) / 255
    powers = levels**parameters.minkowski_norm
    histograms = np.stack([cv2.calcHist([rgb], [c], None, [256], [0, 256]).ravel() for c in range(3)])
    moments = histograms.astype(np.float64) @ powers / (rgb.shape[0] * rgb.shape[1])
    illuminant = moments ** (1 / parameters.minkowski_norm)
    if illuminant.min() <= 0:  # a channel without any light carries no information to scale
        return np.ones(3)
    gains = np.clip(illuminant.mean() / illuminant, parameters.gain_min, parameters.gain_max)
    return np.asarray(gains, dtype=np.float64)


def shades_of_gray(rgb: Pixels, parameters: ImagingParameters) -> Pixels:
    """Return a copy of rgb, uint8 [h, w, 3], as if photographed under grey light."""
    table = np.rint(np.arange(256)[:, None] * channel_gains(rgb, parameters)[None, :])
    table = np.clip(table, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, table[:, None, :].reshape(1, 256, 3)), dtype=np.uint8)
