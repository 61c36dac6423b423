"""One drawn lesion sent the whole way, to show that the whole way works."""

from __future__ import annotations

import http.client
import json
import math
import random
import struct
import time
import uuid
import zlib
from contextlib import closing
from typing import Any

#: Side of the drawing in pixels.
SIDE = 320
#: Seconds in which the answer has to come: the workers may still be starting.
_PATIENCE_S = 60.0
_POLL_S = 0.1
_SKIN = (224, 178, 152)
_LESION = (122, 74, 52)


class NoAnswerError(Exception):
    """The service did not bring the sample to an end; the text says what it did instead."""


def drawing(seed: int = 7) -> bytes:
    """A PNG of 320 × 320 pixels: textured skin with one uneven brown spot. The same bytes for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - a drawing, not a secret # nosec B311
    phases = [chance.uniform(0, 2 * math.pi) for _ in range(4)]
    radius = SIDE * 0.22
    rows = []
    for y in range(SIDE):
        row = bytearray(b"\0")  # PNG filter "none"
        for x in range(SIDE):
            across, down = x - SIDE / 2, y - SIDE / 2
            angle = math.atan2(down, across)
            edge = radius * (1 + 0.08 * math.sin(2 * angle + phases[0]) + 0.06 * math.sin(5 * angle + phases[1]))
            inside = 1 / (1 + math.exp((math.hypot(across, down) - edge) / 4))
            pattern = 12 * math.sin(x / 5 + phases[2]) * math.sin(y / 6 + phases[3]) * (0.3 + inside)
            grain = chance.gauss(0, 4)
            for skin, lesion in zip(_SKIN, _LESION, strict=True):
                level = skin + (lesion - skin) * inside + pattern + grain
                row.append(max(0, min(255, round(level))))
        rows.append(bytes(row))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + _chunk(b"IEND", b"")
    )


def classify_sample(host: str, port: int) -> str:
    """Uploads the drawing, waits for the answer, deletes it again; the answer in one line.

    Raises:
        NoAnswerError: the service refused the upload, or did not answer in time.
    """
    begin = time.monotonic()
    boundary = uuid.uuid4().hex
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="force"\r\n\r\ntrue\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="sample.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    body += drawing() + f"\r\n--{boundary}--\r\n".encode()
    place = (host, port)
    status, answer = _call(place, "POST", "/v1/analyses", body, f"multipart/form-data; boundary={boundary}")
    if status != http.client.ACCEPTED:
        raise NoAnswerError(f"the upload was answered with {status}: {answer.get('detail', answer)}")
    path = f"/v1/analyses/{answer['id']}"
    while answer["state"] not in ("done", "rejected", "failed"):
        if time.monotonic() - begin > _PATIENCE_S:
            raise NoAnswerError(f"it is still {answer['state']} after {_PATIENCE_S:g} s")
        time.sleep(_POLL_S)
        status, told = _call(place, "GET", path)
        if status == http.client.OK:  # anything else, such as a busy service's 503, passes
            answer = told
    took = f"in {time.monotonic() - begin:.1f} s"
    _call(place, "DELETE", path)
    if answer["state"] == "done":
        result = answer["result"]
        networks = ", ".join(f"{network['name']} {network['probability']:.2f}" for network in result["networks"])
        return f"a drawn sample was answered {took}: probability {result['probability']:.3f} ({networks})"
    return f"a drawn sample was {answer['state']} {took}: {answer.get('reason')}"


def _call(
    place: tuple[str, int], method: str, path: str, body: bytes | None = None, kind: str = ""
) -> tuple[int, dict[str, Any]]:
    with closing(http.client.HTTPConnection(*place, timeout=_PATIENCE_S)) as connection:
        try:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            response = connection.getresponse()
            text = response.read()
            document = json.loads(text) if text else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswerError(f"{method} {path} got no answer: {error}") from error
        return response.status, document


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
