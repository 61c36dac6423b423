"""Whose images are measured by themselves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from training import measuring
from training.answers import Answers
from training.samples import Sample
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


def test_many_images_of_few_lesions_are_not_measured_by_themselves(measured_by_source):
    assert "mine" in measured_by_source(["mine"], images=40, of_a_lesion=2)
    assert measured_by_source(["mine"], images=40, of_a_lesion=8) == {}
