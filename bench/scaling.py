"""`python -m bench.scaling`: writes the tables of docs/scaling.md from what `make bench` measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.model import Arrangement, Costs, costs_from, simulate
from bench.report import table
from bench.way import CROWD

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
RESULTS = Path(__file__).parent / "results" / "bench.json"

#: Cores and lanes of the machine that is measured: two, as the goals are stated for.
MEASURED_ON = 2
#: Arrangements that nobody measured: cores, preprocessors, stackers, replicas of the model server.
LARGER = ((2, 1, 1, 1), (4, 1, 1, 2), (4, 1, 2, 2), (8, 1, 4, 4), (8, 2, 4, 4), (16, 2, 8, 8), (16, 4, 8, 8))

#: Images a second that the page tells the cores for.
WANTED = (10, 100, 10_000)


def tables(way: Mapping[str, Any]) -> Mapping[str, str]:
    """The page's tables, by the name between the marks, from the section `way` of a bench.json."""
    costs = costs_from(way)
    core_ms = way["core_ms_per_upload"]
    return {
        "costs": _costs(core_ms),
        "model": _checked(way, costs),
        "more": _larger(costs),
        "wanted": _wanted(core_ms),
    }


def filled(page: str, way: Mapping[str, Any]) -> str:
    """The page with its tables made anew."""
    for name, lines in tables(way).items():
        page, found = re.subn(rf"(?s)(<!-- {name} -->\n).*?(?=<!-- /{name} -->)", rf"\g<1>{lines}\n", page)
        assert found == 1, f"the page has no place for the table {name}"
    return page


def _costs(core_ms: Mapping[str, float]) -> str:
    together = sum(core_ms.values())
    rows = [[name, f"{value:.1f}", f"{value / together:.0%}"] for name, value in core_ms.items()]
    return _lines(["Process", "Core time, ms", "Share"], [*rows, ["together", f"{together:.1f}", ""]])


def _checked(way: Mapping[str, Any], costs: Costs) -> str:
    crowd = way[f"with_{CROWD}_clients"]
    one = {"per_s": way["uploads_per_s"]["1"], "p95_ms": way["upload_to_done_ms"]["p95"]}
    points = (
        ("one client, 1 preprocessor, 1 stacker", one, 1, 1, 1),
        ("1 preprocessor, 1 stacker", crowd["1 preprocessor, 1 stacker"], 1, 1, CROWD),
        ("2 preprocessors, 1 stacker", crowd["2 preprocessors, 1 stacker"], 2, 1, CROWD),
        ("2 of both", crowd["2 of both"], 2, 2, CROWD),
    )
    rows = []
    for words, measured, preprocessors, stackers, clients in points:
        at = Arrangement(preprocessors, stackers, 1, MEASURED_ON)
        rate, _, most = simulate(costs, at, clients)
        rows.append(
            [words, f"{measured['per_s']:.1f}", f"{rate:.1f}", f"{measured['p95_ms'] / 1000:.2f}", f"{most:.2f}"]
        )
    return _lines(["Workers", "uploads/s, measured", "simulated", "p95 s, measured", "simulated"], rows)


def _larger(costs: Costs) -> str:
    rows: list[Sequence[object]] = []
    for cores, preprocessors, stackers, replicas in LARGER:
        rate, _, most = simulate(costs, Arrangement(preprocessors, stackers, replicas, cores), CROWD * stackers)
        bound = cores / costs.total
        rows.append([cores, preprocessors, stackers, replicas, f"{rate:.1f}", f"{most:.2f}", f"{bound:.1f}"])
    head = ["Cores", "Preprocessors", "Stackers", "Model servers", "uploads/s", "p95 s", "cores ÷ cost"]
    return _lines(head, rows)


def _wanted(core_ms: Mapping[str, float]) -> str:
    together = {
        "Cores, all busy": sum(core_ms.values()),
        "networks": core_ms["networks"],
        "preprocessors with cells": core_ms["preprocessor"] + core_ms["preprocessor's cell"],
        "stackers": core_ms["stacker"],
        "gateways": core_ms["gateway"],
        "PostgreSQL": core_ms["PostgreSQL"],
    }
    rows = [[f"{rate:,}", *(_cores(rate * ms / 1000) for ms in together.values())] for rate in WANTED]
    return _lines(["Images a second", *together], rows)


def _cores(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def _lines(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join(table(heads, rows))


def main() -> None:
    """Write the page."""
    way = json.loads(RESULTS.read_text(encoding="utf-8"))["way"]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), way), encoding="utf-8")


if __name__ == "__main__":
    main()
