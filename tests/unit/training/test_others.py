"""Pictures of anything but lesions, as the out-of-distribution score learns them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from services.preprocessor.imaging import normalise
from training import others
from training.others import NoOtherPicturesError, other_pictures


def picture(path: Path, width: int, height: int, seed: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image[..., ::-1])
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "others"


def test_a_picture_is_prepared_as_an_upload_is(root: Path, tmp_path: Path) -> None:
    image = picture(root / "deep" / "wall.png", 130, 120, 1)
    (square,) = other_pictures(root, tmp_path / "cache")
    assert (square == normalise(image).tensor).all()


def test_parts_of_a_large_picture_are_pictures_too(root: Path, tmp_path: Path) -> None:
    picture(root / "landscape.png", 900, 720, 2)
    squares = other_pictures(root, tmp_path / "cache")
    assert squares.shape == (3, 224, 224, 3)
    assert len({square.tobytes() for square in squares}) == 3


def test_no_folder_outweighs_the_rest_and_what_is_no_picture_is_left_out(root: Path, tmp_path: Path) -> None:
    for number in range(45):
        picture(root / "textures" / f"{number}.png", 110, 110, number)
    (root / "broken.png").write_bytes(b"x" * 9000)
    picture(root / "tiny.png", 60, 60, 3)
    assert len(other_pictures(root, tmp_path / "cache")) == 40
    assert len(other_pictures(root, tmp_path / "cache", most=7)) == 7


def test_a_folder_without_a_picture_that_could_be_used_is_told_in_words(root: Path, tmp_path: Path) -> None:
    picture(root / "tiny.png", 60, 60, 3)
    (root / "broken.png").write_bytes(b"x" * 9000)
    for _again in range(2):
        with pytest.raises(NoOtherPicturesError, match="no picture that could be used"):
            other_pictures(root, tmp_path / "cache")


def test_a_second_look_reads_the_cache(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(root / "wall.png", 130, 120, 1)
    first = np.array(other_pictures(root, tmp_path / "cache"))
    monkeypatch.delattr(others, "_squares")
    assert (other_pictures(root, tmp_path / "cache") == first).all()


def test_another_folder_s_picture_of_the_same_name_is_another_picture(root: Path, tmp_path: Path) -> None:
    picture(root / "wall.png", 130, 120, 1)
    image = picture(tmp_path / "more" / "wall.png", 130, 120, 2)
    other_pictures(root, tmp_path / "cache")
    (square,) = other_pictures(tmp_path / "more", tmp_path / "cache")
    assert (square == normalise(image).tensor).all()
