"""How quickly are pages and polls answered while twenty people use the service? `make load`

Starts the product as `make run` does, on data of its own (or asks the one at LESIONLENS_URL), and has Locust be the
people. One line of JSON on standard output, in milliseconds; exit status 1 when something was not answered.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conftest import free_port, lesion_photograph
from tests.e2e.product import Product, running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("locust", help="the command")
    parser.add_argument("--users", type=int, default=20, help="people at the same time (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ll-load-") as folder:
        address = os.environ.get("LESIONLENS_URL")
        started = nullcontext() if address else running(Product(Path(folder) / "data", free_port()))
        with started as product:
            figures = measure(address or product.base_url, given, Path(folder))
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if any(figure["failures"] for figure in figures.values() if isinstance(figure, dict)) else 0


def measure(address: str, given: argparse.Namespace, folder: Path) -> dict[str, object]:
    sent = requests.post(
        f"{address}/v1/analyses", files={"image": lesion_photograph(1)}, data={"force": "true"},
        headers={"Prefer": "wait=25"}, timeout=60,
    ).json()  # fmt: skip
    while sent["state"] not in {"done", "rejected", "failed"}:
        sent = requests.get(f"{address}{sent['links']['self']}", headers={"Prefer": "wait=25"}, timeout=60).json()
    load_before = os.getloadavg()[0]
    command = [
        given.locust, "--headless", "--locustfile", str(Path(__file__).with_name("locustfile.py")), "--host", address,
        "--users", str(given.users), "--spawn-rate", str(given.users), "--run-time", f"{given.seconds}s",
        "--csv", str(folder / "figures"), "--only-summary", "--reset-stats",
    ]  # fmt: skip
    subprocess.run(
        command, env={**os.environ, "LESIONLENS_ANALYSIS": sent["id"]}, check=False, stdout=sys.stderr,
        timeout=given.seconds + 120,
    )  # fmt: skip
    with (folder / "figures_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    told: dict[str, object] = {"users": given.users, "load_average_before": round(load_before, 1)}
    for name in ("page", "poll"):
        row = rows[name]
        told[name] = {
            "requests": int(row["Request Count"]),
            "failures": int(row["Failure Count"]),
            "median_ms": float(row["50%"]),
            "p95_ms": float(row["95%"]),
        }
    return told


if __name__ == "__main__":
    sys.exit(main())
