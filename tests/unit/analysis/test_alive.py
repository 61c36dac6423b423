"""The health check of a container: what it takes for well, and what not."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.analysis import alive


@pytest.fixture
def processes(tmp_path: Path):
    """Writes processes as /proc shows them: pid, parent, state, command line."""

    def write(*entries: tuple[int, int, str, str]) -> Path:
        (tmp_path / "version").write_text("not a process")
        for pid, parent, state, line in entries:
            folder = tmp_path / str(pid)
            folder.mkdir()
            (folder / "cmdline").write_bytes(line.replace(" ", "\0").encode() + b"\0")
            (folder / "stat").write_text(f"{pid} (a (strange) name) {state} {parent} 1 1 0 -1")
        return tmp_path

    return write


def why_not(proc: Path, word: str = "worker", *, children: bool = False) -> str | None:
    return alive._processes(word, children=children, proc=proc)


def test_a_running_worker_is_well(processes) -> None:
    proc = processes((7, 1, "S", "python /opt/venv/bin/celery -A x worker"), (9, 7, "S", "python celery -A x worker"))

    assert why_not(proc) is None
    assert why_not(proc, children=True) is None


def test_a_program_is_known_by_the_last_part_of_its_path(processes) -> None:
    assert why_not(processes((1, 0, "S", "python /opt/venv/bin/gunicorn --config x")), "gunicorn") is None


def test_another_process_is_none(processes) -> None:
    assert "no process" in (why_not(processes((7, 1, "S", "python celery -A x beat"))) or "")


def test_a_zombie_is_none(processes) -> None:
    assert "no process" in (why_not(processes((7, 1, "Z", "python celery -A x worker"))) or "")


def test_an_init_process_with_the_same_words_is_none(processes) -> None:
    proc = processes((1, 0, "S", "/sbin/docker-init -- celery -A x worker"))

    assert "no process" in (why_not(proc) or "")


def test_a_worker_without_a_living_child_consumes_nothing(processes) -> None:
    proc = processes((7, 1, "S", "celery -A x worker"), (9, 7, "Z", "celery -A x worker"))

    assert "no child" in (why_not(proc, children=True) or "")


@pytest.fixture
def address() -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/well" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_address_has_to_answer_well(address: str) -> None:
    assert alive._address(f"{address}/well") is None
    assert "503" in (alive._address(f"{address}/ill") or "")
    assert alive._address("http://127.0.0.1:1/") is not None


def test_a_database_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://nobody@127.0.0.1:1/nothing\n")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))

    assert (alive._database() or "").startswith("the database does not answer")

    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "missing"))

    assert "missing" in (alive._database() or "")


def test_it_imports_nothing_heavy() -> None:
    heavy = "{'sqlalchemy', 'pydantic', 'celery', 'numpy', 'urllib.request', 'psycopg2'}"
    code = f"import sys; import services.analysis.alive; sys.exit(bool({heavy} & sys.modules.keys()))"

    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_exit_status_says_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "a-word-of-its-own"], stdin=subprocess.PIPE) as process:
        assert alive.main(["a-word-of-its-own"]) == 0
        process.communicate(b"\n")
    assert alive.main(["a-word-of-its-own"]) == 1
