"""For whoever receives webhooks: is this message from the service, and not an old one sent again?"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from lesionlens.client.errors import WebhookError

#: Seconds between the clocks of sender and receiver, and on the way. Older messages are replayed ones.
TOLERANCE_S = 300


def verify_webhook(
    body: bytes, headers: Mapping[str, str], secret: str, *, tolerance_s: float = TOLERANCE_S, now: float | None = None
) -> dict[str, Any]:
    """The message, once its signature and its time have been found good.

    Args:
        body: the bytes of the request as they came; not JSON that was read and written again.
        headers: of the request, whatever the case of their names.
        secret: `whsec_…`, as the service told it when the webhook was made.
        tolerance_s: how far the message's time may lie from this machine's.
        now: this machine's time in seconds since 1970; by default the present.

    A message may come twice, when its answer got lost: pass over a `webhook-id` that you have seen.

    Raises:
        WebhookError: the message is not to be believed.
    """
    found = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp = found["webhook-id"], found["webhook-timestamp"]
        sent = int(timestamp)
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        signatures = found["webhook-signature"].split()
    except (KeyError, ValueError, binascii.Error) as error:
        raise WebhookError("A header is missing or malformed, or the secret is.") from error
    expected = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(expected)
    if not any(hmac.compare_digest(wanted, signature.encode()) for signature in signatures):
        raise WebhookError("The signature is wrong.")
    if abs((time.time() if now is None else now) - sent) > tolerance_s:
        raise WebhookError("The message is too old, or one of the clocks is wrong.")
    try:
        message = json.loads(body)
    except ValueError as error:
        raise WebhookError("The body is not JSON.") from error
    if not isinstance(message, dict):
        raise WebhookError("The body is not a JSON object.")
    return message
