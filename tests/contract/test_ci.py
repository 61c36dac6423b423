"""What `.ci/run` does, in which order, and what it says in the end. `make` and `kubectl` are scripts of this test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = ["lint", "lint-deploy", "test-k8s", "test", "compose-possible", "test-compose"]
#: Notes what it is asked for, and fails or speaks as the test wants.
MAKE = """\
for word; do target=$word; done
echo "$target" >> "$ASKED"
case " $FAILING " in *" $target "*) echo "$target: the reason" ; exit 1 ;; esac
[ "$target" = test ] && echo "SKIPPED [2] tests/e2e/test_chaos.py:9: needs root"
exit 0
"""


class Machine:
    """A folder of commands that stands in front of this machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = folder / "asked"
        self.asked.write_text("")
        self.has("make", MAKE)
        for command in ("chromium", "promtool", "kubectl", "dockerd", "debootstrap", "podman"):
            self.has(command, "exit 0")
        # Nothing is ever installed.
        self.has("apt-get", "exit 100")
        self.has("sudo", "exit 100")

    def has(self, command: str, script: str) -> None:
        file = self.folder / command
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def ci(self, failing: str = "") -> subprocess.CompletedProcess[str]:
        own = {"PATH": f"{self.folder}:{os.environ['PATH']}", "ASKED": str(self.asked), "FAILING": failing}
        return subprocess.run(
            [str(ROOT / ".ci/run")],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def targets(self) -> list[str]:
        return self.asked.read_text().split()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_everything_is_done_and_what_a_test_skips_is_said_at_the_end(machine: Machine) -> None:
    done = machine.ci()

    assert done.returncode == 0, done.stdout
    assert machine.targets() == EVERYTHING
    assert done.stdout.splitlines()[-1] == "== SKIPPED of make test: [2] tests/e2e/test_chaos.py:9: needs root"


@pytest.mark.parametrize("target", ["lint", "lint-deploy", "test-k8s", "test", "test-compose"])
def test_a_step_that_fails_is_the_last_one_and_fails_the_run(machine: Machine, target: str) -> None:
    done = machine.ci(failing=target)

    assert done.returncode != 0
    assert machine.targets()[-1] == target


def test_without_a_kubectl_that_renders_its_step_is_skipped_with_the_reason(machine: Machine) -> None:
    machine.has("kubectl", "exit 1")

    done = machine.ci()

    assert done.returncode == 0, done.stdout
    assert "test-k8s" not in machine.targets()
    assert "== SKIPPED make test-k8s: no kubectl 1.28 or newer is installed" in done.stdout


def test_without_an_engine_its_step_is_skipped_with_the_reason(machine: Machine) -> None:
    done = machine.ci(failing="compose-possible")

    assert done.returncode == 0, done.stdout
    assert "test-compose" not in machine.targets()
    assert "== SKIPPED make test-compose: compose-possible: the reason" in done.stdout
