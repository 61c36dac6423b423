"""The long chaos run: `make chaos` (CHAOS_ARGS="--seed 7" repeats one). One table; exit status 0 when all is well."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos.faults import long_list
from tests.chaos.story import tell
from tests.chaos.world import fragile_world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--uploads", type=int, default=1_000)
    parser.add_argument("--per-s", type=float, default=2.0, help="uploads a second (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=60.0, help="seconds of a SIGSTOP (default: %(default)s)")
    parser.add_argument("--faults", type=int, help="only the first so many of the shuffled faults")
    given = parser.parse_args()
    sys.stdout.write(f"seed {given.seed}\n")
    sys.stdout.flush()
    with (
        tempfile.TemporaryDirectory(prefix="ll-chaos-") as folder,
        fragile_world(Path(folder)) as world,
    ):
        if world.disk is None:
            sys.stdout.write("no small disk could be mounted (that needs root): the full disk is left out\n")
        faults = long_list(world, given.pause)
        random.Random(given.seed).shuffle(faults)
        verdict = tell(
            world, faults[: given.faults], given.seed, given.uploads, given.per_s, pauses_s=4.0, say=sys.stderr.write
        )
        if verdict.complaints:
            sys.stderr.write(world.product.log.read_text()[-20_000:])
    sys.stdout.write(verdict.table(given.seed) + "\n")
    for complaint in verdict.complaints:
        sys.stdout.write(f"NOT AS PROMISED: {complaint}\n")
    return 1 if verdict.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
