"""A reminder to photograph the spot again, as an iCalendar file (RFC 5545)."""

from __future__ import annotations

import datetime as dt

#: A content line has at most 75 octets, without its line break (RFC 5545, 3.1).
LINE_OCTETS = 75


def calendar_file(uid: str, day: dt.date, stamp: dt.datetime, summary: str, description: str) -> bytes:
    """An all-day event on `day` with an alarm at nine in the morning.

    The texts must not tell anything about the person's health: calendars are shared and shown on lock screens.
    """
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//LesionLens//Reminder//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        "BEGIN:VEVENT",
        f"UID:{uid}",
        f"DTSTAMP:{stamp.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}",
        f"DTSTART;VALUE=DATE:{day:%Y%m%d}",
        f"DTEND;VALUE=DATE:{day + dt.timedelta(days=1):%Y%m%d}",
        f"SUMMARY:{_escaped(summary)}",
        f"DESCRIPTION:{_escaped(description)}",
        "TRANSP:TRANSPARENT",
        "BEGIN:VALARM",
        "ACTION:DISPLAY",
        f"DESCRIPTION:{_escaped(summary)}",
        "TRIGGER:PT9H",
        "END:VALARM",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return b"".join(_folded(line) for line in lines)


def _escaped(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), (";", "\\;"), (",", "\\,"), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return text


def _folded(line: str) -> bytes:
    """The line with breaks so that no part exceeds `LINE_OCTETS`, never inside a character."""
    parts: list[bytes] = []
    part = b""
    for character in line:
        octets = character.encode()
        # Every part but the first begins with a space, which counts.
        if len(part) + len(octets) > LINE_OCTETS - (1 if parts else 0):
            parts.append(part)
            part = b""
        part += octets
    return b"\r\n ".join([*parts, part]) + b"\r\n"
