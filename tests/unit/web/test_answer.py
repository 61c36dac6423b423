"""How far the networks agree, in words."""

from __future__ import annotations

import pytest
from flask import Flask

from services.analysis.results import Band
from services.gateway.web.answer import agreement, arrange
from tests.unit.web.conftest import PREPARATION


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


def test_a_frame_that_was_left_out_is_told(app: Flask, desk):
    result = desk.add_done(Band.HIGH, 0.7).result
    whole, framed = ({"frame": {"left": left, "top": 0.0, "side": 1.0 - left}} for left in (0.0, 0.2))
    with app.test_request_context():
        assert [arrange(result, noted).framed for noted in (None, whole, framed)] == [False, False, True]


def test_the_page_of_a_framed_photograph_says_so(client, desk):
    framed = desk.add_done(preparation={**PREPARATION, "frame": {"left": 0.1, "top": 0.1, "side": 0.8}})
    said = "The dark frame around the spot was left out."
    assert said in client.get(f"/analyses/{framed.id}").get_data(as_text=True)
    assert said not in client.get(f"/analyses/{desk.add_done().id}").get_data(as_text=True)
