"""`lesionlens dead-letters`: what failed on our side, and another try, by whoever may reach the database."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lesionlens.database import opened_database
from services.analysis.dead_letters import DeadLetter, DeadLetters, Retry
from services.analysis.settings import Settings
from services.analysis.telemetry import log_id

_SENTENCES = {
    Retry.UNKNOWN: "There is no dead letter with this id; `lesionlens dead-letters list` shows them all.",
    Retry.NOT_FAILED: "The analysis is being tried again already, or was.",
    Retry.IMAGE_GONE: "The photograph is no longer stored, so nothing can be tried again.",
}


@click.group("dead-letters")
def dead_letters_command() -> None:
    """List analyses that failed on our side and try them again, in the database of DATABASE_URL or of `make run`."""


@dead_letters_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--all", "retried_too", is_flag=True, help="Those, too, that were tried again since.")
def list_command(*, as_json: bool, retried_too: bool) -> None:
    """List dead letters, the oldest first; of an analysis only the beginning of its id is told."""
    with _dead_letters() as (letters, _):
        found = letters.all(retried_too=retried_too)
    for letter in found:
        told = _told(letter)
        click.echo(json.dumps(told) if as_json else "  ".join("-" if v is None else str(v) for v in told.values()))
    if not found:
        click.echo("There are no dead letters.", err=True)


@dead_letters_command.command()
@click.argument("dead_letter_ids", metavar="ID...", type=click.UUID, nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that were not tried again yet.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def retry(dead_letter_ids: tuple[uuid.UUID, ...], *, every: bool, as_json: bool) -> None:
    """Queue the analyses of these dead letters again, from the beginning and with all their tries.

    Those whose photograph is gone are told as such, and neither listed nor counted any more.

    Exit status 1 when not all of them could be queued.
    """
    if bool(dead_letter_ids) == every:
        raise click.UsageError("Name dead letters, or give --all.")
    with _dead_letters() as (letters, settings):
        ids = dead_letter_ids or tuple(letter.id for letter in letters.all())
        outcomes = {letter_id: letters.retry(letter_id, settings.answer_within_s) for letter_id in ids}
    for letter_id, outcome in outcomes.items():
        if as_json:
            click.echo(json.dumps({"id": str(letter_id), "outcome": outcome.value}))
        else:
            click.echo(f"{letter_id}  {outcome.value}  {_SENTENCES.get(outcome, '')}".rstrip())
    if any(outcome is not Retry.QUEUED for outcome in outcomes.values()):
        raise SystemExit(1)


@contextmanager
def _dead_letters() -> Iterator[tuple[DeadLetters, Settings]]:
    with opened_database() as (engine, settings):
        yield DeadLetters(engine), settings


def _told(letter: DeadLetter) -> dict[str, str | int | bool | None]:
    return {
        "id": str(letter.id),
        "analysis": log_id(letter.analysis_id),
        "stage": letter.stage,
        "reason": letter.reason_code,
        "deliveries": letter.deliveries,
        "created_at": _time(letter.created_at),
        "retried_at": _time(letter.retried_at),
        "image_stored": letter.image_stored,
    }


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="seconds")
