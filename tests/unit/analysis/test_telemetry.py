"""A log line tells analyses apart without opening them."""

from __future__ import annotations

import uuid

from services.analysis.telemetry import log_id


def test_a_logged_id_keeps_most_of_its_bits_to_itself() -> None:
    analysis_id = uuid.uuid4()
    assert str(analysis_id).startswith(log_id(analysis_id))
    assert len(log_id(analysis_id)) * 4 <= 32
