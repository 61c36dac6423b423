"""Takes messages that are due, sends each in a thread of its own, and writes down how it went."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from services.analysis.end import End
from services.analysis.errors import DatabaseUnavailableError, WebhookAddressError
from services.analysis.telemetry import log_id
from services.analysis.webhooks import TEST_EVENT, Message, WebhookBook
from services.webhooks.addresses import Network, Resolver, resolve, target_of
from services.webhooks.posting import post
from services.webhooks.signature import signed_headers

#: Seconds after each try that failed; together 33 hours, in which a receiver that fell over on a Friday evening has
#: been found. After the last one the message is given up.
PAUSES_S: tuple[float, ...] = (5, 30, 120, 600, 3_600, 3 * 3_600, 8 * 3_600, 20 * 3_600)
#: Share by which a pause is longer at random, so that a receiver that comes back does not meet all messages at once.
JITTER = 0.2
#: Messages sent at the same time: a slow receiver holds one up to the timeout, the others go on. Of one key they are at
#: most `KEYS_SHARE`.
AT_ONCE = 8
#: Seconds between two looks for messages that are due, and after one that found some: there may be more of them.
POLL_S = 1.0
AGAIN_S = 0.1
#: Seconds between two deletions of old records.
TIDY_S = 3_600.0
#: Seconds that messages under way have when the process is asked to end; what is cut off is sent again later.
LINGER_S = 1.5

#: A message that nobody can believe is not sent. Once the key is back, the next try goes out.
SECRET_UNREADABLE = "The signing secret cannot be decrypted here; the service's operator knows why."  # noqa: S105 # nosec B105

#: What a receiver's owner is told of it.
OUR_MISTAKE = "Something went wrong on our side."

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deliverer:
    """What one delivering process works with; any number of them may deliver at once."""

    book: WebhookBook
    allowed: Sequence[Network] = ()
    timeout_s: float = 10.0
    pauses_s: Sequence[float] = PAUSES_S
    resolver: Resolver = resolve
    now: Callable[[], float] = time.time
    _free: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(AT_ONCE))
    #: The key of each message under way.
    _under_way: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)

    def run(self, stopped: End) -> None:
        """Delivers until `stopped` is set."""
        tidied = float("-inf")
        while not stopped.is_set():
            begun = 0
            try:
                if time.monotonic() - tidied > TIDY_S:
                    tidied = time.monotonic()
                    self._tidy()
                begun = self.deliver_due()
            except DatabaseUnavailableError:
                _log.warning("the database does not answer; webhooks wait")
            stopped.wait(AGAIN_S if begun else POLL_S)
        self.linger(LINGER_S)

    def _tidy(self) -> None:
        # A failure of its own: what cannot be tidied now is tidied next time, and deliveries go on.
        try:
            if sealed := self.book.seal_anew():
                _log.info("webhooks' secrets sealed with the newest key", count=sealed)
            while self.book.forget_old():
                pass
        except DatabaseUnavailableError:
            _log.warning("webhooks could not be tidied up; tried again later", in_s=TIDY_S)

    def deliver_due(self) -> int:
        """Begins to send what is due, as far as there is room; does not wait for the receivers.

        Returns:
            How many messages it began to send.
        """
        room = 0
        while room < AT_ONCE and self._free.acquire(blocking=False):
            room += 1
        if not room:
            return 0
        messages: tuple[Message, ...] = ()
        try:
            messages = self.book.take_due(room, tuple(self._under_way.values()))
        finally:
            for _ in range(room - len(messages)):
                self._free.release()
        for message in messages:
            self._under_way[message.id] = message.api_key_id
            threading.Thread(target=self._deliver, args=(message,), name="webhook", daemon=True).start()
        return len(messages)

    def linger(self, seconds: float) -> None:
        """Waits until nothing is under way, `seconds` at most."""
        end = time.monotonic() + seconds
        held = 0
        while held < AT_ONCE and self._free.acquire(timeout=max(0.0, end - time.monotonic())):
            held += 1
        for _ in range(held):
            self._free.release()

    def _deliver(self, message: Message) -> None:
        try:
            self._try(message)
        except DatabaseUnavailableError:
            _log.warning("a delivery could not be recorded; it is made again", message=log_id(message.id))
        finally:
            del self._under_way[message.id]
            self._free.release()

    def _try(self, message: Message) -> None:
        log = _log.bind(message=log_id(message.id), attempt=message.attempt)
        try:
            status, error = self._send(message)
        except Exception:
            # A mistake of ours. Counted like any other failure, or it would be made every minute for ever.
            log.exception("a webhook could not be sent")
            status, error = None, OUR_MISTAKE
        if not error:
            self.book.delivered(message, status or 0)
            log.info("webhook delivered", status=status)
            return
        pause_s = self._pause_s(message.attempt)
        self.book.not_delivered(message, status=status, error=error, again_in_s=pause_s)
        if message.secret is None:
            log.error("a webhook's secret was sealed with a key that BLOB_KEYS lacks")
        log.warning("webhook not delivered", status=status, why=error, given_up=pause_s is None)

    def _send(self, message: Message) -> tuple[int | None, str]:
        """The receiver's status, and what is wrong ("": nothing)."""
        if message.secret is None:
            return None, SECRET_UNREADABLE
        body = body_of(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "LesionLens-Webhooks/1",
            **signed_headers(str(message.id), int(self.now()), body, message.secret),
        }
        try:
            target = target_of(message.url, self.allowed, self.resolver)
            status = post(target, body, headers, self.timeout_s)
        except WebhookAddressError as error:
            return None, error.detail
        except (OSError, http.client.HTTPException) as error:
            # The kind alone: the sentence may quote what the receiver sent.
            return None, f"There was no answer ({type(error).__name__})."
        if 200 <= status < 300:
            return status, ""
        if 300 <= status < 400:
            return status, "The receiver redirects; redirects are not followed."
        return status, f"The receiver answered {status}."

    def _pause_s(self, attempt: int) -> float | None:
        if attempt > len(self.pauses_s):
            return None
        jitter = random.uniform(0, JITTER)  # noqa: S311 - spreads load, hides nothing # nosec B311
        return self.pauses_s[attempt - 1] * (1 + jitter)


def body_of(message: Message) -> bytes:
    """What the receiver is told: that and how it ended. The answer itself is fetched with the key, by who holds it."""
    data: dict[str, object] = {}
    if message.event != TEST_EVENT and message.analysis_id is not None:
        own = f"/v1/analyses/{message.analysis_id}"
        data = {"id": str(message.analysis_id), "state": message.event.partition(".")[2], "links": {"self": own}}
        if message.batch_id is not None:
            data["batch"] = {"id": str(message.batch_id)}
    content = {"type": message.event, "timestamp": message.created_at.isoformat(timespec="milliseconds"), "data": data}
    return json.dumps(content, separators=(",", ":")).encode()
