"""Whose images are measured by themselves, and what turning a photograph changes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from services.preprocessor.imaging import normalise
from services.stacker.turns import Turn, turned
from training import measuring
from training.answers import Answers
from training.samples import Sample
from training.stacking import stack_from
from training.vocabulary import CLASSES


@pytest.fixture
def measured_by_source(monkeypatch):
    """What is measured by source of a test side with as many images of each source, every other one malignant."""

    def measured(sources, images=40, of_a_lesion=1):
        samples = [Sample(f"{s}{i}", s, "", "", "") for s in sources for i in range(images)]
        count = len(samples)
        malignant = np.arange(count) % 2 == 0
        logits = np.random.default_rng(0).normal(0, 1, (1, 4, count, 7))
        corpus = SimpleNamespace(
            samples=samples,
            positions=lambda _side: np.arange(count),
            malignant=malignant,
            allowed=np.eye(7)[np.where(malignant, 0, 1)],
            groups=np.arange(count) // of_a_lesion,
            images=SimpleNamespace(pixels=None),
            cache=None,
        )
        content = {
            "networks": [{"name": name, "version": 1} for name in "abcd"],
            "test_time_augmentation": 1,
            "malignant": {"coefficients": [0.2] * 4, "intercept": 0.0},
            "classes": {"coefficients": np.zeros((7, 28)).tolist(), "intercepts": [0.0] * len(CLASSES)},
            "bands": {"low_below": 0.1, "high_from": 0.9},
        }
        monkeypatch.setattr(measuring, "run_networks", lambda *_given, **_named: Answers(logits, None))
        for costly in ("_turning", "_brightness", "_another_camera"):
            monkeypatch.setattr(measuring, costly, lambda *_given, **_named: {})
        return measuring.measure(corpus, Path(), content, "test", print)["by_source"]

    return measured


def test_photographs_of_one_s_own_and_of_phones_are_not_called_dermoscopy(measured_by_source):
    found = measured_by_source(["ham10000", "isic2017", "pad_ufes_20", "mine"])
    assert {name: part["images"] for name, part in found.items()} == {
        "ham10000": 40,
        "isic2017": 40,
        "pad_ufes_20": 40,
        "mine": 40,
        "dermoscopy": 80,
    }


def test_many_images_of_few_lesions_are_counted_and_not_measured_by_themselves(measured_by_source):
    assert "auc" in measured_by_source(["mine"], images=40, of_a_lesion=2)["mine"]
    assert measured_by_source(["mine"], images=40, of_a_lesion=8) == {"mine": {"images": 40, "malignant": 20}}


def test_the_few_of_a_kind_are_among_those_that_are_looked_at():
    positions, malignant = np.arange(100, 120), np.arange(20) == 3
    assert list(measuring._some(positions, malignant, 4)) == [100, 103, 105, 110, 115]
    assert list(measuring._some(positions, np.arange(20) % 2 == 0, 4)) == [100, 105, 110, 115]


@pytest.fixture
def turning(monkeypatch):
    """What turning changes for networks that look at one corner of a picture, from a start that is given."""
    rng = np.random.default_rng(5)
    photographs = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((28, 28, 1))).astype(np.uint8) for _ in range(12)]

    def by_the_corner(_folders, pixels, positions, *, turns, **_named):
        pictures = [pixels[i] for i in positions]
        most = turns if isinstance(turns, int) else max(turns)
        views = np.array([turned(picture, most, measuring.pose_of(picture)) for picture in pictures])
        corner = views[:, :, :14, :14].mean(axis=(2, 3, 4)).T
        logits = np.zeros((most, 4, len(pictures), len(CLASSES)))
        logits[..., 0] = (corner[:, None] - 128) / 8
        return Answers(logits, None)

    monkeypatch.setattr(measuring, "run_networks", by_the_corner)
    coefficients = {"malignant": {"coefficients": [0.25] * 4, "intercept": 0.0}}
    classes = {"coefficients": np.zeros((7, 28)).tolist(), "intercepts": [0.0] * len(CLASSES)}
    bands = {"low_below": 0.1, "high_from": 0.9}
    corpus = SimpleNamespace(
        photographs=lambda some: ((int(i), photographs[i]) for i in some),
        images=SimpleNamespace(pixels=np.stack([normalise(rgb).tensor for rgb in photographs])),
        malignant=np.arange(len(photographs)) % 2 == 0,
        cache=None,
    )
    stack = stack_from({**coefficients, "classes": classes, "bands": bands})
    return lambda: measuring._turning(corpus, [], stack, np.arange(len(photographs)), print, turns=[2, 1, 1, 1])


def test_in_its_pose_a_turned_photograph_is_answered_as_it_was(turning):
    found = turning()
    assert found["images"] == 12
    assert found["flips_at_half"] == found["flips_at_half_one_look"] == 0.0
    assert found["flips_at_half_one_look_as_it_lies"] == 1.0


def test_what_no_pose_takes_away_is_measured(turning, monkeypatch):
    """The measure turns the photograph itself: networks that look the way it lies are found out."""
    monkeypatch.setattr(measuring, "pose_of", lambda _picture: Turn(0, mirrored=False))
    assert turning()["flips_at_half_one_look"] == 1.0
