"""What docs/deploy.md has people type does what it says there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = (ROOT / "docs/deploy.md").read_text()
SCALING = (ROOT / "docs/scaling.md").read_text()
#: Manifests name their namespace themselves, and a namespace is in none.
NAMES_NONE = ("create namespace", "apply -")


def test_a_command_for_the_cluster_names_the_namespace() -> None:
    commands = re.findall(r"(?:^ *|`|\| )kubectl ([^`\n]+)", DEPLOY, re.MULTILINE)

    assert [line for line in commands if not line.startswith(("-n lesionlens ", *NAMES_NONE))] == []


def test_after_a_restore_there_are_as_many_of_everything_as_in_the_base() -> None:
    """One: more of what may be several comes by its autoscaler, and there must not be two of `beat`."""
    documents = [
        document
        for file in (ROOT / "k8s/base").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if document["kind"] == "Deployment"
    ]
    base = {document["spec"]["replicas"] for document in documents}

    assert base == {1}
    assert re.findall(r"scale deployment --all --replicas=([1-9]\d*)", DEPLOY) == ["1"]


def test_scaling_that_is_paused_goes_on_afterwards() -> None:
    assert re.findall(r"autoscaling\.keda\.sh/paused(\S+)", DEPLOY) == ["=true", "-"]


def test_both_documents_say_how_many_photographs_a_worker_is_for() -> None:
    for worker in ("stacker", "preprocessor"):
        (there,) = re.findall(rf"{worker}s, one for every (\d+) images a second", SCALING)

        assert f"for every {there} a second one {worker}" in DEPLOY or f"for every {there} one {worker}" in DEPLOY


def test_the_database_is_said_to_take_the_connections_that_production_scales_up_to() -> None:
    scalers = yaml.safe_load_all((ROOT / "k8s/overlays/production/scaling.yaml").read_text())
    most = {scaler["metadata"]["name"]: scaler["spec"]["maxReplicas"] for scaler in scalers}
    connections = 25 * most["gateway"] + 2 * most["stacker"] + most["preprocessor"] + 9
    documented = re.search(r"`production` scales up to\s+(\d+): `max_connections` (\d+)", SCALING)

    assert "need 2N + M + 9, and each gateway 25" in SCALING
    assert documented
    assert int(documented[1]) == connections < int(documented[2]) - 3
    assert f"[{documented[2]} connections](scaling.md#pools)" in DEPLOY
