# ruff: noqa: INP001 - a script, no module
"""Asks for known vulnerabilities of everything pinned: `make audit`. Needs pip-audit and its vulnerability service.

Exit status: 0 nothing found, or nobody to ask (which is said, and is not the same); 1 something is known that nobody
explained below.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Findings that do not concern LesionLens, each with the reason why.
EXPLAINED: dict[str, str] = {}

#: Seconds for one set; pip-audit asks for every package by itself.
_PATIENCE_S = 240
FOLDER = Path(__file__).parent


def main() -> int:
    """Audits the set that holds all others (`test.txt`), then what only training and deployment add."""
    audited: dict[str, list[dict[str, object]]] = {}
    skipped: set[str] = set()
    for name in ("test", "training", "deploy"):
        told = _ask(FOLDER / f"{name}.txt")
        if told is None:
            sys.stdout.write(f"pip-audit: SKIPPED from {name}.txt on, its vulnerability service cannot be reached.\n")
            # What is known of the sets before is known all the same.
            break
        for package in told["dependencies"]:
            label = f"{package['name']} {package.get('version', '')}".strip()
            if "skip_reason" in package:
                skipped.add(label)
            else:
                audited[label] = package["vulns"]
    if not audited and not skipped:
        return 0
    if not audited:
        # It answers "not found on PyPI" for each and exits with 0: a mirror serves files, not advisories.
        sys.stdout.write(f"pip-audit: SKIPPED, none of {len(skipped)} packages is known to the service reached.\n")
        return 0
    found = [(label, str(vuln["id"])) for label, vulns in sorted(audited.items()) for vuln in vulns]
    for label, identifier in found:
        sys.stdout.write(f"{label}: {identifier} {EXPLAINED.get(identifier, 'NOT EXPLAINED')}\n")
    sys.stdout.write(f"pip-audit: {len(audited)} packages asked for, {len(skipped)} unknown, {len(found)} findings.\n")
    return int(any(identifier not in EXPLAINED for _, identifier in found))


def _ask(requirements: Path) -> dict[str, list[dict[str, object]]] | None:
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip",
        "--format", "json", "--progress-spinner", "off",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        told: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return told


if __name__ == "__main__":
    sys.exit(main())
