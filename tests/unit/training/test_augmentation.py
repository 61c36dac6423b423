"""Augmentation varies what it says, and nothing when it is switched off."""

from dataclasses import fields

import numpy as np
import pytest

from training.augmentation import Augmentation, augment, resize

OFF = Augmentation(**{f.name: False for f in fields(Augmentation)})


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def test_with_everything_off_the_picture_stays_itself(picture):
    result = augment(picture, 224, np.random.default_rng(1), OFF)
    assert np.abs(result.astype(int) - picture).max() <= 1


def test_turns_alone_give_exactly_the_eight_turns(picture):
    flags = Augmentation(**{f.name: f.name == "turns" for f in fields(Augmentation)})
    turned = [np.rot90(p, k) for p in (picture, picture[:, ::-1]) for k in range(4)]
    seen = set()
    for seed in range(60):
        result = augment(picture, 224, np.random.default_rng(seed), flags).astype(int)
        matches = [i for i, t in enumerate(turned) if np.abs(result - t).max() <= 1]
        assert len(matches) == 1
        seen.update(matches)
    assert seen == set(range(8))


@pytest.mark.parametrize("name", [f.name for f in fields(Augmentation)])
def test_every_part_changes_some_pictures(picture, name):
    flags = Augmentation(**{f.name: f.name == name for f in fields(Augmentation)})
    results = [augment(picture, 224, np.random.default_rng(seed), flags) for seed in range(60)]
    assert any(np.abs(r.astype(int) - picture).max() > 5 for r in results)


def test_the_result_has_the_size_asked_for_and_depends_on_the_seed_alone(picture):
    first, again = (augment(picture, 96, np.random.default_rng(5), Augmentation()) for _ in range(2))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()


def test_resize_keeps_the_whole_square(picture):
    assert resize(picture, 224) is picture
    assert resize(np.full((224, 224, 3), 7, np.uint8), 160).shape == (160, 160, 3)
