"""The way of an upload into the service: check the bytes → strip metadata → store → record → ring.

Nothing is half-stored: what fails before the record's commit takes its blob back; what fails after it is accepted all
the same, and the sweeper rings. Where nobody knows whether it committed, the blob is left to the sweep of orphans.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from services.analysis.errors import (
    BlobStoreUnavailableError,
    DatabaseUnavailableError,
    DoorbellUnavailableError,
    LesionLensError,
)
from services.analysis.record import Analysis, Submission
from services.analysis.states import PREPARE
from services.analysis.telemetry import log_id
from services.gateway.confined import clean_confined
from services.gateway.door import TooMuchWaitingError
from services.gateway.errors import (
    ImageEmptyError,
    UnreadableImageError,
    UnsupportedImageError,
    UploadTooLargeError,
)
from services.gateway.parts import Gateway
from services.preprocessor.imaging import Rejection

log = structlog.get_logger()

#: Reasons that mean "not this kind of file"; all others mean "this kind, but not this one".
_UNSUPPORTED = frozenset({"not_an_image", "unsupported_format", "animated"})


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What the sender asked for.

    Attributes:
        force: answer in spite of soft quality reasons.
        store: keep the photograph for its retention time; otherwise it goes as soon as the analysis ends.
        turns: sides to look at the lesion from (test-time augmentation); None: as many as the stack was made for.
        explain: tell also what each network contributed to the answer, and where each of them looked.
        age_years: the person's age, 0–120, where it was told: the models may make use of it.
        idempotency_key: the same key with the same upload gives the same analysis.
    """

    force: bool = False
    store: bool = True
    turns: int | None = None
    explain: bool = False
    age_years: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class CleanPhotograph:
    """An upload that passed: its bytes without metadata, and the digest of the bytes as sent."""

    image: bytes
    digest: bytes


def take(gateway: Gateway, data: bytes, options: UploadOptions) -> Analysis:
    """Accepts one photograph.

    Raises:
        ImageEmptyError, UploadTooLargeError, UnsupportedImageError, UnreadableImageError: the bytes are refused.
        IdempotencyMismatchError: the key belongs to another upload.
        TooMuchWaitingError: too many wait already; nothing was stored.
        DatabaseUnavailableError: the record does not answer; it may have been accepted.
        ServiceUnavailableError: another part does not answer; nothing was stored.
    """
    with counted_if_refused(gateway):
        gateway.door.check()
    photograph = clean(gateway, data)
    let_in(gateway, 1)
    make_sure_the_doorbell_answers(gateway)
    analysis_id = uuid.uuid4()
    submission = Submission(
        analysis_id,
        photograph.digest,
        idempotency_key_digest=key_digest(options.idempotency_key),
        force=options.force,
        store=options.store,
        turns=options.turns,
        answer_within_s=gateway.settings.answer_within_s,
        explain=options.explain,
        age_years=options.age_years,
    )
    analysis = store_and_record(gateway, submission, photograph.image)
    gateway.metrics.uploads_accepted.inc()
    if not analysis.state.terminal:
        ring(gateway, analysis.id)
    return analysis


def clean(gateway: Gateway, data: bytes) -> CleanPhotograph:
    """Checks the bytes and takes the metadata out; counts what is refused."""
    try:
        check_length(data, gateway.settings.max_upload_bytes)
        image = clean_confined(data)
        if isinstance(image, Rejection):
            raise refusal(image)
    except LesionLensError as error:
        gateway.metrics.uploads_refused.labels(getattr(error, "code", "") or error.problem).inc()
        raise
    return CleanPhotograph(image, hashlib.sha256(data).digest())


def check_length(data: bytes, max_bytes: int) -> None:
    """Refuses what is empty or too long, before anybody looks at it."""
    if not data:
        raise ImageEmptyError("The file “image” has no content.")
    if len(data) > max_bytes:
        raise UploadTooLargeError(f"The photograph has {len(data):,} bytes; at most {max_bytes:,} are taken.")


def refusal(rejection: Rejection) -> LesionLensError:
    """The error for a file that imaging refuses."""
    error = UnsupportedImageError if rejection.code in _UNSUPPORTED else UnreadableImageError
    return error(rejection.sentence, rejection.code)


def let_in(gateway: Gateway, count: int) -> None:
    """Takes places for `count` photographs among those that may wait.

    Raises:
        TooMuchWaitingError: there are not so many left.
        DatabaseUnavailableError: nobody knows.
    """
    with counted_if_refused(gateway):
        gateway.door.let_in(count)


@contextmanager
def counted_if_refused(gateway: Gateway) -> Iterator[None]:
    """Counts an upload that is refused because too many wait."""
    try:
        yield
    except TooMuchWaitingError as error:
        gateway.metrics.uploads_refused.labels(error.code).inc()
        raise


def make_sure_the_doorbell_answers(gateway: Gateway) -> None:
    """Refuses early: an upload taken now would wait for nobody knows how long."""
    if not gateway.doorbell.answers():
        raise DoorbellUnavailableError("The queue does not answer.")


def store_and_record(gateway: Gateway, submission: Submission, image: bytes) -> Analysis:
    """Puts the blob, then commits the row; the blob is taken back when the row was not written."""
    gateway.blobs.put_upload(submission.analysis_id, image)
    with taken_back_if_not_recorded(gateway, [submission]):
        analysis = gateway.record.accept(submission)
    if analysis.id != submission.analysis_id:
        # The Idempotency-Key was used before: the analysis is the earlier one, with a photograph of its own.
        take_back(gateway, submission.analysis_id)
    return analysis


@contextmanager
def taken_back_if_not_recorded(gateway: Gateway, submissions: Sequence[Submission]) -> Iterator[None]:
    """Deletes the blobs again where their rows were certainly not written.

    A database that falls silent may have committed before, and such an analysis needs its photograph. What no
    row wants is deleted by the sweep of orphans.
    """
    try:
        yield
    except DatabaseUnavailableError:
        raise
    except Exception:
        for submission in submissions:
            take_back(gateway, submission.analysis_id)
        raise


def take_back(gateway: Gateway, analysis_id: uuid.UUID) -> None:
    """Deletes a blob that no row names."""
    try:
        gateway.blobs.delete(analysis_id)
    except BlobStoreUnavailableError:
        log.exception("blob_left_behind", analysis=log_id(analysis_id))


def ring(gateway: Gateway, analysis_id: uuid.UUID) -> None:
    """Tells the preprocessor. The analysis is recorded: if nobody hears it now, the sweeper rings again."""
    try:
        gateway.doorbell.ring(PREPARE, analysis_id)
    except DoorbellUnavailableError:
        log.warning("doorbell_unheard", analysis=log_id(analysis_id))


def key_digest(key: str | None) -> bytes | None:
    """SHA-256 of an Idempotency-Key: the key itself is the caller's secret and is not kept."""
    return None if key is None else hashlib.sha256(key.encode()).digest()
