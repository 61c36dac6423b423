"""What headers and settings are taken to mean."""

from __future__ import annotations

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from services.analysis.settings import load_settings
from services.gateway.policy import POLLS, UNLIMITED, UPLOADS
from services.gateway.rate_limits import limit_in_force
from services.gateway.waiting import MAX_WAIT_S, preferred_wait_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ("Wait=7; foo=bar", 7),
        ('wait="3"', 3),
        ("wait = 4", 4),
        ("wait=3600", MAX_WAIT_S),
        ("wait=99999999999999", 0),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("await=10", 0),
        ("", 0),
    ],
)
def test_prefer_wait(header, seconds):
    request = Request(EnvironBuilder(headers={"Prefer": header}).get_environ())
    assert preferred_wait_s(request) == seconds


def test_limits_come_from_settings_or_from_the_route():
    settings = load_settings({"UPLOADS_PER_MINUTE": "7", "POLLS_PER_MINUTE": "9"})
    assert limit_in_force(UPLOADS, settings) == "7/minute"
    assert limit_in_force(POLLS, settings) == "9/minute"
    assert limit_in_force("60/minute", settings) == "60/minute"
    assert limit_in_force(UNLIMITED, settings) is None
