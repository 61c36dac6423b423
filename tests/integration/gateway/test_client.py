"""`lesionlens.Client` and `lesionlens submit` against a gateway behind a real socket."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from lesionlens import Client
from lesionlens.cli import main
from lesionlens.client import (
    BusyError,
    GoneError,
    NoAnswerError,
    NotFinishedError,
    NotFoundError,
    RefusedError,
    UnexpectedAnswerError,
    transport,
)
from lesionlens.outcomes import COLUMNS
from lesionlens.submit import Errand
from services.analysis.record import AnalysisRecord
from services.analysis.results import CLASSES
from services.analysis.states import AnalysisState
from tests.integration.gateway.conftest import BLURRED, RESULT, photograph
from tests.integration.gateway.service import served


@pytest.fixture
def service(app):
    with served(app) as service:
        yield service


@pytest.fixture
def pauses(monkeypatch):
    """What the service asked for before each further try; nobody really waits."""
    asked = []

    def no_pause(tried, wanted_s=None):
        asked.append(wanted_s)
        return 0

    monkeypatch.setattr(transport, "backoff_s", no_pause)
    return asked


@pytest.fixture
def client(service):
    with Client(service.url) as client:
        yield client


@pytest.fixture
def analyses_kept(engine):
    return lambda: len(AnalysisRecord(engine).results_past_retention(-1, 100))


def test_a_photograph_is_sent_and_answered_for(service, client, workers, tmp_path):
    service.accepted = workers.finish
    path = tmp_path / "Jane Doe.jpg"
    path.write_bytes(photograph())

    analysis = client.classify(path)

    assert analysis.state is AnalysisState.DONE
    assert analysis.result.probability == RESULT.probability
    assert analysis.result.band is RESULT.band
    assert analysis.result.networks == RESULT.networks
    assert analysis.result.classes == RESULT.classes
    assert analysis.result.attention == RESULT.attention
    assert analysis.result.guidance.steps
    assert analysis.result.concerns[0].code == "glare"
    assert analysis.result.source_size == (320, 240)
    assert analysis.result.frame == (0.1, 0.2, 0.5)
    assert "not" in analysis.result.disclaimer
    assert analysis.reason is None


def test_it_may_be_bytes_with_options(client):
    analysis = client.submit(photograph(), force=True, store=False, turns=4)
    assert (analysis.state, analysis.force, analysis.store, analysis.turns) == (AnalysisState.QUEUED, True, False, 4)
    assert client.get(analysis.id) == client.get(str(analysis.id))


def test_a_rejected_photograph_is_an_outcome(service, client, workers):
    service.accepted = workers.reject
    analysis = client.classify(photograph())
    assert (analysis.state, analysis.reason, analysis.result) == (AnalysisState.REJECTED, BLURRED, None)


def test_waiting_is_a_long_poll(service, client, workers):
    analysis = client.submit(photograph())
    workers.finish(analysis.id)
    assert client.wait(analysis.id, timeout_s=20).state is AnalysisState.DONE
    assert service.seen[-1][2]["HTTP_PREFER"] in {"wait=20", "wait=19"}
    assert sum(method == "GET" for method, _, _ in service.seen) == 1


def test_an_unfinished_analysis_is_cancelled_and_an_explanation_is_asked_for(client):
    analysis = client.submit(photograph(), explain=True)
    assert client.get(analysis.id).links["cancel"]
    cancelled = client.cancel(analysis.id)
    assert (cancelled.state, cancelled.reason.code) == (AnalysisState.FAILED, "cancelled")


def test_the_age_is_sent_and_what_it_changed_is_told(service, client, workers):
    service.accepted = lambda analysis_id: workers.finish(analysis_id, replace(RESULT, without_age=0.125))
    analysis = client.classify(photograph(), age_years=61)
    assert (analysis.age_years, analysis.result.without_age) == (61, 0.125)
    batch = client.batch([photograph(), photograph(seed=2)], age_years=30)
    assert [analysis.age_years for analysis in batch.analyses] == [30, 30]


def test_submit_sends_the_age_of_the_person_in_all_of_the_files(service, client, workers, tmp_path, engine):
    service.accepted = workers.finish
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(photograph(seed=number))
    errand = Errand(client, force=False, store=True, turns=None, age_years=61, timeout_s=20)
    assert [outcome.state for outcome in errand.run(sorted(tmp_path.glob("*.jpg")))] == [AnalysisState.DONE] * 2
    record = AnalysisRecord(engine)
    assert [record.find(kept).age_years for kept in record.results_past_retention(-1, 100)] == [61, 61]


def test_waiting_ends_when_its_time_is_over(client):
    analysis = client.submit(photograph())
    with pytest.raises(NotFinishedError) as raised:
        client.wait(analysis.id, timeout_s=0)
    assert raised.value.last.state is AnalysisState.QUEUED


def test_an_answer_that_got_lost_makes_no_second_analysis(service, client, pauses, analyses_kept, workers):
    service.accepted = workers.finish
    service.moments.extend(["lost", "lost"])

    analysis = client.submit(photograph())

    keys = {sent["HTTP_IDEMPOTENCY_KEY"] for method, _, sent in service.seen if method == "POST"}
    assert (len(service.seen), len(keys)) == (3, 1)
    assert analyses_kept() == 1
    assert client.get(analysis.id).state is AnalysisState.DONE


def test_every_call_has_a_key_of_its_own_unless_told(client):
    assert client.submit(photograph()).id != client.submit(photograph()).id
    one, other = (client.submit(photograph(), idempotency_key="spot 7, 3 May") for _ in range(2))
    assert one.id == other.id


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again_when_the_service_says(service, client, pauses, status):
    service.moments.extend([(status, {"Retry-After": "7"}), (status, {})])
    client.submit(photograph())
    assert pauses == [7, None]


def test_trying_again_ends(service, pauses):
    service.moments.extend([(503, {"Retry-After": "7"})] * 9)
    with Client(service.url, retries=2) as client, pytest.raises(BusyError) as raised:
        client.submit(photograph())
    assert len(service.seen) == 3
    assert (raised.value.status, raised.value.title, raised.value.advice) == (503, "Made up", "Wait.")
    assert raised.value.retry_after_s == 7


def test_a_quota_that_lasts_for_hours_is_not_waited_for(service, client, pauses):
    service.moments.append((429, {"Retry-After": "30000"}))
    with pytest.raises(BusyError):
        client.submit(photograph())
    assert len(service.seen) == 1


@pytest.mark.parametrize("status", [400, 415, 422, 500])
def test_what_stays_wrong_is_not_tried_again(service, client, pauses, status):
    service.moments.append((status, {}))
    with pytest.raises(transport.problem_error(status, {}, None).__class__):
        client.submit(photograph())
    assert len(service.seen) == 1


def test_a_refused_photograph_says_why(client):
    with pytest.raises(RefusedError) as raised:
        client.submit(b"no photograph")
    error = raised.value
    assert (error.status, error.type, error.code) == (415, "/problems/unsupported-image", "not_an_image")
    assert error.title
    assert error.detail
    assert error.advice
    assert len(error.trace_id) == 32


def test_what_is_not_there_and_what_is_gone(client):
    with pytest.raises(NotFoundError):
        client.get(uuid.uuid4())
    analysis = client.submit(photograph())
    client.delete(analysis.id)
    client.delete(analysis.id)
    with pytest.raises(GoneError):
        client.get(analysis.id)


@pytest.mark.parametrize("no_id", ["../batches", "", "?x", "7"])
def test_only_ids_get_into_an_address(service, client, no_id):
    with pytest.raises(ValueError, match="UUID"):
        client.get(no_id)
    assert service.seen == []


def test_nobody_there(pauses):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with Client(address, retries=1) as client, pytest.raises(NoAnswerError, match=address):
            client.submit(photograph())
    assert pauses == [None, None]


def test_somebody_else_there(service, client):
    service.moments.append("page")
    with pytest.raises(UnexpectedAnswerError):
        client.get(uuid.uuid4())
    service.moments.append((308, {"Location": "https://elsewhere.example"}))
    with pytest.raises(UnexpectedAnswerError, match=r"elsewhere\.example"):
        client.submit(photograph())


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://localhost", "http://", ""])
def test_an_address_has_to_be_one(address):
    with pytest.raises(ValueError, match="base_url"):
        Client(address)


def test_a_batch_keeps_its_order_and_its_bad_files(service, client, workers):
    service.accepted = workers.finish
    batch = client.batch([photograph(seed=1), b"no photograph", photograph(seed=2)], timeout_s=30)
    assert batch.finished
    assert [analysis.state.value for analysis in batch.analyses] == ["done", "rejected", "done"]


def test_a_batch_whose_answer_got_lost_is_recorded_once(service, client, pauses, workers, analyses_kept):
    service.accepted = workers.reject
    service.moments.extend(["lost", (502, {}), "lost"])
    batch = client.submit_batch([photograph(seed=1), photograph(seed=2)])
    assert sum(method == "POST" for method, _, _ in service.seen) == 4
    assert len(batch.analyses) == analyses_kept() == 2


def test_the_package_is_cheap_to_import():
    script = "import lesionlens, sys; sys.exit('urllib3' in sys.modules or 'services' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_the_client_needs_neither_services_libraries_nor_arrays():
    script = (
        "import sys; from lesionlens import Client; "
        "sys.exit(str({'numpy', 'sqlalchemy', 'flask', 'celery', 'cv2'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60, capture_output=True, text=True)
    assert done.stderr.strip() == ""


# --- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(11):
        (folder / f"{seed:02}.jpg").write_bytes(photograph(seed=seed))
    (folder / "broken.jpg").write_bytes(b"no photograph")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def run(*arguments, **environment):
    return CliRunner().invoke(main, ["submit", *map(str, arguments)], env=environment)


def test_the_command_writes_a_row_for_every_file(service, workers, folder, tmp_path):
    service.accepted = workers.finish
    path = tmp_path / "answers.csv"
    done = run(folder, tmp_path / "missing.jpg", "--csv", path, "--url", service.url)
    assert done.exit_code == 0, done.output
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [Path(row["file"]).name for row in rows] == [
        *(f"{seed:02}.jpg" for seed in range(11)), "broken.jpg", "empty.png", "missing.jpg",
    ]  # fmt: skip
    assert [row["state"] for row in rows] == [*["done"] * 11, *["rejected"] * 3]
    assert [row["reason"] for row in rows[-3:]] == [
        "not_an_image", "empty", "unreadable: No such file or directory",
    ]  # fmt: skip
    assert float(rows[0]["probability"]) == RESULT.probability
    assert [float(rows[0][f"class_{name}"]) for name in CLASSES] == [share for _, share in RESULT.classes]


def test_the_command_writes_json_lines(service, workers, folder):
    service.accepted = workers.finish
    done = run(folder / "00.jpg", "--json", LESIONLENS_URL=service.url, LESIONLENS_API_KEY="")
    assert done.exit_code == 0, done.output
    # The gateway of this test lives in the same process, and logs to the same place.
    line = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert (line["state"], line["result"]["probability"]) == ("done", RESULT.probability)
    assert line["result"]["guidance"]["steps"]


def test_the_command_says_when_nothing_could_be_read(service, folder):
    done = run(folder / "broken.jpg", "--url", service.url)
    assert done.exit_code == 1
    assert "None of the files" in done.stderr


def test_the_command_says_when_nobody_answers(service, folder, pauses):
    service.moments.extend([(503, {})] * 20)
    done = run(folder / "00.jpg", "--url", service.url)
    assert done.exit_code == 1
    assert "503 Made up" in done.stderr
    assert "Traceback" not in done.output


def test_the_command_refuses_a_wrong_address(folder):
    done = run(folder, "--url", "localhost")
    assert done.exit_code == 2
    assert "--url" in done.stderr
