"""Somebody who sends photographs and waits for answers, as a client has to: a part may be away for a moment."""

from __future__ import annotations

import time
from typing import Any

import requests

#: Seconds from an upload to its end, with cold processes on two cores.
PATIENCE_S = 90.0
_ENDS = frozenset({"done", "rejected", "failed"})


class Visitor:
    """Talks to the gateway at `address`."""

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        self.address = address
        self._patience_s = patience_s

    def upload(self, image: bytes, name: str = "mole.png") -> str:
        """Address of the analysis; a 503 with Retry-After, from when a part is away, is tried again."""
        end = time.monotonic() + self._patience_s
        while True:
            files = {"image": (name, image, "image/png"), "force": (None, "true")}
            answer = requests.post(f"{self.address}/v1/analyses", files=files, timeout=30)
            if answer.status_code == 202:
                return f"{self.address}/v1/analyses/{answer.json()['id']}"
            assert answer.status_code == 503, answer.text
            assert time.monotonic() < end, answer.text
            time.sleep(1)

    def end_of(self, analysis: str) -> dict[str, Any]:
        """The analysis, once it has ended."""
        end = time.monotonic() + self._patience_s
        while True:
            answer = requests.get(analysis, headers={"Prefer": "wait=5"}, timeout=30)
            if answer.ok and answer.json()["state"] in _ENDS:
                return dict(answer.json())
            assert time.monotonic() < end, f"no end: {answer.status_code} {answer.text}"
            time.sleep(0 if answer.ok else 0.5)  # an answer has waited by itself, a refusal has not

    def wait_until_ready(self) -> None:
        """Wait until the gateway calls itself ready."""
        end = time.monotonic() + self._patience_s
        while not self._is_ready():
            assert time.monotonic() < end, "not ready again"
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.address}/readyz", timeout=10).ok
        except requests.RequestException:
            return False
