"""The one exception tree.

Expected failures of an image (unreadable, too small, not a lesion) are outcomes, not exceptions. What is here is raised
when the service itself cannot go on, or when a caller asks for something that cannot be given. Each class carries the
HTTP status and the problem type (RFC 9457) that the gateway answers with, so one place can turn any of them into a
response, and `advice`, the sentence that tells the caller what to do.
"""

from __future__ import annotations

from typing import ClassVar


class LesionLensError(Exception):
    """Base of every error this project raises on purpose."""

    status: ClassVar[int] = 500
    problem: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on our side"
    advice: ClassVar[str] = "Try again in a minute; the operator finds the cause in the log under the trace id."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title


class SettingsError(LesionLensError):
    """A setting is missing, malformed or contradicts another one; the process refuses to start."""

    problem = "settings"
    title = "A setting is wrong"
    advice = "Correct the setting named in the message; the README lists them all."


class ModelMismatchError(LesionLensError):
    """The stack was fitted for other network versions than those that are served; nothing may be answered."""

    problem = "model-mismatch"
    title = "The stack does not fit the networks"
    advice = "Deploy the stack.json that was exported together with the networks."


class ServiceUnavailableError(LesionLensError):
    """A part the service stands on (database, doorbell, blob store) does not answer."""

    status = 503
    problem = "service-unavailable"
    title = "The service cannot take this right now"
    advice = "Try again after the time in Retry-After."
    #: Seconds a client is asked to wait: long enough for a database fail-over to begin, short enough for a person.
    retry_after_s: ClassVar[int] = 5


class DatabaseUnavailableError(ServiceUnavailableError):
    """PostgreSQL does not answer."""


class DoorbellUnavailableError(ServiceUnavailableError):
    """Redis does not answer; an upload accepted now would wait for the sweeper, so none is accepted."""


class BlobStoreUnavailableError(ServiceUnavailableError):
    """The blob store cannot be read or written."""


class BlobMissingError(LesionLensError):
    """A blob that the record names is not in the store (deleted, or the store lost it)."""

    problem = "blob-missing"
    title = "The stored image is gone"


class BlobUnreadableError(LesionLensError):
    """A blob cannot be decrypted: its key is missing or another one, or somebody changed it."""

    problem = "blob-unreadable"
    title = "The stored image cannot be decrypted"
    advice = "The operator finds in the log which key is missing; upload the photograph again."


class LeaseLostError(LesionLensError):
    """The lease ran out and somebody else may hold the analysis: this worker's work must be thrown away."""

    problem = "lease-lost"
    title = "The lease on the analysis was lost"


class AnalysisNotFoundError(LesionLensError):
    """No analysis has this id."""

    status = 404
    problem = "analysis-not-found"
    title = "There is no such analysis"
    advice = "Check the id; it is the one the upload was answered with."


class AnalysisGoneError(LesionLensError):
    """The analysis existed and was deleted, by its owner or by the retention clock."""

    status = 410
    problem = "analysis-gone"
    title = "This analysis was deleted"
    advice = "Upload the photograph again if you still need an answer."


class AnalysisFinishedError(LesionLensError):
    """The analysis has already ended: there is nothing left to cancel."""

    status = 409
    problem = "analysis-finished"
    title = "The analysis has already ended"
    advice = "Read its result, or delete it."


class WebhookNotFoundError(LesionLensError):
    """The API key has no such webhook."""

    status = 404
    problem = "webhook-not-found"
    title = "There is no such webhook"
    advice = "Check the id; GET /v1/webhooks lists those of your key."


class WebhookAddressError(LesionLensError):
    """The address of a webhook is malformed, or leads to where messages must not go."""

    status = 422
    problem = "webhook-address"
    title = "Messages cannot be sent to this address"
    advice = (
        "Name an https address on the public internet. For one inside your network the operator sets"
        " WEBHOOK_ALLOWED_NETWORKS."
    )


class TooManyWebhooksError(LesionLensError):
    """The API key has as many webhooks as it may have."""

    status = 422
    problem = "too-many-webhooks"
    title = "This API key has too many webhooks"
    advice = "Delete one that is no longer needed."


class DailyQuotaError(LesionLensError):
    """An API key sent as many photographs today as it may."""

    status = 429
    problem = "daily-quota-used"
    title = "The daily quota of this API key is used up"
    advice = "Go on after midnight UTC, when Retry-After is over, or ask the operator for a larger quota."

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        #: Seconds until the next day begins.
        self.retry_after_s = retry_after_s


class IdempotencyMismatchError(LesionLensError):
    """An Idempotency-Key was used again with another upload."""

    status = 422
    problem = "idempotency-key-reused"
    title = "This Idempotency-Key belongs to another upload"
    advice = "Use a new key for every new upload; the same key only repeats the very same one."
