"""Load, faults at random moments, and the verdict: nothing lost, nothing doubled, nothing stuck."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
import tenacity

from tests.chaos.faults import Fault
from tests.chaos.load import DIFFERENT, SteadyLoad
from tests.chaos.world import World
from tests.conftest import lesion_photograph
from tests.e2e.product import eventually

#: Seconds in which the service must answer a new upload once a fault is over.
RECOVERY_S = 30.0
#: Seconds that are waited for it all the same, so that the table says how long it took.
PATIENCE_S = 400.0
#: Seconds after the last upload in which everything must have ended.
DRAIN_S = 180.0
#: Probabilities of one photograph may differ by this much: sums are taken in another order.
SAME = 1e-5


@dataclass(frozen=True)
class Event:
    """A fault that was survived, or not."""

    fault: str
    at_s: float
    what: str
    recovery_s: float


@dataclass
class Verdict:
    """What the database says in the end."""

    uploads: int
    lost: int
    doubled: int
    stuck: int
    wrong: int
    failed: dict[str, int]
    states: dict[str, int]
    events: list[Event] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def slow(self) -> list[Event]:
        return [event for event in self.events if event.recovery_s > RECOVERY_S]

    @property
    def complaints(self) -> list[str]:
        found = [f"{name}: {n}" for name, n in self._counts.items() if n]
        found += [f"{event.fault}: recovery took {event.recovery_s:.1f} s" for event in self.slow]
        return found + [f"unexpected answer: {answer}" for answer in self.unexpected]

    @property
    def _counts(self) -> dict[str, int]:
        return {
            "lost": self.lost, "doubled": self.doubled, "stuck": self.stuck, "wrong": self.wrong,
            "failed": sum(self.failed.values()),
        }  # fmt: skip

    def table(self, seed: int) -> str:
        lines = ["| # | at | fault | what | answered again after |", "| ---: | ---: | --- | --- | ---: |"]
        lines += [
            f"| {number} | {event.at_s:.0f} s | {event.fault} | {event.what} | {event.recovery_s:.1f} s |"
            for number, event in enumerate(self.events, 1)
        ]
        counts = ", ".join(f"{n} {name}" for name, n in self._counts.items())
        longest = max((event.recovery_s for event in self.events), default=0.0)
        lines.append(
            f"\nseed {seed}: {self.uploads} accepted uploads, {len(self.events)} faults, {counts};"
            f" longest recovery {longest:.1f} s; {self.took_s:.0f} s in all; ends: {self.states}; failed: {self.failed}"
        )
        return "\n".join(lines)


def tell(
    world: World,
    faults: Sequence[Fault],
    seed: int,
    uploads: int,
    per_s: float,
    pauses_s: float,
    say: Callable[[str], object] = lambda _: None,
) -> Verdict:
    """Runs the load and lets the faults happen, in an order and at moments that the seed decides."""
    chance = random.Random(seed)
    order = list(faults)
    chance.shuffle(order)
    begin = time.monotonic()
    with world.database() as connection:
        since = connection.execute(sa.text("SELECT now()")).scalar_one()
    load = SteadyLoad(world.product.base_url, uploads, per_s)
    load.start()
    events = []
    probes: list[str] = []
    for number, fault in enumerate(order):
        time.sleep(chance.uniform(0.2, pauses_s))
        at_s = time.monotonic() - begin
        what = eventually(lambda fault=fault: fault.happen(world, chance), 60)
        over = time.monotonic()
        probes.append(_answered(world, seed * 1_000 + number))
        events.append(Event(fault.name, at_s, what, time.monotonic() - over))
        say(f"{events[-1]}, {len(load.accepted)} accepted\n")
    load.join()
    ids = [upload.analysis_id for upload in load.accepted]
    _drain(world)
    verdict = judge(world, ids, {upload.analysis_id: upload.number for upload in load.accepted}, probes, since)
    verdict.events, verdict.unexpected = events, load.unexpected
    verdict.took_s = time.monotonic() - begin
    return verdict


def _answered(world: World, seed: int) -> str:
    """Sends a new photograph until it is accepted, and waits for its end."""
    image = lesion_photograph(seed % 2**31)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(PATIENCE_S),
        wait=tenacity.wait_fixed(0.1),
        retry=tenacity.retry_if_exception_type(),
    )
    with contextlib.suppress(tenacity.RetryError):
        analysis_id: str = retrying(world.product.accepted, image, force="true")
        eventually(lambda: world.product.analysis(analysis_id)["state"] in ("done", "rejected", "failed"), PATIENCE_S)
        return analysis_id
    return ""


def _drain(world: World) -> None:
    def nothing_left() -> bool:
        with world.database() as connection:
            return not connection.execute(sa.text("SELECT count(*) FROM analysis WHERE due_at IS NOT NULL")).scalar()

    with contextlib.suppress(tenacity.RetryError):
        eventually(nothing_left, DRAIN_S)


def judge(
    world: World, ids: Sequence[str], photographs: dict[str, int], probes: Sequence[str], since: dt.datetime
) -> Verdict:
    """Counts in the database what became of the accepted uploads."""
    with world.database() as connection:

        def rows(statement: str) -> list[sa.Row]:
            return list(connection.execute(sa.text(statement), {"ids": list(ids), "since": since}))

        mine = "FROM analysis WHERE id::text = ANY(:ids)"
        states = dict(rows(f"SELECT state::text, count(*) {mine} GROUP BY 1"))
        known = {row[0] for row in rows(f"SELECT id::text {mine}")}
        stuck = rows("SELECT count(*) FROM analysis WHERE due_at IS NOT NULL AND created_at >= :since")[0][0]
        endings = rows("SELECT analysis_id::text, count(*) FROM chaos_ending GROUP BY 1 HAVING count(*) > 1")
        without_end = rows(
            f"SELECT count(*) {mine} AND due_at IS NULL AND NOT EXISTS"
            " (SELECT FROM chaos_ending WHERE analysis_id = analysis.id)"
        )[0][0]
        opinions = rows(
            f"SELECT id FROM (SELECT id {mine} AND state = 'done') AS mine LEFT JOIN prediction ON analysis_id = id"
            " GROUP BY id HAVING count(network) <> 4"
        )
        rows_in_all = rows("SELECT count(*) FROM analysis WHERE created_at >= :since")[0][0]
        failed = dict(
            rows(
                "SELECT reason_code, count(*) FROM analysis WHERE state = 'failed' AND created_at >= :since GROUP BY 1"
            )
        )
        unburied = rows(
            "SELECT count(*) FROM analysis WHERE state = 'failed' AND created_at >= :since"
            " AND NOT EXISTS (SELECT FROM dead_letter WHERE analysis_id = analysis.id)"
        )[0][0]
        answers = rows(f"SELECT id::text, state::text, probability {mine} AND due_at IS NULL AND state <> 'failed'")
    # Rows that nobody was told of: one upload, accepted twice. (A probe may have been sent again without a key.)
    surplus = max(0, rows_in_all - len(known) - 2 * len(probes))
    return Verdict(
        uploads=len(ids),
        lost=len(set(ids) - known) + without_end + unburied + (len(ids) - len(set(ids))),
        doubled=len(endings) + surplus,
        stuck=stuck,
        wrong=len(opinions) + _differing(answers, photographs),
        failed=failed,
        states=states,
    )


def _differing(answers: Sequence[sa.Row], photographs: dict[str, int]) -> int:
    """Answers that are not the first one the same photograph got."""
    first: dict[int, tuple[str, float]] = {}
    differing = 0
    for analysis_id, state, probability in answers:
        answer = (state, probability or 0.0)
        seen = first.setdefault(photographs[analysis_id] % DIFFERENT, answer)
        differing += seen[0] != answer[0] or abs(seen[1] - answer[1]) > SAME
    return differing
