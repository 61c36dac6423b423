"""Made photographs: skin with a lesion, as files of every kind."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def make_skin() -> Callable[..., Pixels]:
    """Returns a function that draws skin with a brown lesion: make_skin(width, height, …) → uint8 [h, w, 3]."""

    def make(
        width: int = 400,
        height: int = 300,
        *,
        skin: tuple[int, int, int] = (205, 165, 150),
        lesion: tuple[int, int, int] | None = (110, 70, 55),
        at: tuple[float, float] = (0.5, 0.5),
        radius: float = 0.2,
        grain: float = 4.0,
        seed: int = 0,
    ) -> Pixels:
        if max(width, height) > 1200:  # drawn small and enlarged: an out-sized canvas would only cost time
            part = max(width, height) / 1000
            small = make(
                round(width / part), round(height / part),
                skin=skin, lesion=lesion, at=at, radius=radius, grain=grain, seed=seed,
            )  # fmt: skip
            return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        side = min(width, height)
        pixels = np.full((height, width, 3), skin, np.float32)
        if lesion is not None:
            disc = np.zeros((height, width), np.float32)
            centre = (
                round(width / 2 + (at[0] - 0.5) * side),
                round(height / 2 + (at[1] - 0.5) * side),
            )
            cv2.ellipse(disc, centre, (round(radius * side), round(radius * side * 0.8)), 30, 0, 360, 1.0, -1)
            disc = cv2.GaussianBlur(disc, (0, 0), side / 150)[..., None]
            pixels = pixels * (1 - disc) + np.asarray(lesion, np.float32) * disc
        # Grain as coarse as skin's own lines (about 1/40 of the side), so that it survives being scaled down.
        cells = np.random.default_rng(seed).normal(0, grain, (40, 40)).astype(np.float32)
        pixels += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def skin(make_skin: Callable[..., Pixels]) -> Pixels:
    """Skin with a lesion in the middle, uint8 [300, 400, 3]; read-only."""
    pixels = make_skin()
    pixels.flags.writeable = False
    return pixels


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Returns a function that writes pixels, or a Pillow image, as a file: encode(image, "PNG", …) → bytes."""

    def write(image: Pixels | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image)
        if kind == "JPEG":
            options.setdefault("quality", 95)
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return write
