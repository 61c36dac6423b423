"""`python -m bench`: measures section by section and writes JSON, Markdown and a plot to bench/results.

A run replaces the sections that it measured and leaves the others as they are, so a slow machine can be measured bit by
bit: each section says when it was measured. Ratios are only ever formed within one section of one run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import footprint, imaging, machine, networks, peer, report, way
from lesionlens.refusals import told
from services.analysis.errors import LesionLensError

RESULTS = Path(__file__).parent / "results"

#: Section → what measures it. Each takes at most four minutes on two cores.
SECTIONS: Mapping[str, Callable[[machine.Machine], Mapping[str, Any]]] = {
    "networks": networks.measure,
    "peer": peer.measure,
    "preprocessing": imaging.measure,
    "way": way.measure,
    "footprint": footprint.measure,
}


def main() -> None:
    """Measure the sections asked for, and write what is known by now."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that everything runs")
    parser.add_argument("--models", type=Path, default=Path("serving/models"), help="(default: %(default)s)")
    parser.add_argument("--calibrated", type=Path, help="folder that `lesionlens calibrate` wrote, for bf16 and int8")
    parser.add_argument("--contestants", type=Path, default=Path(".venv-bench/bin/python"), help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: %(default)s)")
    given = parser.parse_args()
    wanted = given.only.split(",")
    if unknown := sorted(set(wanted) - set(SECTIONS)):
        parser.error(f"there is no section {unknown[0]}: {', '.join(SECTIONS)}")
    here = machine.Machine(given.models.resolve(), given.calibrated, given.contestants, given.quick)
    if set(wanted) - {"preprocessing"}:
        try:
            _ = here.versions  # before minutes go into sections that need no stack
        except LesionLensError as error:
            parser.error(told(error))
    given.results.mkdir(parents=True, exist_ok=True)
    file = given.results / "bench.json"
    measured = json.loads(file.read_text()) if file.exists() else {}
    for name in wanted:
        sys.stderr.write(f"{name}…\n")
        begun = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        measured[name] = {"measured": begun, "machine": machine.described(), **SECTIONS[name](here)}
        file.write_text(json.dumps(measured, indent=1) + "\n")
    (given.results / "bench.md").write_text(report.markdown(measured))
    (given.results / "bench.svg").write_text(report.plot(measured))
    sys.stdout.write(report.markdown(measured))


if __name__ == "__main__":
    main()
