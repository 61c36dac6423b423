"""The report for a doctor speaks the language of whoever asked for it, on one page, within its margins."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth

from services.analysis.results import Band
from services.gateway.report import report_pdf
from services.gateway.report_words import english_words
from services.gateway.web.languages import LANGUAGES
from services.gateway.web.report_words import words_of_report
from services.gateway.web.wording import REFUSALS
from tests.unit.web.conftest import PREPARATION

TRANSLATED = sorted(set(LANGUAGES) - {"en"})
#: All that the preprocessor can find at once.
CONCERNS = [{"code": code, "sentence": "x"} for code in ("glare", "no_lesion_found", "off_centre", "cut_off")]


def words_in(app, language, analysis):
    with app.test_request_context("/", headers={"Accept-Language": language}):
        return words_of_report(analysis, analysis.result)


def sentences(words):
    """Everything said, by name of the field."""
    said = {name: value for name, value in dataclasses.asdict(words).items() if isinstance(value, str)}
    said |= {f"step {place}": step for place, step in enumerate(words.steps)}
    return said | {f"class {name}": label for name, label in words.class_names.items()}


def counting_age(analysis):
    return dataclasses.replace(analysis, result=dataclasses.replace(analysis.result, without_age=0.0003))


def test_english_stays_as_the_api_words_it(app, desk):
    analysis = desk.add_done()
    assert sentences(words_in(app, "en", analysis)) == sentences(english_words(analysis, analysis.result))


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize("language", TRANSLATED)
def test_no_english_is_left_in_another_language(app, desk, language, band):
    analysis = counting_age(desk.add_done(band, preparation={**PREPARATION, "concerns": CONCERNS}, age_years=61))
    there, english = sentences(words_in(app, language, analysis)), sentences(words_in(app, "en", analysis))
    assert {name for name in there if there[name] == english.get(name)} <= {"class df"}
    assert not [text for text in there.values() if re.search(r"\b(the|of|and|photograph|not)\b", text)]
    with app.test_request_context("/", headers={"Accept-Language": language}):
        wanted = tuple(f"{REFUSALS[entry['code']].heading}. {REFUSALS[entry['code']].advice}" for entry in CONCERNS)
    assert words_in(app, language, analysis).concerns == wanted


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_everything_fits_one_page_and_its_margins(app, desk, language, band):
    done = desk.add_done(band, 0.0004, preparation={**PREPARATION, "concerns": CONCERNS}, age_years=61)
    analysis = counting_age(done)
    with app.test_request_context("/", headers={"Accept-Language": language}):
        words = words_of_report(analysis, analysis.result)
        photo = io.BytesIO()
        Image.new("RGB", (400, 300), (200, 160, 140)).save(photo, "JPEG")
        pdf = report_pdf(analysis, analysis.result, photo.getvalue(), words)
        percent = words.percent(0.123)
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    assert pdf.count(b"/Subtype /Image") == 2
    width = A4[0] - 2 * 18 * mm
    for text, font, size, room in (
        (words.title, "Helvetica-Bold", 15, width),
        (words.band, "Helvetica-Bold", 18, width),
        (f"{words.probability}: {percent}", "Helvetica-Bold", 11, width),
        (words.meaning, "Helvetica", 8, width),
        (words.photograph_gone, "Helvetica", 9, 80 * mm - 12),
        (words.photograph_caption, "Helvetica", 8, 84 * mm),
        (words.attention_caption, "Helvetica", 8, 84 * mm),
        (words.networks, "Helvetica-Bold", 9, 78 * mm),
        *((f"{name} *", "Helvetica", 8.5, width - 82 * mm - 40) for name in words.class_names.values()),
    ):
        assert stringWidth(text, font, size) <= room, text
        text.encode("cp1252")  # what the fonts that every reader has can show
    percent.encode("cp1252")


@pytest.mark.parametrize(("language", "least", "most"), [("en", "< 0.1%", "> 99.9%"), ("de", "< 0,1", "> 99,9")])
def test_no_share_is_rounded_to_a_certainty(app, desk, language, least, most):
    with app.test_request_context("/", headers={"Accept-Language": language}):
        analysis = desk.add_done()
        percent = words_of_report(analysis, analysis.result).percent
        assert percent(0.0001).startswith(least)
        assert percent(0.9999).startswith(most)
