"""Webhooks in PostgreSQL: who is to be told what, and how telling went.

The message that an analysis has ended is recorded in the transaction that ends it (`note_ended`): it is told if and
only if it happened, whatever dies in between. `services/webhooks` takes messages from here and delivers them, each at
least once; the id of a message stays the same, so that a receiver can pass over one that it knows.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    FromClause,
    Row,
    Uuid,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

from services.analysis.database import database_errors
from services.analysis.errors import BlobUnreadableError, TooManyWebhooksError, WebhookNotFoundError
from services.analysis.sealing import Sealing
from services.analysis.states import AnalysisState
from services.analysis.tables import AnalysisRow, ApiKeyRow, WebhookDeliveryRow, WebhookRow

#: What is told; deletion is not, because whoever deletes knows.
ENDS = (AnalysisState.DONE, AnalysisState.REJECTED, AnalysisState.FAILED)
TEST_EVENT = "webhook.test"

#: Addresses one key may name: a program, its staging copy, and room; each costs a message per photograph.
MAX_WEBHOOKS = 10
#: Bytes of a signing secret: as many as SHA-256 gives out (RFC 2104, section 3).
SECRET_BYTES = 32
#: Seconds a taken message is left alone. Longer than one try can take, so that only a dead process' messages come back.
TAKEN_S = 60.0
#: Messages of one key that one deliverer sends at the same time, however many webhooks the key has.
KEYS_SHARE = 2
#: Days the record of a delivery is kept, and how many are shown.
KEPT_D = 30
SHOWN = 100
#: Deliveries forgotten in one statement, which has a time limit.
_FORGET_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told, for one API key."""

    id: uuid.UUID
    url: str
    created_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message that is due now. `attempt` is 1 for the first try; what is written back must name it.

    `secret` is None where none of our keys opens it.
    """

    id: uuid.UUID
    api_key_id: uuid.UUID
    url: str
    secret: bytes | None
    event: str
    created_at: dt.datetime
    attempt: int
    analysis_id: uuid.UUID | None
    batch_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the delivery of one message went so far. `due_at` and `delivered_at` both None: it was given up."""

    id: uuid.UUID
    analysis_id: uuid.UUID | None
    event: str
    created_at: dt.datetime
    attempts: int
    due_at: dt.datetime | None
    delivered_at: dt.datetime | None
    last_status: int | None
    last_error: str | None

    @property
    def state(self) -> str:
        """`delivered`, `waiting` (for its first or next try) or `given_up`."""
        if self.delivered_at is not None:
            return "delivered"
        return "given_up" if self.due_at is None else "waiting"


