"""How far the networks agree, in words."""

from __future__ import annotations

import pytest
from flask import Flask

from services.analysis.results import Band
from services.gateway.web.answer import agreement, arrange


@pytest.mark.parametrize(
    ("probabilities", "word"),
    [
        ([0.1, 0.1, 0.12, 0.2], "agree with each other"),
        ([0.1, 0.3, 0.2, 0.5], "only in part"),
        ([0.05, 0.9, 0.5, 0.4], "contradict"),
    ],
)
def test_agreement_follows_the_distance_of_the_extremes(app: Flask, probabilities, word):
    with app.test_request_context():
        assert word in str(agreement(probabilities))


def test_an_answer_without_a_record_of_its_preparation_is_whole(app: Flask, desk):
    with app.test_request_context():
        answer = arrange(desk.add_done(Band.HIGH, 0.7).result, None)
        assert answer.of_hundred == 70
        assert answer.hair_share is None
        assert answer.concerns == ()
        assert sum(likeness.probability for likeness in answer.likenesses) == pytest.approx(1)
