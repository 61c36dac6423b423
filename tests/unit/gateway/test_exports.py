"""A finished analysis as picture, page, FHIR and table."""

from __future__ import annotations

import base64
import csv
import dataclasses
import datetime as dt
import io
import json
import re
import uuid
import zlib

import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from PIL import Image

from services.analysis.record import Analysis
from services.analysis.results import CLASSES, NETWORKS, Band, NetworkOpinion, Reason, Result
from services.analysis.states import AnalysisState
from services.gateway.attention import MAX_OPACITY, attention_png, frame_in, smooth_attention
from services.gateway.batches import CSV_COLUMNS, batch_csv
from services.gateway.fhir import fhir_bundle
from services.gateway.guidance import DISCLAIMER, guidance_for, ranked
from services.gateway.report import report_pdf
from services.preprocessor.imaging.outcomes import WHOLE_SQUARE, Frame

MOMENT = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


def result(band=Band.HIGH, attention=None):
    return Result(
        probability=0.8,
        band=band,
        networks=tuple(NetworkOpinion(name, 1, 1.0, 0.73) for name in NETWORKS),
        classes=tuple(zip(CLASSES, (0.6, 0.2, 0.1, 0.04, 0.03, 0.02, 0.01), strict=True)),
        attention=attention
        or tuple(tuple(1.0 if (row, column) == (0, 6) else 0.0 for column in range(7)) for row in range(7)),
        model_version="4",
    )


def analysis(outcome=None, state=AnalysisState.DONE, **more):
    return Analysis(
        id=uuid.UUID("0b5e7a3c-9f0e-4a55-8f4e-3f8f0d6a1c2b"),
        state=state,
        created_at=MOMENT,
        updated_at=MOMENT,
        finished_at=MOMENT,
        deliveries=1,
        force=False,
        store=True,
        turns=None,
        images_deleted_at=None,
        upload_digest=b"",
        result=outcome,
        **more,
    )


# --- attention -------------------------------------------------------------------------------------------------


def test_attention_lies_where_the_networks_looked():
    with Image.open(io.BytesIO(attention_png(result().attention))) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (224, 224))
        alpha = np.asarray(picture)[..., 3]
    assert alpha[16, 208] == pytest.approx(255 * MAX_OPACITY, abs=6)
    assert alpha[112:, :112].max() == 0


def test_attention_of_a_framed_photograph_lies_within_the_frame():
    with Image.open(io.BytesIO(attention_png(result().attention, Frame(0.25, 0.5, 0.5)))) as picture:
        alpha = np.array(picture)[..., 3]
    assert alpha[120, 160] == pytest.approx(255 * MAX_OPACITY, abs=6)
    alpha[112:168, 112:168] = 0
    assert alpha.max() == 0


def test_an_analysis_from_before_there_were_frames_has_the_whole_square():
    assert frame_in(None) == frame_in({"hair_share": 0.1}) == WHOLE_SQUARE
    assert frame_in({"frame": {"left": 0.1, "top": 0.2, "side": 0.7}}) == Frame(0.1, 0.2, 0.7)


def test_attention_is_smooth_and_stays_within_0_and_1():
    grid = tuple(tuple(float((row + column) % 2) for column in range(7)) for row in range(7))
    smooth = smooth_attention(grid)
    assert (smooth.min(), smooth.max()) == (0.0, 1.0)
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.1


# --- report ----------------------------------------------------------------------------------------------------


def picture():
    file = io.BytesIO()
    Image.effect_noise((640, 480), 40).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("photograph", [picture(), None, b"damaged"], ids=["stored", "deleted", "damaged"])
@pytest.mark.parametrize("band", list(Band))
def test_the_report_is_one_page(band, photograph):
    concerns = [{"code": "glare", "sentence": "There is glare on the skin. " * 5}] * 6
    outcome = result(band)
    pdf = report_pdf(analysis(outcome, preparation={"concerns": concerns}), outcome, photograph)
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1


def test_the_report_can_be_passed_on_without_the_permission_to_read():
    outcome = result()
    assert str(analysis().id).encode() not in report_pdf(analysis(outcome), outcome, None)


