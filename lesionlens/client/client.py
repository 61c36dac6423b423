"""`Client`: photographs in, answers out."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lesionlens.client.answers import Analysis, Batch, parse_analysis, parse_batch
from lesionlens.client.errors import NotFinishedError, UnexpectedAnswerError
from lesionlens.client.transport import Field, Transport, retry_after_s

#: A file's path, or its content.
Photograph = str | os.PathLike[str] | bytes

#: Seconds of silence after which a request is given up: an upload of 15 MB is not silent meanwhile.
TIMEOUT_S = 30.0
#: Tries after the first one. With the pauses in between they outlast the restart of a service.
RETRIES = 5
#: Seconds to wait for one analysis: the median takes one, a queue a minute.
WAIT_S = 120.0
#: Seconds to wait for a batch of at most a hundred photographs.
BATCH_WAIT_S = 600.0
#: Seconds a service may need to check and clean the photographs of a batch: a hundred large HEICs take two minutes.
BATCH_SENT_S = 300.0
#: Seconds of one long poll; the service cuts longer ones.
LONG_POLL_S = 25
#: Seconds between two questions when the service cannot hold one back.
POLL_AGAIN_S = 1.0

_Told = TypeVar("_Told")


class Client:
    """A LesionLens service.

    ```python
    from lesionlens import Client

    with Client("http://localhost:8000") as client:
        analysis = client.classify("mole.jpg")
        if analysis.result:
            print(analysis.result.band, analysis.result.probability)
        else:
            print(analysis.reason.sentence)
    ```

    One client may be used by several threads. What the service refuses for now (429, 502, 503, 504) or does not answer
    is tried again, with growing pauses or after the time that the service names. That is safe: every upload carries an
    Idempotency-Key, so the same photograph is never analysed twice for one call. File names are not sent.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES
    ) -> None:
        """Connects to nothing yet.

        Args:
            base_url: where the service is: `http://localhost:8000`.
            api_key: `ll_…`, from `lesionlens keys create`. Without: anonymous use, within its limits.
            timeout_s: seconds of silence after which a request is given up.
            retries: how often a request is tried again.

        Raises:
            ValueError: `base_url` is no such address.
            NoAnswerError: the environment names a proxy that cannot be used.
        """
        self._transport = Transport(base_url, api_key, timeout_s, retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are kept for the next request."""
        self._transport.close()

    def submit(
        self,
        photograph: Photograph,
        *,
        force: bool = False,
        store: bool = True,
        turns: int | None = None,
        explain: bool = False,
        age_years: int | None = None,
        idempotency_key: str | None = None,
    ) -> Analysis:
        """Sends a photograph and does not wait for its answer.

        Args:
            photograph: a file's path, or its content.
            force: answer in spite of soft quality reasons.
            store: False: the service deletes the photograph as soon as its analysis ended.
            turns: sides to look at the lesion from (1, 2, 4 or 8); by default as many as the models were made for.
            explain: ask also what each network contributed, and where each of them looked.
            age_years: of the person, if it is known: on average the answer is better with it.
            idempotency_key: the same key with the same photograph gives the same analysis, also from another process.
                By default a new one for each call.

        Raises:
            OSError: the file cannot be read.
            RefusedError: it is no photograph that can be analysed, or too large; `code` says why.
            ProblemError, NoAnswerError: see `errors`.
        """
        reply = self._transport.request(
            "POST",
            "/v1/analyses",
            fields=[
                _file("image", photograph),
                *_options(force=force, store=store, turns=turns, explain=explain, age_years=age_years),
            ],
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return _told(parse_analysis, reply.json())

    def get(self, analysis_id: uuid.UUID | str) -> Analysis:
        """The analysis as it stands.

        Raises:
            NotFoundError: there is none with this id, or it is another key's; GoneError when it was deleted.
        """
        return _told(parse_analysis, self._transport.request("GET", _path("analyses", analysis_id)).json())

    def wait(self, analysis_id: uuid.UUID | str, timeout_s: float = WAIT_S) -> Analysis:
        """The analysis once it is done, rejected or failed.

        Raises:
            NotFinishedError: it goes on after `timeout_s` seconds.
            NotFoundError: there is none with this id, or it is another key's; GoneError when it was deleted.
        """
        path, end = _path("analyses", analysis_id), time.monotonic() + timeout_s
        while True:
            asked = time.monotonic()
            wait_s = max(0, min(LONG_POLL_S, int(end - asked)))
            headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
            reply = self._transport.request("GET", path, headers=headers, waiting_s=wait_s, end=end)
            analysis = _told(parse_analysis, reply.json())
            if analysis.state.terminal:
                return analysis
            _pause_until(asked + POLL_AGAIN_S, end, analysis)

    def classify(
        self,
        photograph: Photograph,
        *,
        force: bool = False,
        store: bool = True,
        turns: int | None = None,
        explain: bool = False,
        age_years: int | None = None,
        timeout_s: float = WAIT_S,
    ) -> Analysis:
        """Sends a photograph and waits for its answer: `submit`, then `wait`.

        A photograph that was taken in but cannot be answered for is `rejected`, with a reason, and no error.
        """
        sent = self.submit(photograph, force=force, store=store, turns=turns, explain=explain, age_years=age_years)
        return sent if sent.state.terminal else self.wait(sent.id, timeout_s)

    def analyses(self) -> Iterator[Analysis]:
        """The analyses of this API key, the newest first; asked for page by page.

        Raises:
            AccessError: there is no key, or it is not for reading.
        """
        path: str | None = "/v1/analyses"
        while path is not None:
            body = self._transport.request("GET", path).json()
            items, path = _told(_page, body)
            yield from items

    def cancel(self, analysis_id: uuid.UUID | str) -> Analysis:
        """Stops an analysis that is not finished: it ends as `failed`, its photograph is deleted.

        Raises:
            ProblemError: with the status 409, when it has ended by itself.
        """
        path = f"{_path('analyses', analysis_id)}/cancel"
        return _told(parse_analysis, self._transport.request("POST", path).json())

    def delete(self, analysis_id: uuid.UUID | str) -> None:
        """Deletes the photograph and all that was found out about it; afterwards `get` raises GoneError."""
        self._transport.request("DELETE", _path("analyses", analysis_id))

    def submit_batch(
        self,
        photographs: Sequence[Photograph],
        *,
        force: bool = False,
        store: bool = True,
        turns: int | None = None,
        explain: bool = False,
        age_years: int | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Sends up to a hundred photographs at once and does not wait. One that cannot be used is `rejected`.

        `idempotency_key` is for the batch as a whole, and so is `age_years`: all are of one person. See `submit`.
        """
        files = [_file("images", photograph) for photograph in photographs]
        reply = self._transport.request(
            "POST",
            "/v1/batches",
            fields=[*files, *_options(force=force, store=store, turns=turns, explain=explain, age_years=age_years)],
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
            waiting_s=BATCH_SENT_S,
        )
        return _told(parse_batch, reply.json())

    def get_batch(self, batch_id: uuid.UUID | str) -> Batch:
        """The batch as it stands."""
        return _told(parse_batch, self._transport.request("GET", _path("batches", batch_id)).json())

    def wait_batch(self, batch_id: uuid.UUID | str, timeout_s: float = BATCH_WAIT_S) -> Batch:
        """The batch once all its analyses are finished; NotFinishedError after `timeout_s` seconds."""
        path, end = _path("batches", batch_id), time.monotonic() + timeout_s
        while True:
            asked = time.monotonic()
            reply = self._transport.request("GET", path, end=end)
            batch = _told(parse_batch, reply.json())
            if batch.finished:
                return batch
            _pause_until(asked + (retry_after_s(reply.headers.get("Retry-After")) or POLL_AGAIN_S), end, batch)

    def batch(
        self,
        photographs: Sequence[Photograph],
        *,
        force: bool = False,
        store: bool = True,
        turns: int | None = None,
        explain: bool = False,
        age_years: int | None = None,
        timeout_s: float = BATCH_WAIT_S,
    ) -> Batch:
        """Sends up to a hundred photographs at once and waits for all: `submit_batch`, then `wait_batch`."""
        sent = self.submit_batch(
            photographs, force=force, store=store, turns=turns, explain=explain, age_years=age_years
        )
        return sent if sent.finished else self.wait_batch(sent.id, timeout_s)


def _file(name: str, photograph: Photograph) -> Field:
    content = photograph if isinstance(photograph, bytes) else Path(photograph).read_bytes()
    return name, ("photograph", content, "application/octet-stream")


def _options(*, force: bool, store: bool, turns: int | None, explain: bool, age_years: int | None) -> list[Field]:
    options: list[Field] = [("force", str(force).lower()), ("store", str(store).lower())]
    if turns is not None:
        options.append(("tta", str(turns)))
    if explain:
        options.append(("explain", "true"))
    if age_years is not None:
        options.append(("age", str(age_years)))
    return options


def _path(kind: str, some_id: uuid.UUID | str) -> str:
    # Through UUID, so that nothing else than an id gets into an address.
    return f"/v1/{kind}/{uuid.UUID(str(some_id))}"


def _told(parse: Callable[[Mapping[str, Any]], _Told], body: Mapping[str, Any]) -> _Told:
    try:
        return parse(body)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswerError("The answer is not one of this service's API.") from error


def _page(body: Mapping[str, Any]) -> tuple[tuple[Analysis, ...], str | None]:
    following = body["links"].get("next")
    if following is not None and not following.startswith("/v1/"):
        raise ValueError("the next page is not one of this API's")
    return tuple(parse_analysis(item) for item in body["items"]), following


def _pause_until(next_question: float, end: float, last: Analysis | Batch) -> None:
    if time.monotonic() >= end:
        raise NotFinishedError(last)
    time.sleep(max(0.0, min(next_question, end) - time.monotonic()))
