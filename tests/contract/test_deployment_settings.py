"""Every setting can be set where the service is deployed, with the default that the code gives it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from services.analysis.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
#: What only `make run` uses.
NOT_IN_CONTAINERS = {"data_dir": "the embedded servers' data; containers have volumes"}
#: What a container has to say differently from `make run`.
OWN = {"host", "port", "blob_store_url", "models_dir", "log_format", "metrics_port", "production"}
ADDRESSES = {name for name in Settings.model_fields if name.endswith("_serving_url")}
SECRETS = {"database_url", "redis_url", "secret_key", "blob_keys"}
#: Secrets of which a deployment may have none: in Kubernetes they come from a Secret of their own, where there is one.
S3_SECRETS = {"s3_access_key_id", "s3_secret_access_key"}


def _compose() -> dict[str, str]:
    """The settings of the compose file: name → value, `${NAME:-default}` as its default."""
    text = (ROOT / "docker-compose.yml").read_text()
    found = re.search(r"^x-settings: &settings\n((?:  .*\n)+)", text, re.MULTILINE)
    assert found is not None
    lines = (line.strip().partition(": ") for line in found[1].splitlines())
    return {name: re.sub(rf"^\$\{{{name}:-(.*)\}}$", r"\1", value).strip('"') for name, _, value in lines}


def _kubernetes() -> dict[str, str]:
    """The settings of the manifests, and those that the images bring."""
    lines = (ROOT / "k8s/base/settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(params=[_compose, _kubernetes], ids=["compose", "kubernetes"])
def deployed(request: pytest.FixtureRequest) -> dict[str, str]:
    return request.param()


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - NOT_IN_CONTAINERS.keys()))
def test_a_setting_stands_in_every_deployment(deployed: dict[str, str], name: str) -> None:
    if name == "models_dir" and name.upper() not in deployed:
        # The images hold stack.json where the setting's default looks for it, below their working folder.
        for part in ("gateway", "stacker"):
            dockerfile = (ROOT / f"services/{part}/Dockerfile").read_text()
            assert re.search(rf"^COPY {Settings.model_fields[name].default}/stack\*?\.json ", dockerfile, re.MULTILINE)
        return
    as_file = name in SECRETS or (name in S3_SECRETS and f"{name.upper()}_FILE" in deployed)
    variable = f"{name.upper()}_FILE" if as_file else name.upper()

    assert variable in deployed

    default: Any = Settings.model_fields[name].default
    if name not in OWN | ADDRESSES and not as_file:
        assert deployed[variable] == str(default)


def test_no_deployment_sets_what_does_not_exist(deployed: dict[str, str]) -> None:
    known = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS | S3_SECRETS}

    assert deployed.keys() <= known


def test_the_values_are_accepted(deployed: dict[str, str]) -> None:
    values = {name: value for name, value in deployed.items() if not name.endswith("_FILE")}

    settings = load_settings(
        {
            **values,
            "DATABASE_URL": "postgresql://lesionlens:9f8b7c6d5e4a3b2c1d0e@x",
            "REDIS_URL": "redis://:1a2b3c4d5e6f7a8b9c0d@x",
            "SECRET_KEY": "0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d",
        }
    )

    assert all(settings.serving_addresses().values())
    assert settings.log_format == "json"


def test_an_operator_can_change_what_is_not_fixed_by_the_file_itself() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    free = Settings.model_fields.keys() - NOT_IN_CONTAINERS.keys() - OWN - ADDRESSES - SECRETS - S3_SECRETS

    assert [name for name in sorted(free) if f"{name.upper()}: ${{{name.upper()}:-" not in text] == []
