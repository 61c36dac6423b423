"""Whether containers are well, and waiting until they are: for a while, never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

#: What Docker Compose calls a container's service.
SERVICE_LABEL = "com.docker.compose.service"


def ailments(containers: Iterable[dict[str, Any]], services: Sequence[str]) -> list[str]:
    """What is not well with the containers of these services, of what `docker inspect` says; empty when all is well.

    A container that was just started again is `starting` until its first check, and one that is about to be may be
    missing for a moment: neither is well.
    """
    found = list(containers)
    said = []
    for service in services:
        own = [container for container in found if container["Config"]["Labels"].get(SERVICE_LABEL) == service]
        if not own:
            said.append(f"{service}: no container")
        said += [f"{service}: {sentence}" for container in own if (sentence := _ailment(container["State"]))]
    return said


def _ailment(state: dict[str, Any]) -> str:
    if state["Status"] != "running":
        return str(state["Status"])
    health = state.get("Health")
    if health is None:
        return "has no health check"
    if health["Status"] == "healthy":
        return ""
    last = (health.get("Log") or [{"Output": "not checked yet"}])[-1]
    return f"{health['Status']}: {str(last['Output']).strip()[-300:]}"


def until_nothing_is_said(look: Callable[[], Sequence[str]], within_s: float, every_s: float = 0.5) -> None:
    """Look again and again until there is nothing to say; an AssertionError with what was said last when time is up."""
    end = time.monotonic() + within_s
    while said := look():
        assert time.monotonic() < end, f"still after {within_s:g} s: {'; '.join(said)}"
        time.sleep(every_s)
