"""A typed client of the HTTP API: `Client` asks, `answers` holds what it is told, `errors` what can go wrong.

Every upload carries an Idempotency-Key, so that repeating one whose answer was lost never makes a second analysis.
"""

from lesionlens.client.answers import Analysis, Answer, Batch, Guidance
from lesionlens.client.client import Client
from lesionlens.client.errors import (
    AccessError,
    BusyError,
    ClientError,
    GoneError,
    NoAnswerError,
    NotFinishedError,
    NotFoundError,
    ProblemError,
    RefusedError,
    UnexpectedAnswerError,
    WebhookError,
)
from lesionlens.client.webhooks import verify_webhook

__all__ = [
    "AccessError",
    "Analysis",
    "Answer",
    "Batch",
    "BusyError",
    "Client",
    "ClientError",
    "GoneError",
    "Guidance",
    "NoAnswerError",
    "NotFinishedError",
    "NotFoundError",
    "ProblemError",
    "RefusedError",
    "UnexpectedAnswerError",
    "WebhookError",
    "verify_webhook",
]
