"""The forms: upload, use anyway, feedback and deletion without JavaScript, and who may send them."""

from __future__ import annotations

import io
import json
import re

import pytest

from services.analysis.errors import DoorbellUnavailableError
from services.analysis.states import AnalysisState
from services.gateway.errors import UnsupportedImageError
from services.gateway.web.form_token import TOKEN_FIELD
from tests.unit.web.conftest import MOMENT, STACK


def token(client) -> str:
    """The token that the start page hands out; its cookie stays in the client."""
    html = client.get("/").get_data(as_text=True)
    return re.search(r'name="form_token" value="([^"]+)"', html).group(1)


def upload(client, *photos: bytes, **fields):
    files = [(io.BytesIO(photo), "photo.jpg") for photo in photos]
    data = {TOKEN_FIELD: token(client), "image": files or [(io.BytesIO(b""), "")], **fields}
    return client.post("/", data=data, headers={"Accept": "text/html"})


def only(desk):
    (analysis,) = desk.analyses.values()
    return analysis


def test_a_form_sends_a_photo_and_leads_to_its_answer(client, desk):
    response = upload(client, b"photo")
    assert response.status_code == 303
    assert response.location == f"/analyses/{only(desk).id}"
    assert desk.photographs[only(desk).id] == b"photo"
    assert only(desk).store
    assert not only(desk).force


def test_the_wish_not_to_store_is_passed_on(client, desk):
    upload(client, b"photo", do_not_store="1")
    assert not only(desk).store


@pytest.mark.parametrize(("told", "kept"), [("61", 61), ("", None)])
def test_the_age_is_passed_on(client, desk, told, kept):
    upload(client, b"photo", age=told)
    assert only(desk).age_years == kept


def test_what_is_no_age_is_said_beside_the_form_and_stays_in_it(client, desk, read):
    response = upload(client, b"photo", age="4½", do_not_store="1", force="1")
    assert response.status_code == 400
    page = read(response)
    assert "That is no age." in page.words
    fields = {field["name"]: field for field in page.all("input") if field.get("name") not in {None, "image"}}
    assert (fields["age"]["value"], fields["age"]["aria-invalid"]) == ("4½", "true")
    assert fields["age"]["aria-describedby"] in page.ids
    assert "checked" in fields["do_not_store"], "a wish not to store is not forgotten over an age"
    assert "checked" in fields["force"]
    assert not desk.analyses


def test_nobody_is_asked_for_an_age_that_would_not_count(client, desk, read):
    asked = [field for field in read(client.get("/")).all("input") if field.get("name") == "age"]
    assert [(field["min"], field["max"]) for field in asked] == [("0", "120")]
    (desk.settings.models_dir / "stack.json").write_text(json.dumps({**STACK, "age": None}))
    assert not [field for field in read(client.get("/")).all("input") if field.get("name") == "age"]


@pytest.mark.parametrize(
    ("photos", "sentence"), [((), "No photo was chosen."), ((b"one", b"two"), "One photo at a time.")]
)
def test_a_form_with_another_number_of_photos_says_so(client, desk, read, photos, sentence):
    response = upload(client, *photos)
    assert response.status_code == 400
    assert sentence in read(response).words
    assert not desk.analyses


def test_a_refused_file_is_explained_beside_the_form(client, desk, read):
    desk.refuse_with = UnsupportedImageError("…", "not_an_image")
    response = upload(client, b"%PDF-1.7")
    assert response.status_code == 415
    assert "This file is not a photo." in read(response).words
    assert read(response).all("form")


def test_an_overloaded_service_is_explained_beside_the_form(client, desk, read):
    desk.refuse_with = DoorbellUnavailableError()
    response = upload(client, b"photo")
    assert response.status_code == 503
    assert "We cannot take photos right now." in read(response).words
    assert "Nothing was stored" not in read(response).words, "a database that falls silent may have taken it"


def test_a_photo_above_the_limit_is_refused_as_a_page(client, desk, read):
    announced = {"CONTENT_LENGTH": str(desk.settings.max_upload_bytes + 100_000)}
    response = client.post("/", data=b"", headers={"Accept": "text/html"}, environ_overrides=announced)
    assert response.status_code == 413
    assert "The photo is too large" in read(response).words


FORMS = ("/", "/analyses/{id}/delete", "/analyses/{id}/feedback", "/analyses/{id}/use-anyway")


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_our_token_changes_nothing(client, desk, path):
    analysis = desk.add_rejected()
    desk.photographs[analysis.id] = b"photo"
    response = client.post(path.format(id=analysis.id), data={"image": (io.BytesIO(b"x"), "x.jpg")})
    assert response.status_code == 403
    assert list(desk.analyses.values()) == [analysis]
    assert not desk.feedback


