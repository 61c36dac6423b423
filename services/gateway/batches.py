"""Many photographs in one request: each is checked on its own, all are recorded together."""

from __future__ import annotations

import csv
import hashlib
import io
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.analysis.errors import LesionLensError, ServiceUnavailableError
from services.analysis.record import Analysis, Submission
from services.analysis.results import CLASSES, NETWORKS, Reason
from services.gateway.parts import Gateway
from services.gateway.uploads import (
    CleanPhotograph,
    UploadOptions,
    clean,
    key_digest,
    let_in,
    make_sure_the_doorbell_answers,
    ring,
    take_back,
    taken_back_if_not_recorded,
)

CSV_COLUMNS = (
    "position", "id", "state", "reason", "probability", "band",
    *(f"{name}_logit" for name in NETWORKS), *CLASSES,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchUpload:
    """One file of a batch; its name is told back to the sender and kept nowhere."""

    name: str
    data: bytes


def take_batch(
    gateway: Gateway, uploads: Iterable[BatchUpload], options: UploadOptions
) -> tuple[uuid.UUID, tuple[Analysis, ...], tuple[str, ...]]:
    """Accepts a batch: a file that cannot be used is recorded as rejected, the others are analysed.

    Returns:
        The batch's id, its analyses in the order of the uploads, and the names of the files in the same order.

    Raises:
        IdempotencyMismatchError: the key belongs to another batch; nothing was stored.
        TooMuchWaitingError: too many wait already; nothing was stored.
        UnusableArchiveError, UploadTooLargeError: the batch as a whole is refused; nothing was stored.
        DatabaseUnavailableError: the record does not answer; the batch may have been accepted.
        ServiceUnavailableError: another part does not answer; nothing was stored.
    """
    make_sure_the_doorbell_answers(gateway)
    submissions: list[Submission] = []
    names: list[str] = []
    try:
        for upload in uploads:
            submissions.append(_store(gateway, upload.data, options))
            names.append(upload.name)
        let_in(gateway, sum(submission.refusal is None for submission in submissions))
    except Exception:
        _take_all_back(gateway, submissions)
        raise
    batch_id = uuid.uuid4()
    with taken_back_if_not_recorded(gateway, submissions):
        analyses = gateway.record.accept_batch(batch_id, submissions, key_digest(options.idempotency_key))
    repeated = analyses[0].batch_id
    if repeated is not None and repeated != batch_id:
        # The Idempotency-Key was used before: the batch is the earlier one, with photographs of its own.
        _take_all_back(gateway, submissions)
        return repeated, analyses, tuple(names)
    for analysis in analyses:
        if not analysis.state.terminal:
            gateway.metrics.uploads_accepted.inc()
            ring(gateway, analysis.id)
    return batch_id, analyses, tuple(names)


def _take_all_back(gateway: Gateway, submissions: Iterable[Submission]) -> None:
    for submission in submissions:
        take_back(gateway, submission.analysis_id)


def _store(gateway: Gateway, data: bytes, options: UploadOptions) -> Submission:
    outcome = _clean_or_reason(gateway, data)
    analysis_id = uuid.uuid4()
    if isinstance(outcome, Reason):
        return _submission(gateway, analysis_id, hashlib.sha256(data).digest(), options, outcome)
    gateway.blobs.put_upload(analysis_id, outcome.image)
    return _submission(gateway, analysis_id, outcome.digest, options, None)


def _submission(
    gateway: Gateway, analysis_id: uuid.UUID, digest: bytes, options: UploadOptions, refusal: Reason | None
) -> Submission:
    return Submission(
        analysis_id,
        digest,
        force=options.force,
        store=options.store,
        turns=options.turns,
        answer_within_s=gateway.settings.answer_within_s,
        explain=options.explain,
        age_years=options.age_years,
        refusal=refusal,
    )


def _clean_or_reason(gateway: Gateway, data: bytes) -> CleanPhotograph | Reason:
    try:
        return clean(gateway, data)
    except ServiceUnavailableError:
        raise
    except LesionLensError as error:
        # In a batch one bad file is an outcome, not the end of the others.
        return Reason(getattr(error, "code", "") or error.problem.replace("-", "_"), error.detail)


def progress(analyses: Sequence[Analysis]) -> tuple[int, dict[str, int]]:
    """How many are finished, and how many are in each state."""
    counts = Counter(analysis.state.value for analysis in analyses)
    return sum(analysis.state.terminal for analysis in analyses), dict(sorted(counts.items()))


def batch_csv(analyses: Sequence[Analysis]) -> str:
    """One line for each photograph, in the order of the upload; empty cells where there is no result (yet)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for analysis in analyses:
        reason = analysis.reason.code if analysis.reason else ""
        row: list[object] = [analysis.batch_position, analysis.id, analysis.state.value, reason]
        if analysis.result is None:
            row += [""] * (len(CSV_COLUMNS) - len(row))
        else:
            result = analysis.result
            row += [result.probability, result.band.value]
            row += [opinion.logit for opinion in result.networks]
            row += [probability for _, probability in result.classes]
        writer.writerow(row)
    return text.getvalue()
