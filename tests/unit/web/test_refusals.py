"""Refused photographs: a reason, how to do better, and a way past it only where that makes sense."""

from __future__ import annotations

import pytest

from services.gateway.web.analysis_page import SOFT_REASONS
from services.gateway.web.wording import REFUSALS
from services.preprocessor.imaging import Rejection, decode, header, quality
from services.stacker.look import NOT_A_LESION

KNOWN = {
    value.code: value.soft
    for module in (decode, header, quality)
    for value in vars(module).values()
    if isinstance(value, Rejection)
}


def test_every_reason_of_the_preprocessor_and_the_stacker_is_explained():
    assert len(KNOWN) > 10
    assert {*KNOWN, NOT_A_LESION.code} <= set(REFUSALS)


def test_soft_reasons_are_those_of_the_preprocessor_and_what_the_networks_do_not_know():
    assert {code for code, soft in KNOWN.items() if soft} | {NOT_A_LESION.code} == SOFT_REASONS


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refusal_says_what_is_wrong_and_how_to_retake_it(client, desk, read, code):
    page = read(client.get(f"/analyses/{desk.add_rejected(code).id}"))
    assert str(REFUSALS[code].heading) in page.words
    assert str(REFUSALS[code].advice) in page.words
    assert "This says nothing about the spot itself." in page.words
    assert ("Use it anyway" in page.words) == (code in SOFT_REASONS)


def test_a_reason_newer_than_the_page_is_told_in_the_record_s_own_words(client, desk, read):
    words = read(client.get(f"/analyses/{desk.add_rejected('new_reason').id}")).words
    assert "A sentence from the record." in words


def test_a_soft_refusal_of_a_photo_that_was_not_stored_asks_for_it_again(client, desk, read):
    page = read(client.get(f"/analyses/{desk.add_rejected('too_dark', store=False).id}"))
    assert "/?force=1" in [values.get("href") for values in page.all("a")]