def said_in(pdf):
    """The text of the page: reportlab deflates its stream and writes it in ASCII85."""
    streams = re.findall(rb"ASCII85Decode /FlateDecode.*?stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    pages = (zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>"))) for stream in streams)
    return b"".join(page for page in pages if b" Tj" in page).decode("latin-1")


@pytest.mark.parametrize(("probability", "counted"), [(0.0004, 1), (0.34, 34), (0.9996, 99)])
def test_the_report_gives_nobody_certainty(probability, counted):
    outcome = dataclasses.replace(result(), probability=probability)
    assert f"answered with this number, about {counted} would" in said_in(report_pdf(analysis(outcome), outcome, None))


def test_the_report_says_that_the_age_counts_and_what_the_photograph_alone_gives():
    outcome = dataclasses.replace(result(), without_age=0.721)
    said = said_in(report_pdf(analysis(outcome, age_years=61), outcome, None))
    assert "The age that was told, 61, counts in it; from the photograph alone it is 72.1%." in said
    assert "age that was told" not in said_in(report_pdf(analysis(result(), age_years=61), result(), None))


# --- FHIR ------------------------------------------------------------------------------------------------------


def test_the_bundle_is_valid_fhir():
    bundle = fhir_bundle(analysis(result()), result())
    Bundle.model_validate(bundle)
    resources = [entry["resource"] for entry in bundle["entry"]]
    report = DiagnosticReport.model_validate(resources[0])
    observations = [Observation.model_validate(resource) for resource in resources[1:]]
    assert len(observations) == 1 + len(NETWORKS) + len(CLASSES)
    assert {entry["fullUrl"] for entry in bundle["entry"][1:]} == {link.reference for link in report.result}
    assert report.status == "preliminary"
    assert DISCLAIMER in report.conclusion
    assert float(observations[0].valueQuantity.value) == 0.8


def test_an_age_that_counts_is_an_observation_that_the_probability_is_derived_from():
    outcome = dataclasses.replace(result(), without_age=0.7)
    resources = [entry["resource"] for entry in fhir_bundle(analysis(outcome, age_years=61), outcome)["entry"]]
    malignancy, age = (Observation.model_validate(resource) for resource in resources[1:3])
    assert [link.reference for link in malignancy.derivedFrom] == [f"urn:uuid:{age.id}"]
    assert (age.code.coding[0].code, int(age.valueQuantity.value), age.valueQuantity.code) == ("30525-0", 61, "a")
    assert "0.7000" in age.note[0].text
    plain = fhir_bundle(analysis(result(), age_years=61), result())["entry"]
    assert "30525-0" not in json.dumps(plain), "an age that does not count is nobody's business"


def test_the_bundle_can_be_filed_without_the_permission_to_read():
    done = analysis(result())
    assert str(done.id) not in json.dumps(fhir_bundle(done, result()))


def test_the_same_analysis_gives_the_same_bundle():
    assert fhir_bundle(analysis(result()), result()) == fhir_bundle(analysis(result()), result())


# --- table -----------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_photograph():
    reason = Reason("blurred", "It is blurred.")
    table = batch_csv(
        [
            analysis(result(), batch_position=0),
            analysis(state=AnalysisState.REJECTED, reason=reason, batch_position=1),
        ]
    )
    rows = list(csv.reader(io.StringIO(table)))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert {len(row) for row in rows} == {len(CSV_COLUMNS)}
    assert rows[2][2:5] == ["rejected", "blurred", ""]


# --- words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", list(Band))
def test_no_guidance_is_a_diagnosis_or_an_all_clear(band):
    guidance = guidance_for(band)
    words = " ".join((guidance.headline, *guidance.steps)).lower()
    assert "doctor" in words or "dermatologist" in words
    for phrase in ("you have", "you are fine", "nothing to worry", "no risk", "is benign", "is safe", "healthy"):
        assert phrase not in words


def test_a_low_band_says_what_to_watch_for():
    words = " ".join(guidance_for(Band.LOW).steps)
    assert "does not mean" in words
    assert "ABCDE" in words
    assert "changes" in words


def test_diagnoses_are_ranked():
    assert [name for name, _ in ranked(result().classes)] == ["mel", "nv", "bcc", "akiec", "bkl", "df", "vasc"]
    equal = tuple((name, 1 / 7) for name in CLASSES)
    assert tuple(ranked(equal)) == equal
