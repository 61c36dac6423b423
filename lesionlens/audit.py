"""`lesionlens audit`: what was done by whom and when, for whoever may reach the database."""

from __future__ import annotations

import datetime as dt
import json

import click

from lesionlens.database import opened_database
from services.analysis.audit import AuditEvent, AuditLog


@click.command("audit")
@click.option("--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Moment in UTC; default: all.")
@click.option("--limit", type=click.IntRange(min=1), default=1_000, show_default=True, help="The newest lines.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def audit_command(since: dt.datetime | None, limit: int, *, as_json: bool) -> None:
    """Read the audit log: when, who (an API key's id, or `anonymous`), what, of which analysis, with what outcome."""
    moment = None if since is None else since.replace(tzinfo=dt.UTC)
    with opened_database() as (engine, _):
        for event in AuditLog(engine).events(moment, limit):
            told = _told(event)
            click.echo(json.dumps(told) if as_json else "  ".join(value or "-" for value in told.values()))


def _told(event: AuditEvent) -> dict[str, str | None]:
    return {
        "at": None if event.at is None else event.at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "who": str(event.actor) if event.actor else "anonymous",
        "what": event.action,
        "subject": event.subject,
        "outcome": event.outcome,
    }
