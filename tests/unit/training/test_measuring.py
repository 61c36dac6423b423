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
def measured(monkeypatch):
    """What is measured of a test side with these samples, every other one malignant, by a stack that says so much."""

    def measured(samples, of_a_lesion=1, **content):
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
            "bands": {"low_below": 0.3, "high_from": 0.7},
        } | content
        monkeypatch.setattr(measuring, "run_networks", lambda *_given, **_named: Answers(logits, None))
        for costly in ("_turning", "_brightness", "_taken_otherwise"):
            monkeypatch.setattr(measuring, costly, lambda *_given, **_named: {})
        return measuring.measure(corpus, Path(), content, "test", print)

    return measured


@pytest.fixture
def measured_by_source(measured):
    """What is measured by source of a test side with as many images of each source."""

    def by_source(sources, images=40, of_a_lesion=1):
        samples = [Sample(f"{s}{i}", s, "", "", "") for s in sources for i in range(images)]
        return measured(samples, of_a_lesion)["by_source"]

    return by_source


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


AGE = {"scale": 1.0, "per_decade": 2.0, "intercept": 0.0, "from_years": 20, "to_years": 85}


def aged(*ages, images=40):
    """So many people of each age; of a pair of ages the first is malignant."""
    return [Sample(f"{i}", "mine", "", "", "", age=str(ages[i % len(ages)])) for i in range(images * len(ages))]


def test_where_no_age_was_fitted_none_is_measured(measured):
    for content in ({}, {"age": None}):
        assert "with_age" not in measured(aged(30, 70), **content)


def test_the_answers_with_and_without_an_age_are_of_the_same_images(measured):
    found = measured([*aged(70, 50), *aged("", "-1")], age=AGE)
    part = found["with_age"]
    assert found["stack"]["images"] == 160
    assert part["images"] == part["with"]["images"] == part["without"]["images"] == 80
    assert part["without"]["auc"] != found["stack"]["auc"]
    # The malignant are twenty years older, and a decade counts for much.
    assert part["with"]["auc"] > 0.9
    gain = part["auc_gain"]
    assert gain["auc"] == pytest.approx(part["with"]["auc"] - part["without"]["auc"])
    assert 0 < gain["auc_low"] < gain["auc"] < gain["auc_high"]
    assert sum(band["share"] for band in part["bands"].values()) == pytest.approx(1.0)
    assert part["bands"]["high"]["share_of_the_malignant"] > found["bands"]["high"]["share_of_the_malignant"]


def test_an_age_that_counts_for_nothing_changes_nothing(measured):
    part = measured(aged(30, 70), age=AGE | {"per_decade": 0.0})["with_age"]
    assert part["with"] == part["without"]
    assert part["auc_gain"] == {"auc": 0.0, "auc_low": 0.0, "auc_high": 0.0}


def test_the_young_and_the_old_are_each_measured_by_themselves(measured):
    part = measured([*aged(30, 35), *aged(62, 81), *aged(45, images=9)], age=AGE)["with_age"]
    by_age = part["by_age"]
    assert list(by_age) == ["under 40 years", "40 to 59 years", "60 years and over"]
    young, _, old = by_age.values()
    assert (young["images"], young["malignant"], young["malignant_share"]) == (80, 40, 0.5)
    for name in ("without", "with"):
        assert set(young[name]) == {"auc", "auc_low", "auc_high", "probability", "malignant_low"}
    # The young are answered lower with their age and the old higher, and so fewer of the old are called low.
    assert young["with"]["probability"] < young["without"]["probability"] < 0.6
    assert old["with"]["probability"] > old["without"]["probability"]
    assert young["with"]["malignant_low"] > young["without"]["malignant_low"]
    assert old["with"]["malignant_low"] == 0.0 < old["without"]["malignant_low"]
    # Too few in the middle: they are counted.
    assert by_age["40 to 59 years"] == {"images": 9, "malignant": 5}


def test_ages_of_too_few_lesions_are_not_measured(measured):
    many, few = aged(70, 50, images=30), aged(70, 50, images=9)
    assert "with_age" in measured(many, age=AGE)
    assert "with_age" not in measured([*few, *aged("", "")], age=AGE)


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
