"""What goes wrong. Each fault begins, lasts, and is over when its function returns; then the service has to recover."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil
import sqlalchemy as sa

from services.analysis.results import NETWORKS
from tests.chaos.world import World, wait_for_database

#: Seconds a full disk, a slow and a silent endpoint last.
DISK_FULL_S = 8.0
SLOW_S = 15.0
SILENT_S = 20.0
#: Seconds by which each piece of a slow endpoint's traffic is late: an answer takes some seconds, within its deadline.
SLOW_BY_S = 1.0


@dataclass(frozen=True)
class Fault:
    """`happen` makes it, and returns what it did."""

    name: str
    happen: Callable[[World, random.Random], str]


def kill(name: str) -> Fault:
    def happen(world: World, chance: random.Random) -> str:
        world.kill(name)
        return "SIGKILL"

    return Fault(f"kill {name}", happen)


def kill_worker(name: str) -> Fault:
    """One working process, not the one that starts them: whatever it holds stays leased to nobody."""

    def happen(world: World, chance: random.Random) -> str:
        chance.choice(world.worker_processes(name)).kill()
        return "SIGKILL to a working process"

    return Fault(f"kill {name}'s child", happen)


def pause(name: str, seconds: float) -> Fault:
    """It wakes up with a lease that is over, and must not finish what somebody else has begun."""

    def happen(world: World, chance: random.Random) -> str:
        below = [] if name in ("valkey", "postgres") else world.worker_processes(name)
        process = chance.choice(below) if below else psutil.Process(world.product.pid_of(name))
        process.suspend()
        time.sleep(seconds)
        with contextlib.suppress(psutil.NoSuchProcess):  # Celery ends a process that exceeds its hard limit
            process.resume()
        return f"SIGSTOP for {seconds:g} s"

    return Fault(f"pause {name}", happen)


def full_disk(world: World, chance: random.Random) -> str:
    assert world.disk is not None
    filler = world.disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 1_000_000)
    time.sleep(DISK_FULL_S)
    filler.unlink()
    return f"full for {DISK_FULL_S:g} s"


def slow(name: str) -> Fault:
    def happen(world: World, chance: random.Random) -> str:
        world.proxies[name].slow(SLOW_BY_S)
        time.sleep(SLOW_S)
        world.proxies[name].heal()
        return f"slow for {SLOW_S:g} s"

    return Fault(f"slow {name}", happen)


def silent(name: str) -> Fault:
    def happen(world: World, chance: random.Random) -> str:
        world.proxies[name].black_hole()
        time.sleep(SILENT_S)
        world.proxies[name].heal()
        return f"silent for {SILENT_S:g} s"

    return Fault(f"black hole {name}", happen)


def lease_clock_jumps(world: World, chance: random.Random) -> str:
    """Every lease is over at once, and everything is due, while those who hold the leases are at work."""
    taken = 0
    wait_for_database(world)
    for _ in range(20):
        with world.database() as connection:
            taken += connection.execute(
                sa.text(
                    "UPDATE analysis SET lease_until = now() - interval '1 hour', due_at = now() - interval '1 hour'"
                    " WHERE lease_until IS NOT NULL"
                )
            ).rowcount
        time.sleep(0.05)
    return f"{taken} leases over"


JUMP = Fault("lease clock jumps", lease_clock_jumps)
DISK = Fault("disk full", full_disk)


def long_list(world: World, pause_s: float) -> list[Fault]:
    """Everything the issue names: at least 30."""
    faults = [kill(name) for name in ("gateway", "stacker", "preprocessor", "valkey", "postgres") for _ in range(2)]
    faults += [kill_worker("stacker"), kill_worker("stacker"), kill_worker("preprocessor"), kill_worker("preprocessor")]
    faults += [kill("beat"), kill("beat"), kill("valkey"), kill_worker("gateway"), kill("webhooks")]
    faults += [kill(name) for name in NETWORKS]
    faults += [pause("stacker", pause_s), pause("preprocessor", pause_s), pause("postgres", 5)]
    faults += [pause("valkey", 5), pause("valkey", 5)]
    faults += [slow("mobilenet"), slow("densenet169"), silent("densenet121"), silent("nasnetmobile")]
    faults += [JUMP, JUMP, JUMP]
    return [*faults, DISK, DISK] if world.disk is not None else faults


def short_list() -> list[Fault]:
    """Six quick ones for every build."""
    names: Iterable[str] = ("preprocessor", "gateway", "valkey", "postgres")
    return [*map(kill, names), kill_worker("stacker"), JUMP]
