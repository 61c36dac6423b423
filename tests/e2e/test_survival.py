"""Any process may be killed at any moment: nothing accepted is lost, nothing is answered twice."""

from __future__ import annotations

import os
import signal

import pytest
import sqlalchemy as sa

from tests.conftest import lesion_photograph
from tests.e2e.product import READY_WITHIN_S, Product, eventually

IN_FLIGHT = 20


def test_killing_the_stacker_loses_no_upload_and_doubles_no_result(product: Product) -> None:
    photographs = [lesion_photograph(100 + number) for number in range(IN_FLIGHT)]

    ids = product.accept_at_once(photographs, force="true")
    unfinished = [analysis_id for analysis_id in ids if product.analysis(analysis_id)["state"] != "done"]
    assert unfinished, "all were done before the stacker could be killed: nothing would be tested"
    kill(product, "stacker")

    answers = [product.ended(analysis_id) for analysis_id in ids]
    assert [answer["state"] for answer in answers] == ["done"] * IN_FLIGHT
    assert predictions(product, ids) == dict.fromkeys(ids, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["networks", "beat"])  # the others die in test_chaos.py
def test_what_is_killed_comes_back_and_works(product: Product, name: str) -> None:
    before = product.accepted_once_back(lesion_photograph(200), force="true")

    kill(product, name)

    eventually(product.is_ready, READY_WITHIN_S)
    # Ready is an answer of up to a second ago, so the very next upload may still be told "not now".
    after = product.accepted_once_back(lesion_photograph(201), force="true")
    assert product.ended(after)["state"] == "done"
    answer = product.ended(before)
    if name == "networks" and answer["state"] == "failed":
        # Tried as often as is allowed while they were away: a failure that says so is what was promised.
        assert answer["reason"]["sentence"]
    else:
        assert answer["state"] == "done"


def kill(product: Product, name: str) -> None:
    """SIGKILL, and wait until another process runs in its place."""
    pid = product.pid_of(name)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: product.pid_of(name) != pid, READY_WITHIN_S)


def predictions(product: Product, ids: list[str]) -> dict[str, int]:
    """How many opinions of networks are recorded for each analysis."""
    url = f"postgresql+psycopg2://postgres@/lesionlens?host={product.folder}/run/postgres"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT analysis_id::text, count(*) FROM prediction"
                " WHERE analysis_id::text = ANY(:ids) GROUP BY analysis_id"
            ),
            {"ids": ids},
        )
        return {row[0]: row[1] for row in rows}