class WebhookBook:
    """Reads and writes webhooks. Every method is one transaction and raises `DatabaseUnavailableError`.

    Every message is signed with a webhook's secret, so a digest of it would not do: `sealing` encrypts it.
    """

    def __init__(self, engine: Engine, sealing: Sealing | None = None) -> None:
        self._engine = engine
        self._sealing = sealing or Sealing()

    # --- the gateway's side -------------------------------------------------------------------------------------

    def add(self, api_key_id: uuid.UUID, url: str) -> tuple[Webhook, bytes]:
        """A new webhook and its signing secret, which is told here and never again.

        Raises:
            TooManyWebhooksError: the key has as many as it may have.
        """
        secret, webhook_id = secrets.token_bytes(SECRET_BYTES), uuid.uuid4()
        sealed = self._sealing.seal(_sealed_name(webhook_id), secret)
        with self._transaction() as connection:
            # Locked until the commit, so that two at once cannot both be the last one.
            connection.execute(select(ApiKeyRow.id).where(ApiKeyRow.id == api_key_id).with_for_update(key_share=True))
            count = connection.execute(
                select(func.count()).select_from(WebhookRow).where(WebhookRow.api_key_id == api_key_id)
            ).scalar_one()
            if count >= MAX_WEBHOOKS:
                raise TooManyWebhooksError(f"An API key can have at most {MAX_WEBHOOKS} webhooks.")
            row = connection.execute(
                insert(WebhookRow)
                .values(id=webhook_id, api_key_id=api_key_id, url=url, secret=sealed)
                .returning(WebhookRow.id, WebhookRow.url, WebhookRow.created_at)
            ).one()
        return Webhook(row.id, row.url, row.created_at), secret

    def all(self, api_key_id: uuid.UUID) -> tuple[Webhook, ...]:
        """The key's webhooks, the oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(WebhookRow.id, WebhookRow.url, WebhookRow.created_at)
                .where(WebhookRow.api_key_id == api_key_id)
                .order_by(WebhookRow.created_at, WebhookRow.id)
            ).all()
        return tuple(Webhook(row.id, row.url, row.created_at) for row in rows)

    def remove(self, api_key_id: uuid.UUID, webhook_id: uuid.UUID) -> None:
        """Forgets a webhook, its secret and its deliveries.

        Raises:
            WebhookNotFoundError: the key has no such webhook.
        """
        with self._transaction() as connection:
            removed = connection.execute(
                delete(WebhookRow)
                .where(WebhookRow.id == webhook_id, WebhookRow.api_key_id == api_key_id)
                .returning(WebhookRow.id)
            ).first()
        if removed is None:
            raise WebhookNotFoundError

    def test(self, api_key_id: uuid.UUID, webhook_id: uuid.UUID) -> Delivery:
        """Records a test message, to be delivered like any other.

        Raises:
            WebhookNotFoundError: the key has no such webhook.
        """
        with self._transaction() as connection:
            _require(connection, api_key_id, webhook_id)
            row = connection.execute(
                insert(WebhookDeliveryRow)
                .values(id=uuid.uuid4(), webhook_id=webhook_id, event=TEST_EVENT, due_at=func.now())
                .returning(*WebhookDeliveryRow.__table__.columns)
            ).one()
        return _delivery(row)

    def deliveries(self, api_key_id: uuid.UUID, webhook_id: uuid.UUID) -> tuple[Delivery, ...]:
        """The latest deliveries of a webhook, the newest first.

        Raises:
            WebhookNotFoundError: the key has no such webhook.
        """
        with self._transaction() as connection:
            _require(connection, api_key_id, webhook_id)
            rows = connection.execute(
                select(*WebhookDeliveryRow.__table__.columns)
                .where(WebhookDeliveryRow.webhook_id == webhook_id)
                .order_by(WebhookDeliveryRow.created_at.desc(), WebhookDeliveryRow.id)
                .limit(SHOWN)
            ).all()
        return tuple(map(_delivery, rows))

    # --- the deliverer's side -----------------------------------------------------------------------------------

    def take_due(self, limit: int, under_way: Sequence[uuid.UUID] = ()) -> tuple[Message, ...]:
        """Messages to be sent now, at most `limit`. Each is this caller's alone for `TAKEN_S` seconds.

        `under_way` are the keys whose messages the caller is sending already, each key once for each message. With
        those no key gets more than `KEYS_SHARE`: receivers that are silent hold up their own key's messages, nobody
        else's.

        Several deliverers may ask at once. Nothing is sent for a key that was revoked.
        """
        # The first few of each webhook, by its index: looking at all that is due took the longer, the more waited.
        first = (
            select(WebhookDeliveryRow.id, WebhookDeliveryRow.due_at)
            .where(WebhookDeliveryRow.webhook_id == WebhookRow.id, WebhookDeliveryRow.due_at <= func.now())
            .order_by(WebhookDeliveryRow.due_at)
            .limit(KEYS_SHARE)
            .with_for_update(skip_locked=True)
            .lateral("first")
        )
        place = func.row_number().over(partition_by=WebhookRow.api_key_id, order_by=first.c.due_at)
        taken_up = func.cardinality(func.array_positions(literal(list(under_way), ARRAY(Uuid)), WebhookRow.api_key_id))
        placed = (
            select(first.c.id, first.c.due_at, (place + taken_up).label("place"))
            .select_from(WebhookRow)
            .join(ApiKeyRow, ApiKeyRow.id == WebhookRow.api_key_id)
            .join(first, true())
            .where(ApiKeyRow.revoked_at.is_(None))
            .subquery("placed")
        )
        due = (
            select(placed.c.id)
            .where(placed.c.place <= KEYS_SHARE)
            .order_by(placed.c.place, placed.c.due_at)
            .limit(limit)
            .cte("due")
            .prefix_with("MATERIALIZED")
        )
        with self._transaction() as connection:
            taken = connection.execute(
                update(WebhookDeliveryRow)
                .where(WebhookDeliveryRow.id == due.c.id)
                .values(due_at=_in_seconds(TAKEN_S), attempts=WebhookDeliveryRow.attempts + 1)
                .returning(WebhookDeliveryRow.id)
            ).scalars()
            rows = connection.execute(
                select(
                    WebhookDeliveryRow.id,
                    WebhookRow.id.label("webhook_id"),
                    WebhookRow.api_key_id,
                    WebhookRow.url,
                    WebhookRow.secret,
                    WebhookDeliveryRow.event,
                    WebhookDeliveryRow.created_at,
                    WebhookDeliveryRow.attempts,
                    WebhookDeliveryRow.analysis_id,
                    AnalysisRow.batch_id,
                )
                .join(WebhookRow, WebhookRow.id == WebhookDeliveryRow.webhook_id)
                .join(AnalysisRow, AnalysisRow.id == WebhookDeliveryRow.analysis_id, isouter=True)
                .where(WebhookDeliveryRow.id.in_(list(taken)))
                .order_by(WebhookDeliveryRow.created_at)
            ).all()
        return tuple(
            Message(
                id=row.id,
                api_key_id=row.api_key_id,
                url=row.url,
                secret=self._opened(row.webhook_id, row.secret),
                event=row.event,
                created_at=row.created_at,
                attempt=row.attempts,
                analysis_id=row.analysis_id,
                batch_id=row.batch_id,
            )
            for row in rows
        )

    def delivered(self, message: Message, status: int) -> None:
        """The receiver took it."""
        self._write_back(message, {"delivered_at": func.now(), "due_at": None, "last_status": status})

    def not_delivered(self, message: Message, *, status: int | None, error: str, again_in_s: float | None) -> None:
        """The receiver did not take it: tried again after `again_in_s` seconds, or (None) given up."""
        due_at = None if again_in_s is None else _in_seconds(again_in_s)
        self._write_back(message, {"due_at": due_at, "last_status": status, "last_error": error})

    def seal_anew(self) -> int:
        """Seals secrets with the newest key that older ones have sealed, or that were stored before there was any.

        Afterwards an older key may go. What none of our keys opens stays as it is.

        Returns:
            How many it were.
        """
        with self._transaction() as connection:
            old = [
                (webhook_id, secret)
                for webhook_id, stored in connection.execute(
                    select(WebhookRow.id, WebhookRow.secret).order_by(WebhookRow.id).with_for_update()
                )
                if not self._sealing.is_newest(stored) and (secret := self._opened(webhook_id, stored)) is not None
            ]
            for webhook_id, secret in old:
                sealed = self._sealing.seal(_sealed_name(webhook_id), secret)
                connection.execute(update(WebhookRow).where(WebhookRow.id == webhook_id).values(secret=sealed))
        return len(old)

    def forget_old(self) -> int:
        """Deletes the record of deliveries that ended long ago, and revoked keys' webhooks with all of theirs.

        Returns:
            How many deliveries, for they are deleted a part at a time; 0: nothing is left.
        """
        revoked: Any = (
            select(WebhookRow.id)
            .join(ApiKeyRow, ApiKeyRow.id == WebhookRow.api_key_id)
            .where(ApiKeyRow.revoked_at.is_not(None))
        )
        ended_long_ago = and_(
            WebhookDeliveryRow.due_at.is_(None),
            WebhookDeliveryRow.created_at < func.now() - func.make_interval(0, 0, 0, KEPT_D),
        )
        old: Any = (
            select(WebhookDeliveryRow.id)
            .where(or_(ended_long_ago, WebhookDeliveryRow.webhook_id.in_(revoked)))
            .limit(_FORGET_AT_ONCE)
        )
        has_deliveries = exists().where(WebhookDeliveryRow.webhook_id == WebhookRow.id)
        with self._transaction() as connection:
            deleted = connection.execute(
                delete(WebhookDeliveryRow)
                .where(WebhookDeliveryRow.id.in_(old.scalar_subquery()))
                .returning(WebhookDeliveryRow.id)
            ).all()
            connection.execute(delete(WebhookRow).where(WebhookRow.id.in_(revoked), ~has_deliveries))
        return len(deleted)

    def _opened(self, webhook_id: uuid.UUID, stored: bytes) -> bytes | None:
        # From before there was a key: whoever encrypted images already need not say `plain` for them, so that an update
        # stops no webhook. By its length, for a random secret may begin like a sealed one.
        if len(stored) == SECRET_BYTES:
            return stored
        try:
            return self._sealing.open(_sealed_name(webhook_id), stored)
        except BlobUnreadableError:
            return None

    def _write_back(self, message: Message, values: dict[str, Any]) -> None:
        # Of two that sent it, one after the other's time was over, the later one's word counts.
        with self._transaction() as connection:
            connection.execute(
                update(WebhookDeliveryRow)
                .where(WebhookDeliveryRow.id == message.id, WebhookDeliveryRow.attempts == message.attempt)
                .values(values)
            )

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database_errors(), self._engine.begin() as connection:
            yield connection


def _sealed_name(webhook_id: uuid.UUID) -> str:
    """What a secret is bound to, so that a row's secret cannot be put into another row."""
    return f"webhooks/{webhook_id}"


