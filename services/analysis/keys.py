"""API keys: made, listed, revoked, and recognised.

A token is `ll_` and 64 characters: 16 bytes that name the key and 32 random ones that prove it, as URL-safe base64.
Only SHA-256 of the 32 is stored. A slow, salted hash is for passwords, which people choose from few; nobody finds 256
random bits by trying, so a quick digest gives the reader of a stolen table nothing either, and costs a request nothing.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from services.analysis.database import database_errors
from services.analysis.tables import ApiKeyRow

TOKEN_PREFIX = "ll_"  # noqa: S105 - what tells a token of ours from others, for people and secret scanners
#: Random bytes of a token: 256 bits.
SECRET_BYTES = 32
_ID_BYTES = 16

#: Seconds that "last used" may lag behind, so that polling does not write a row each time.
LAST_USED_LAG_S = 60

#: What an unknown key's secret is compared with, so that it takes as long as a known one's.
_NO_DIGEST = bytes(hashlib.sha256().digest_size)


class Scope(StrEnum):
    """What a key may be used for."""

    READ = "analyses:read"
    WRITE = "analyses:write"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. `daily_quota` counts photographs from midnight to midnight, UTC; None: as many as one likes.

    `uploads_per_minute` takes the place of the setting for one address; None: the same number as there.
    """

    id: uuid.UUID
    name: str
    scopes: frozenset[Scope]
    daily_quota: int | None
    uploads_per_minute: int | None
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class KeyRing:
    """The keys in PostgreSQL. Every method is one transaction and raises `DatabaseUnavailableError`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        name: str,
        scopes: Collection[Scope] = tuple(Scope),
        daily_quota: int | None = None,
        uploads_per_minute: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its token, which is told here and never again."""
        secret = secrets.token_bytes(SECRET_BYTES)
        with self._transaction() as connection:
            row = connection.execute(
                insert(ApiKeyRow)
                .values(
                    id=uuid.uuid4(),
                    name=name,
                    secret_digest=hashlib.sha256(secret).digest(),
                    scopes=sorted(scopes),
                    daily_quota=daily_quota,
                    uploads_per_minute=uploads_per_minute,
                )
                .returning(*ApiKeyRow.__table__.columns)
            ).one()
        key = _key(row)
        return key, TOKEN_PREFIX + base64.urlsafe_b64encode(key.id.bytes + secret).decode()

    def keys(self) -> tuple[ApiKey, ...]:
        """All keys, revoked ones too, the oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(select(*ApiKeyRow.__table__.columns).order_by(ApiKeyRow.created_at)).all()
        return tuple(map(_key, rows))

    def revoke(self, key_id: uuid.UUID) -> bool:
        """From now on the key opens nothing; False when there is none with this id. This is idempotent."""
        with self._transaction() as connection:
            found = connection.execute(
                update(ApiKeyRow)
                .where(ApiKeyRow.id == key_id)
                .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.now()))
                .returning(ApiKeyRow.id)
            ).first()
        return found is not None

    def recognise(self, token: str) -> ApiKey | None:
        """The key a token belongs to, unless it was revoked."""
        parsed = _parse(token)
        if parsed is None:
            return None
        key_id, secret = parsed
        with self._transaction() as connection:
            row = connection.execute(select(*ApiKeyRow.__table__.columns).where(ApiKeyRow.id == key_id)).first()
            # In constant time, and also when there is no such key.
            stored = _NO_DIGEST if row is None else row.secret_digest
            proved = hmac.compare_digest(stored, hashlib.sha256(secret).digest())
            if row is None or not proved or row.revoked_at is not None:
                return None
            _note_use(connection, row)
        return _key(row)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database_errors(), self._engine.begin() as connection:
            yield connection


def _parse(token: str) -> tuple[uuid.UUID, bytes] | None:
    if not token.startswith(TOKEN_PREFIX):
        return None
    try:
        content = base64.b64decode(token.removeprefix(TOKEN_PREFIX).encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    if len(content) != _ID_BYTES + SECRET_BYTES:
        return None
    return uuid.UUID(bytes=content[:_ID_BYTES]), content[_ID_BYTES:]


def _note_use(connection: Connection, row: Row[Any]) -> None:
    lag = dt.timedelta(seconds=LAST_USED_LAG_S)
    if row.last_used_at is None or row.last_used_at < dt.datetime.now(dt.UTC) - lag:
        connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == row.id).values(last_used_at=func.now()))


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(map(Scope, row.scopes)),
        daily_quota=row.daily_quota,
        uploads_per_minute=row.uploads_per_minute,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
