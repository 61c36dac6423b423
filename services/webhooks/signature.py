"""Signs messages as *Standard Webhooks 1.0.0* describes, so that receivers can verify them with what they have.

Signed is `id.timestamp.body` with HMAC-SHA256. The id names the message and stays the same at every try; the timestamp
is that of the try. A receiver refuses old timestamps and known ids, and so everything that is replayed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

SECRET_PREFIX = "whsec_"  # noqa: S105 - what tells a secret of this kind from others, for people and secret scanners


def told_secret(secret: bytes) -> str:
    """The secret as its owner is told it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signed_headers(message_id: str, timestamp: int, body: bytes, secret: bytes) -> Mapping[str, str]:
    """The three headers of a message. `timestamp` is in seconds since 1970, UTC."""
    content = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
