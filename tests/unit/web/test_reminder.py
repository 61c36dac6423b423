"""The reminder: a calendar file any calendar reads, which tells nobody why."""

from __future__ import annotations

import datetime as dt

import pytest

from services.analysis.results import Band
from services.gateway.web.reminder import calendar_file


def unfolded(content: bytes) -> list[str]:
    return content.replace(b"\r\n ", b"").decode().split("\r\n")


def example(summary="Take the photo again", description="Same place"):
    moment = dt.datetime(2026, 12, 1, 8, tzinfo=dt.UTC)
    return calendar_file("1@lesionlens", dt.date(2026, 12, 31), moment, summary, description)


def test_it_is_one_all_day_event_with_an_alarm():
    lines = unfolded(example())
    assert lines[0] == "BEGIN:VCALENDAR"
    assert "DTSTART;VALUE=DATE:20261231" in lines
    assert "DTEND;VALUE=DATE:20270101" in lines
    assert "DTSTAMP:20261201T080000Z" in lines
    assert lines.count("BEGIN:VALARM") == 1
    assert lines[-2:] == ["END:VCALENDAR", ""]


def test_texts_are_escaped_and_long_lines_folded_between_characters():
    content = example(description="a; b, c\\d\n" + "é€😀" * 40)
    assert all(len(line) <= 75 for line in content.split(b"\r\n"))
    assert "DESCRIPTION:a\\; b\\, c\\\\d\\n" + "é€😀" * 40 in unfolded(content)


@pytest.mark.parametrize(("asked", "weeks"), [("6", 6), ("0", 1), ("9999", 52), ("soon", 6)])
def test_it_is_due_in_the_asked_number_of_weeks_within_reason(client, desk, asked, weeks):
    before = dt.datetime.now(dt.UTC).date()
    response = client.get(f"/analyses/{desk.add_done().id}/reminder.ics?weeks={asked}")
    days = {f"DTSTART;VALUE=DATE:{day + dt.timedelta(weeks=weeks):%Y%m%d}" for day in (before, dt.datetime.now(dt.UTC))}
    assert response.mimetype == "text/calendar"
    assert days & set(unfolded(response.get_data()))


def test_it_is_the_same_event_each_time_and_opens_nothing(client, desk):
    analysis_id = desk.add_done().id
    first, second = (client.get(f"/analyses/{analysis_id}/reminder.ics").get_data(as_text=True) for _ in range(2))
    (uid,) = {line for text in (first, second) for line in text.splitlines() if line.startswith("UID:")}
    assert uid.endswith("@lesionlens")
    assert str(analysis_id) not in first


@pytest.mark.parametrize(("band", "weeks"), [(Band.LOW, 6), (Band.UNSURE, 2), (Band.HIGH, 1)])
def test_it_never_comes_later_than_the_visit_that_is_advised(client, desk, read, band, weeks):
    page = read(client.get(f"/analyses/{desk.add_done(band).id}"))
    (link,) = (link["href"] for link in page.all("a") if "reminder.ics" in (link["href"] or ""))
    assert link.endswith(f"?weeks={weeks}")


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_it_does_not_tell_why(client, desk, language):
    address = f"/analyses/{desk.add_done().id}/reminder.ics"
    content = client.get(address, headers={"Accept-Language": language}).get_data(as_text=True).lower()
    assert not any(word in content for word in ("cancer", "krebs", "cáncer", "malign", "bösartig", "%", "risk"))
