"""What training, evaluation and the out-of-distribution score see of a photograph has the colours the service sees."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from services.preprocessor.imaging import PreparedLesion, normalise, prepare_lesion
from tests.unit.imaging.test_decode import swapped_profile
from training.corpus import Corpus
from training.datasets import open_folder, prepare_images
from training.others import other_pictures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one photograph, in the colours of a profile in which red is blue."""
    coarse = np.random.default_rng(1).integers((120, 60, 20), (220, 160, 90), (7, 7, 3)).astype(np.uint8)
    pixels = cv2.resize(coarse, (256, 240), interpolation=cv2.INTER_CUBIC)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=swapped_profile())
    (tmp_path / "data" / "nevus").mkdir(parents=True)
    (tmp_path / "data" / "nevus" / "0.png").write_bytes(file.getvalue())
    return tmp_path / "data"


@pytest.fixture
def served(root: Path) -> np.ndarray:
    """What the service makes of it."""
    lesion = prepare_lesion((root / "nevus" / "0.png").read_bytes(), force=True)
    assert isinstance(lesion, PreparedLesion)
    return lesion.tensor


def test_prepared_squares(root: Path, served: np.ndarray, tmp_path: Path) -> None:
    images = prepare_images(open_folder(root), tmp_path / "cache", workers=1)
    np.testing.assert_array_equal(images.pixels[0], served)


def test_pictures_of_anything_else(root: Path, served: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(other_pictures(root, tmp_path / "cache")[0], served)


def test_photographs_that_are_changed_before_they_are_prepared(root: Path, served: np.ndarray, tmp_path: Path) -> None:
    folder, one = open_folder(root), np.zeros(1, int)
    images = prepare_images(folder, tmp_path / "cache", workers=1)
    corpus = Corpus(folder, folder.samples, images, one, one, np.ones((1, 7)), {}, tmp_path / "cache")
    ((_, photograph),) = corpus.photographs(one)
    # The profile is applied before the picture is shrunk here, and after that in the service.
    assert np.abs(normalise(photograph).tensor.astype(int) - served).mean() < 1.5
