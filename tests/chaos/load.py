"""Uploads at a steady rate, each sent again with its Idempotency-Key until it is accepted, as a careful client does."""

from __future__ import annotations

import io
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field

import requests
from PIL import Image

from tests.conftest import lesion_photograph

#: Different photographs: the same one must get the same answer however often it is sent.
DIFFERENT = 10
THREADS = 24
#: Seconds between two tries of one upload; a service that is away says 503 or nothing.
PAUSE_S = 0.5
TIMEOUT_S = 20.0


@dataclass
class Upload:
    """One photograph that somebody wants an answer for."""

    number: int
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    analysis_id: str = ""
    tries: int = 0


def photographs() -> list[tuple[bytes, dict[str, str]]]:
    """What is sent, and with which options: lesions, and one picture that is rejected."""
    flat = io.BytesIO()
    Image.new("RGB", (400, 300), (200, 160, 140)).save(flat, "PNG")
    lesions = [(lesion_photograph(1_000 + seed), {"force": "true"}) for seed in range(DIFFERENT - 1)]
    return [*lesions, (flat.getvalue(), {})]


class SteadyLoad:
    """`count` uploads, `per_s` a second."""

    def __init__(self, base_url: str, count: int, per_s: float) -> None:
        self.accepted: list[Upload] = []
        self.unexpected: list[str] = []
        self._base_url = base_url
        self._count = count
        self._per_s = per_s
        self._photographs = photographs()
        self._waiting: queue.Queue[Upload | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._send_on, daemon=True) for _ in range(THREADS)]
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def start(self) -> None:
        for thread in (*self._threads, self._clock):
            thread.start()

    def join(self) -> None:
        """Waits until all are accepted."""
        for thread in (self._clock, *self._threads):
            thread.join()

    @property
    def done(self) -> bool:
        return len(self.accepted) >= self._count

    def _tick(self) -> None:
        begin = time.monotonic()
        for number in range(self._count):
            time.sleep(max(0.0, begin + number / self._per_s - time.monotonic()))
            self._waiting.put(Upload(number))
        for _ in self._threads:
            self._waiting.put(None)

    def _send_on(self) -> None:
        while (upload := self._waiting.get()) is not None:
            while not self._send(upload):
                time.sleep(PAUSE_S)
            self.accepted.append(upload)

    def _send(self, upload: Upload) -> bool:
        image, form = self._photographs[upload.number % DIFFERENT]
        upload.tries += 1
        try:
            response = requests.post(
                f"{self._base_url}/v1/analyses",
                files={"image": ("photo.jpg", image)}, data=form, headers={"Idempotency-Key": upload.key},
                timeout=TIMEOUT_S,
            )  # fmt: skip
        except requests.RequestException:
            return False
        # 200: a try whose answer was lost had been accepted, and is finished by now.
        if response.status_code in (200, 202):
            upload.analysis_id = response.json()["id"]
            return True
        if response.status_code != 503 or "Retry-After" not in response.headers:
            self.unexpected.append(f"{response.status_code} {response.text[:200]}")
        return False
