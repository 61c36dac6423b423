"""What a source's words mean."""

import pytest

from training.vocabulary import CLASSES, MALIGNANT, SPELLINGS, Verdict, interpret


@pytest.mark.parametrize(
    ("spelling", "label", "diagnosis"),
    [
        ("nv", "benign", "nv"),
        ("Nevus", "benign", "nv"),
        ("NEV", "benign", "nv"),
        ("SCC", "malignant", "akiec"),
        ("squamous cell carcinoma", "malignant", "akiec"),
        ("ACK", "malignant", "akiec"),
        ("SEK", "benign", "bkl"),
        ("lentigo NOS", "benign", "bkl"),
        ("pigmented benign keratosis", "benign", "bkl"),
        (" melanoma ", "malignant", "mel"),
        ("BCC", "", "bcc"),
    ],
)
def test_spellings_of_all_sources_become_one_class(spelling, label, diagnosis):
    assert interpret(spelling, label).diagnosis == diagnosis


def test_every_spelling_leads_to_a_known_class_or_a_reason():
    for term in SPELLINGS.values():
        assert term.diagnosis in CLASSES or term.reason or term.verdict is Verdict.BENIGN_UNKNOWN


def test_benign_without_a_diagnosis_permits_every_benign_class_and_no_other():
    allowed = dict(zip(CLASSES, interpret("unknown", "benign").allowed, strict=True))
    assert {name for name, permitted in allowed.items() if permitted} == set(CLASSES) - MALIGNANT


@pytest.mark.parametrize(
    ("spelling", "label"),
    [
        ("melanoma", "unknown"),
        ("melanoma", "benign"),
        ("nevus", "malignant"),
        ("unknown", "malignant"),
        ("", ""),
        ("wart", "benign"),
    ],
)
def test_contradictions_and_unknown_words_are_left_out_with_a_reason(spelling, label):
    term = interpret(spelling, label)
    assert term.verdict is Verdict.EXCLUDED
    assert term.reason
    assert not any(term.allowed)
