"""Numbers and dates as the reader's language writes them: filters of the templates."""

from __future__ import annotations

import datetime as dt

from flask_babel import format_date, format_decimal, format_percent


def percentage(share: float) -> str:
    """A share of 0–1 in per cent, as the language writes it; below one per cent with “<”, above 99 with “>”."""
    if 0 < share < 0.01:
        return "< " + str(format_percent(0.01))
    if 0.99 < share < 1:
        return "> " + str(format_percent(0.99))
    return str(format_percent(share))


def number(count: int) -> str:
    """A count as the language writes it."""
    return str(format_decimal(count))


def day(moment: dt.datetime) -> str:
    """A date as the language writes it."""
    return str(format_date(moment, "long"))
