"""Random variations of a prepared square, cheap enough to be made on the cores that train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from training.surroundings import with_surroundings

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What varies; every part can be switched off.

    ``turns``: the eight flips and right-angle turns. ``crop``: crops of 70–100 % of the area with ± 10 % of aspect and
    ± 20° of rotation. ``colour``: brightness, contrast, gamma, colour cast, saturation, hue. ``sharpness``: blur or
    sharpening (uploads are sharper than packed training images). ``compression``: JPEG. ``noise``: Gaussian.
    ``cutout``: one grey rectangle (DeVries & Taylor 2017). ``hair``: a few drawn dark curves. ``surroundings``: a
    pen, bubbles, a frame and the like, see :mod:`training.surroundings`; the published ablation was without.
    """

    turns: bool = True
    crop: bool = True
    colour: bool = True
    sharpness: bool = True
    compression: bool = True
    noise: bool = True
    cutout: bool = True
    hair: bool = True
    surroundings: bool = False


def augment(image: Pixels, size_px: int, rng: np.random.Generator, flags: Augmentation) -> Pixels:
    """Return one random variation of uint8 ``[h,w,3]`` as uint8 ``[size_px,size_px,3]``."""
    if flags.hair and rng.random() < 0.08:
        image = _draw_hair(image, rng)
    if flags.surroundings and rng.random() < 0.3:
        image = with_surroundings(image, rng)
    result = _geometry(image, size_px, rng, flags)
    if flags.sharpness:
        result = _sharpness(result, rng)
    if flags.colour:
        result = _colour(result, rng)
    if flags.compression and rng.random() < 0.15:
        result = _compress(result, rng)
    if flags.noise and rng.random() < 0.15:
        noise = rng.normal(0.0, rng.uniform(2.0, 8.0), result.shape)
        result = np.clip(result + noise, 0, 255).astype(np.uint8)
    if flags.cutout and rng.random() < 0.2:
        result = _cut_out(result, rng)
    return result


def resize(image: Pixels, size_px: int) -> Pixels:
    """Return the whole square at another size, uint8 ``[size_px,size_px,3]``; what evaluation uses."""
    if image.shape[0] == size_px:
        return image
    return np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_LINEAR))


def _geometry(image: Pixels, size_px: int, rng: np.random.Generator, flags: Augmentation) -> Pixels:
    side = image.shape[0]
    width = height = float(side)
    angle, centre_x, centre_y = 0.0, side / 2, side / 2
    if flags.crop:
        area, aspect = rng.uniform(0.7, 1.0), rng.uniform(0.9, 1.1)
        width, height = side * np.sqrt(area * aspect), side * np.sqrt(area / aspect)
        reach_x, reach_y = max(side - width, 0) / 2, max(side - height, 0) / 2
        centre_x += rng.uniform(-reach_x, reach_x)
        centre_y += rng.uniform(-reach_y, reach_y)
        angle = np.deg2rad(rng.uniform(-20.0, 20.0))
    mirror, quarter = 1.0, 0
    if flags.turns:
        mirror, quarter = float(rng.choice((-1.0, 1.0))), int(rng.integers(4))
    angle += quarter * np.pi / 2
    # Target pixel → source pixel, so that warpAffine needs no inversion.
    cosine, sine = np.cos(angle), np.sin(angle)
    scale_x, scale_y = mirror * width / size_px, height / size_px
    matrix = np.array([[cosine * scale_x, -sine * scale_y, 0.0], [sine * scale_x, cosine * scale_y, 0.0]])
    middle = (size_px - 1) / 2
    matrix[:, 2] = (centre_x - 0.5, centre_y - 0.5) - matrix[:, :2] @ (middle, middle)
    return np.asarray(
        cv2.warpAffine(
            image,
            matrix,
            (size_px, size_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def _sharpness(image: Pixels, rng: np.random.Generator) -> Pixels:
    draw = rng.random()
    if draw < 0.12:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3)))
    if draw < 0.35:
        smooth = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1.6))
        amount = rng.uniform(0.2, 1.0)
        return np.asarray(cv2.addWeighted(image, 1.0 + amount, smooth, -amount, 0.0))
    return image


def _colour(image: Pixels, rng: np.random.Generator) -> Pixels:
    # Saturation and a small rotation of hue, as one matrix around the grey axis.
    saturation, hue = rng.uniform(0.85, 1.15), np.deg2rad(rng.uniform(-4.0, 4.0))
    grey = np.full((3, 3), 1.0 / 3.0)
    axis = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3.0)
    turn = grey + saturation * (np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * axis)
    turned = cv2.transform(image, turn)
    # Gamma, contrast, brightness and cast, as one table per channel.
    levels = np.linspace(0.0, 1.0, 256)[:, None]
    cast = rng.uniform(0.96, 1.04, (1, 3))
    gamma, contrast, shift = np.exp(rng.uniform(-0.15, 0.15)), rng.uniform(0.88, 1.14), rng.uniform(-0.05, 0.05)
    table = ((levels**gamma - 0.5) * contrast + 0.5 + shift) * cast
    lookup = np.clip(np.rint(table * 255.0), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(turned, lookup.reshape(1, 256, 3)))


def _compress(image: Pixels, rng: np.random.Generator) -> Pixels:
    quality = int(rng.integers(40, 95))
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))


def _cut_out(image: Pixels, rng: np.random.Generator) -> Pixels:
    side = image.shape[0]
    height, width = (int(v) for v in rng.uniform(0.1, 0.35, 2) * side)
    top, left = int(rng.integers(side - height)), int(rng.integers(side - width))
    result = image.copy()
    result[top : top + height, left : left + width] = int(rng.integers(90, 190))
    return result


def _draw_hair(image: Pixels, rng: np.random.Generator) -> Pixels:
    result = image.copy()
    side = image.shape[0]
    for _ in range(int(rng.integers(2, 9))):
        start, end = rng.uniform(0, side, 2), rng.uniform(0, side, 2)
        bow = (start + end) / 2 + rng.normal(0, side * 0.12, 2)
        t = np.linspace(0.0, 1.0, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bow + t**2 * end
        shade = rng.uniform(10, 90) * np.array([1.0, 0.8, 0.7])
        cv2.polylines(
            result,
            [np.rint(curve).astype(np.int32)],
            isClosed=False,
            color=shade.tolist(),
            thickness=int(rng.integers(1, 3)),
            lineType=cv2.LINE_AA,
        )
    return result