def note_ended(connection: Connection, analysis_id: uuid.UUID) -> None:
    """Records a message for every webhook of the analysis' API key, if it has ended. Part of its transaction."""
    ended = select(AnalysisRow.id, AnalysisRow.state, AnalysisRow.api_key_id).where(
        AnalysisRow.id == analysis_id, AnalysisRow.state.in_(ENDS)
    )
    connection.execute(messages_of(ended.subquery()))


def messages_of(ended: FromClause) -> Insert:
    """Records a message for every webhook of the API keys of `ended` (`id`, `state` and `api_key_id` of analyses)."""
    messages = select(
        func.gen_random_uuid(),
        WebhookRow.id,
        ended.c.id,
        literal("analysis.").concat(ended.c.state.cast(WebhookDeliveryRow.event.type)),
        func.now(),
    ).join_from(ended, WebhookRow, WebhookRow.api_key_id == ended.c.api_key_id)
    columns = ["id", "webhook_id", "analysis_id", "event", "due_at"]
    return upsert(WebhookDeliveryRow).from_select(columns, messages).on_conflict_do_nothing()


def _require(connection: Connection, api_key_id: uuid.UUID, webhook_id: uuid.UUID) -> None:
    found = connection.execute(
        select(WebhookRow.id).where(WebhookRow.id == webhook_id, WebhookRow.api_key_id == api_key_id)
    ).first()
    if found is None:
        raise WebhookNotFoundError


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        analysis_id=row.analysis_id,
        event=row.event,
        created_at=row.created_at,
        attempts=row.attempts,
        due_at=row.due_at,
        delivered_at=row.delivered_at,
        last_status=row.last_status,
        last_error=row.last_error,
    )


def _in_seconds(seconds: float) -> Any:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
