"""What a person at a terminal reads when a command cannot go on: the same way for every command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from services.analysis.errors import BlobStoreUnavailableError, LesionLensError, ServiceUnavailableError


@contextmanager
def refusals() -> Iterator[None]:
    """Ends the command with a sentence where it meets an expected failure."""
    try:
        yield
    except LesionLensError as error:
        raise click.ClickException(told(error)) from error


def told(error: LesionLensError) -> str:
    """What happened and what to do, in whole sentences."""
    return f"{sentence(error.detail)} {advice(error)}"


def advice(error: LesionLensError) -> str:
    """What to do about it here; a part that is away has advice for clients of the API, who cannot start it."""
    if isinstance(error, BlobStoreUnavailableError):
        return "Check BLOB_STORE_URL, and that you may write there."
    if isinstance(error, ServiceUnavailableError):
        return "Start `make run` in this folder, or check DATABASE_URL."
    return error.advice


def sentence(detail: str) -> str:
    """With a full stop, as what comes next is a sentence of its own."""
    return detail if detail.endswith((".", "!", "?")) else f"{detail}."