def test_a_token_of_somebody_else_is_refused(client, app, desk):
    foreign = token(app.test_client())
    token(client)
    response = client.post("/", data={TOKEN_FIELD: foreign, "image": (io.BytesIO(b"x"), "x.jpg")})
    assert response.status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_sent_by_another_site_is_refused_even_with_a_planted_token(client, desk, site):
    data = {TOKEN_FIELD: token(client), "image": (io.BytesIO(b"x"), "x.jpg")}
    assert client.post("/", data=data, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert not desk.analyses


def test_the_token_cookie_is_out_of_reach_of_scripts_and_other_sites(client):
    (cookie,) = client.get("/").headers.getlist("Set-Cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_the_token_lasts_a_day_from_the_last_page_with_a_form(client):
    first, again = (client.get("/").headers.getlist("Set-Cookie") for _ in range(2))
    assert len(first) == 1
    assert "Max-Age=86400" in first[0]
    # The same value: forms in other tabs hold it.
    assert again[0].split(";")[0] == first[0].split(";")[0]
    assert "Max-Age=86400" in again[0]


def test_pages_without_a_form_set_no_cookie(client):
    for path in ("/history", "/about", "/privacy"):
        assert "Set-Cookie" not in client.get(path).headers


def test_use_it_anyway_sends_the_same_photo_with_force(client, desk):
    refused = desk.add_rejected("too_dark", age_years=61)
    desk.photographs[refused.id] = b"dark photo"
    response = client.post(f"/analyses/{refused.id}/use-anyway", data={TOKEN_FIELD: token(client)})
    (again,) = (analysis for analysis in desk.analyses.values() if analysis.id != refused.id)
    assert response.location == f"/analyses/{again.id}?instead={refused.id}"
    assert again.force
    assert again.age_years == 61
    assert desk.photographs[again.id] == b"dark photo"


def test_use_it_anyway_asks_for_a_photo_that_is_gone(client, desk):
    refused = desk.add_rejected("too_dark")
    response = client.post(f"/analyses/{refused.id}/use-anyway", data={TOKEN_FIELD: token(client)})
    assert response.location == "/?force=1"


def test_deleting_deletes(client, desk, read):
    analysis = desk.add_done()
    response = client.post(f"/analyses/{analysis.id}/delete", data={TOKEN_FIELD: token(client)}, follow_redirects=True)
    assert "It is deleted" in read(response).words
    assert desk.analyses[analysis.id].state is AnalysisState.DELETED


def test_feedback_is_stored_thanked_for_and_withdrawn(client, desk, read):
    analysis = desk.add_done()
    given = client.post(
        f"/analyses/{analysis.id}/feedback",
        data={TOKEN_FIELD: token(client), "diagnosis": "bcc", "source": "biopsy", "consent": "1"},
    )
    (feedback,) = desk.feedback.values()
    assert (feedback.diagnosis, feedback.source, feedback.consent) == ("bcc", "biopsy", True)
    thanks = read(client.get(given.location))
    assert "Your feedback was stored." in thanks.words
    assert "Send feedback" not in thanks.words
    (withdrawal,) = (form["action"] for form in thanks.all("form") if form.get("action", "").endswith("/withdraw"))
    withdrawn = client.post(withdrawal, data={TOKEN_FIELD: token(client)}, follow_redirects=True)
    assert "were withdrawn" in read(withdrawn).words
    assert not desk.feedback


def test_feedback_can_be_withdrawn_weeks_later_from_the_bare_address(client, desk, read):
    """Nobody keeps the address that the form led to."""
    analysis = desk.add_done()
    fields = {TOKEN_FIELD: token(client), "diagnosis": "other", "source": "clinician", "consent": "1"}
    client.post(f"/analyses/{analysis.id}/feedback", data=fields)
    page = read(client.get(f"/analyses/{analysis.id}"))
    assert "You told us: Something else · a doctor who looked at it" in page.words
    assert "The photo is kept as long as this answer" in page.words
    assert [form["action"] for form in page.all("form") if form.get("action", "").endswith("/withdraw")]
    assert "Your feedback was stored." not in page.words


def test_a_photo_that_is_gone_is_not_asked_for_training(client, desk, read):
    analysis = desk.add_done(images_deleted_at=MOMENT)
    page = read(client.get(f"/analyses/{analysis.id}"))
    assert "Send feedback" in page.words
    assert not [field for field in page.all("input") if field.get("name") == "consent"]


@pytest.mark.parametrize(
    "fields", [{}, {"diagnosis": "measles", "source": "biopsy"}, {"diagnosis": "mel", "source": "x"}]
)
def test_feedback_that_says_nothing_known_is_not_stored(client, desk, fields):
    analysis = desk.add_done()
    client.post(f"/analyses/{analysis.id}/feedback", data={TOKEN_FIELD: token(client), **fields})
    assert not desk.feedback


def test_consent_is_not_assumed(client, desk):
    analysis = desk.add_done()
    fields = {TOKEN_FIELD: token(client), "diagnosis": "nv", "source": "clinician"}
    client.post(f"/analyses/{analysis.id}/feedback", data=fields)
    (feedback,) = desk.feedback.values()
    assert not feedback.consent


def test_an_analysis_under_way_can_be_cancelled_from_its_page(client, desk, read):
    running = desk.add(AnalysisState.PREPARING)
    page = client.get(f"/analyses/{running.id}")
    assert f"/analyses/{running.id}/cancel" in [form["action"] for form in read(page).all("form")]
    answer = client.post(f"/analyses/{running.id}/cancel", data={TOKEN_FIELD: token(client)})
    assert (answer.status_code, answer.location) == (303, f"/analyses/{running.id}")
    words = read(client.get(answer.location)).words
    assert "This check was cancelled" in words
    assert "This says nothing about the spot." in words


def test_what_has_ended_meanwhile_is_shown_as_it_is(client, desk):
    done = desk.add_done()
    answer = client.post(f"/analyses/{done.id}/cancel", data={TOKEN_FIELD: token(client)})
    assert (answer.status_code, answer.location) == (303, f"/analyses/{done.id}")
    assert desk.find(done.id).state is AnalysisState.DONE


def test_only_the_own_form_cancels(client, desk):
    running = desk.add(AnalysisState.QUEUED)
    assert client.post(f"/analyses/{running.id}/cancel").status_code == 403
    assert desk.find(running.id).state is AnalysisState.QUEUED
