"""Messages are signed as Standard Webhooks describes, and the client's check believes nothing else."""

from __future__ import annotations

import base64

import pytest

from lesionlens.client import WebhookError, verify_webhook
from services.webhooks.signature import signed_headers, told_secret

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
BODY = b'{"test": 2432232314}'
SENT = 1_614_265_330
HEADERS = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", SENT, BODY, KEY)


def test_it_signs_as_the_specifications_example_is_signed():
    assert HEADERS["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert told_secret(KEY) == SECRET


def test_a_message_that_is_as_it_was_sent_is_believed():
    assert verify_webhook(BODY, HEADERS, SECRET, now=SENT + 299) == {"test": 2432232314}
    capitals = {name.title(): value for name, value in HEADERS.items()}
    assert verify_webhook(BODY, capitals, SECRET, now=SENT - 299)
    # While a secret is being changed, a message may carry several signatures.
    two = {**HEADERS, "webhook-signature": "v1,AAAA " + HEADERS["webhook-signature"]}
    assert verify_webhook(BODY, two, SECRET, now=SENT)


@pytest.mark.parametrize("age_s", [301, 86_400, -301])
def test_an_old_message_sent_again_is_not_believed(age_s):
    with pytest.raises(WebhookError, match="too old"):
        verify_webhook(BODY, HEADERS, SECRET, now=SENT + age_s)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_another"},
        {"webhook-timestamp": str(SENT + 10)},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": HEADERS["webhook-signature"].replace("v1,", "v2,")},
    ],
)
def test_a_header_that_was_changed_is_found_out(changed):
    with pytest.raises(WebhookError, match="signature"):
        verify_webhook(BODY, {**HEADERS, **changed}, SECRET, now=SENT)


def test_a_body_or_a_secret_that_is_another_is_found_out():
    with pytest.raises(WebhookError, match="signature"):
        verify_webhook(BODY + b" ", HEADERS, SECRET, now=SENT)
    with pytest.raises(WebhookError, match="signature"):
        verify_webhook(BODY, HEADERS, told_secret(b"x" * 32), now=SENT)


@pytest.mark.parametrize("missing", HEADERS)
def test_without_one_of_the_headers_nothing_is_believed(missing):
    with pytest.raises(WebhookError, match="header"):
        verify_webhook(BODY, {name: value for name, value in HEADERS.items() if name != missing}, SECRET, now=SENT)
