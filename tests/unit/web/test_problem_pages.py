"""Errors: pages for people, problem+json for programs."""

from __future__ import annotations

import uuid

import pytest

from services.analysis.errors import DatabaseUnavailableError
from services.analysis.states import AnalysisState

PEOPLE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/nothing", 404, "There is nothing here"),
        (f"/analyses/{uuid.UUID(int=0)}", 404, "There is nothing here"),
        ("/analyses/{deleted}", 410, "This answer was deleted"),
        ("/analyses/not-an-id", 404, "There is nothing here"),
    ],
)
def test_people_get_a_page_with_the_same_status(client, desk, read, *, path, status, sentence):
    response = client.get(path.format(deleted=desk.add(AnalysisState.DELETED).id), headers=PEOPLE)
    assert response.status_code == status
    assert response.mimetype == "text/html"
    assert sentence in read(response).words


def test_an_unavailable_database_is_a_page_that_says_when_to_come_back(client, desk, read, monkeypatch):
    def unavailable(_id):
        raise DatabaseUnavailableError

    monkeypatch.setattr(desk, "find", unavailable)
    response = client.get(f"/analyses/{uuid.uuid4()}", headers=PEOPLE)
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert "do not wait for us: see a doctor" in read(response).words


@pytest.mark.parametrize("path", ["/analyses/{id}", "/analyses/{id}/delete"])
def test_nobody_is_told_that_a_photo_is_not_here_when_it_may_be(client, desk, read, monkeypatch, path):
    analysis = desk.add_done()
    method = client.post if path.endswith("delete") else client.get
    expired = method(path.format(id=analysis.id), headers=PEOPLE)

    def unavailable(*_ids):
        raise DatabaseUnavailableError

    monkeypatch.setattr(desk, "find", unavailable)
    away = method(path.format(id=analysis.id), headers=PEOPLE)
    for answer in (expired, away):
        assert "Nothing was stored" not in read(answer).words


def test_a_form_whose_address_is_opened_once_more_is_no_fault_of_ours(client, desk, read):
    response = client.get(f"/analyses/{desk.add_rejected().id}/use-anyway", headers=PEOPLE)
    assert response.status_code == 405
    assert "go back to the page before" in read(response).words


def test_a_fault_of_ours_is_a_page_without_its_cause(client, desk, read, monkeypatch):
    def broken(_id):
        raise RuntimeError("secret cause")

    monkeypatch.setattr(desk, "find", broken)
    response = client.get(f"/analyses/{uuid.uuid4()}", headers=PEOPLE)
    assert response.status_code == 500
    assert "No answer this time" in read(response).words
    assert "secret" not in response.get_data(as_text=True)


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/problem+json"])
def test_programs_get_problem_json_from_pages(client, accept):
    assert client.get("/nothing", headers={"Accept": accept}).mimetype == "application/problem+json"


def test_the_api_answers_browsers_as_it_answers_programs(client):
    assert client.get("/v1/nothing", headers=PEOPLE).mimetype == "application/problem+json"
