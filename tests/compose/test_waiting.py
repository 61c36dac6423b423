"""Waiting for containers has an end, and says what it waited for. Needs no engine."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def health(beside: Callable[[str], Any]) -> Any:
    return beside("health")


def container(service: str, status: str = "running", health: str | None = "healthy", said: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {"Status": status}
    if health is not None:
        state["Health"] = {"Status": health, "Log": [{"Output": said}] if said else []}
    return {"Config": {"Labels": {"com.docker.compose.service": service}}, "State": state}


def test_all_containers_of_a_service_have_to_be_well(health: Any) -> None:
    both = [container("gateway"), container("gateway")]

    assert health.ailments(both, ["gateway"]) == []
    assert health.ailments([*both, container("beat", health="unhealthy")], ["gateway"]) == []
    assert health.ailments([*both, container("gateway", status="paused")], ["gateway"]) == ["gateway: paused"]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([], "postgres: no container"),
        ([container("postgres", health="starting")], "postgres: starting: not checked yet"),
        ([container("postgres", status="restarting", health="unhealthy")], "postgres: restarting"),
        ([container("postgres", health="unhealthy", said="no response\n")], "postgres: unhealthy: no response"),
        ([container("postgres", health=None)], "postgres: has no health check"),
    ],
)
def test_what_was_just_killed_is_not_well(health: Any, found: list[dict[str, Any]], sentence: str) -> None:
    assert health.ailments(found, ["postgres"]) == [sentence]


def test_what_gets_well_is_waited_for(health: Any) -> None:
    seen = iter(
        [[container("redis", health="starting")], [container("redis", health="starting")], [container("redis")]]
    )

    health.until_nothing_is_said(lambda: health.ailments(next(seen), ["redis"]), within_s=60, every_s=0.01)

    assert next(seen, None) is None


def test_what_never_gets_well_fails_in_time_with_its_reason(health: Any) -> None:
    sick = [container("stacker", health="unhealthy", said="'worker' has no child process")]
    began = time.monotonic()

    with pytest.raises(AssertionError, match="stacker: unhealthy: 'worker' has no child process"):
        health.until_nothing_is_said(lambda: health.ailments(sick, ["stacker"]), within_s=0.2, every_s=0.01)

    assert time.monotonic() - began < 30


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers with what stands in `script`, the last of it for ever."""

    script: list[tuple[int, dict[str, Any]]]

    def do_GET(self) -> None:
        status, said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    do_POST = do_GET  # noqa: N815 - what http.server asks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def visitor(beside: Callable[[str], Any]) -> Iterator[Callable[..., Any]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def visit(*script: tuple[int, dict[str, Any]], patience_s: float = 30.0) -> Any:
        Gateway.script = list(script)
        return beside("visitor").Visitor(f"http://127.0.0.1:{server.server_port}", patience_s)

    yield visit
    server.shutdown()
    server.server_close()


def test_a_part_that_is_away_for_a_moment_is_waited_for(visitor: Callable[..., Any]) -> None:
    away = (503, {"title": "away"})

    assert visitor(away, (202, {"id": "7"})).upload(b"").endswith("/v1/analyses/7")
    there = visitor((200, {"state": "queued"}), away, (200, {"state": "done", "id": "7"}))
    assert there.end_of(f"{there.address}/v1/analyses/7")["id"] == "7"


def test_a_part_that_stays_away_is_not_waited_for_for_ever(visitor: Callable[..., Any]) -> None:
    gone = visitor((503, {"title": "away"}), patience_s=0.2)

    for wait in (lambda: gone.upload(b""), lambda: gone.end_of(gone.address), gone.wait_until_ready):
        with pytest.raises(AssertionError):
            wait()


def test_a_refusal_is_no_part_that_is_away(visitor: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="too large"):
        visitor((413, {"title": "too large"})).upload(b"")
