"""`lesionlens keys`: API keys, by whoever may reach the database."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lesionlens.database import opened_database
from services.analysis.keys import ApiKey, KeyRing, Scope


@click.group("keys")
def keys_command() -> None:
    """Make, list and revoke API keys, in the database named by DATABASE_URL or the one of `make run`."""


@keys_command.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key is for; may be given several times. Default: everything.",
)
@click.option("--daily-quota", type=click.IntRange(min=1), help="Photographs a day (UTC). Default: any number.")
@click.option(
    "--per-minute",
    type=click.IntRange(min=1),
    help="Photographs a minute, alone or in batches. Default: UPLOADS_PER_MINUTE, as for an address.",
)
def create(name: str, scopes: tuple[str, ...], daily_quota: int | None, per_minute: int | None) -> None:
    """Make a key called NAME and print it: this once, for only its digest is kept."""
    wanted = tuple(map(Scope, scopes)) or tuple(Scope)
    with _key_ring() as ring:
        key, token = ring.create(name, wanted, daily_quota, per_minute)
    click.echo(f"{key.name} ({key.id}). Keep it safe, it is shown only now:", err=True)
    click.echo(token)


@keys_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_command(*, as_json: bool) -> None:
    """List all keys, revoked ones too; never what they are opened with."""
    with _key_ring() as ring:
        keys = ring.keys()
    for key in keys:
        told = _told(key)
        click.echo(json.dumps(told) if as_json else "  ".join(str(value or "-") for value in told.values()))
    if not keys:
        click.echo("There are no keys. Make one: lesionlens keys create NAME", err=True)


@keys_command.command()
@click.argument("key_id", metavar="ID", type=click.UUID)
def revoke(key_id: uuid.UUID) -> None:
    """Revoke the key with this ID, at once and for good.

    What was sent in with it stays for its retention time, seen by nobody.
    """
    with _key_ring() as ring:
        found = ring.revoke(key_id)
    if not found:
        raise click.ClickException("There is no key with this id; `lesionlens keys list` shows them all.")


@contextmanager
def _key_ring() -> Iterator[KeyRing]:
    with opened_database() as (engine, _):
        yield KeyRing(engine)


def _told(key: ApiKey) -> dict[str, str | int | None]:
    return {
        "id": str(key.id),
        "name": key.name,
        "scopes": ",".join(sorted(key.scopes)),
        "daily_quota": key.daily_quota,
        "uploads_per_minute": key.uploads_per_minute,
        "created_at": _time(key.created_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="seconds")
