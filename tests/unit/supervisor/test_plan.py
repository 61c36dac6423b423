"""Which programs run depends on what the settings name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesionlens.supervisor.plan import Plan, make_plan
from lesionlens.supervisor.sample import SIDE, drawing
from services.analysis.settings import load_settings
from services.preprocessor.imaging import PreparedLesion, prepare_lesion

ELSEWHERE = {
    "DATABASE_URL": "postgresql://db.example/lesionlens",
    "REDIS_URL": "redis://queue.example/0",
    "MOBILENET_SERVING_URL": "a.example:1",
    "DENSENET121_SERVING_URL": "b.example:1",
    "DENSENET169_SERVING_URL": "c.example:1",
    "NASNETMOBILE_SERVING_URL": "d.example:1",
}


def plan(folder: Path, **environ: str) -> Plan:
    return make_plan(load_settings(environ), folder, environ)


def test_with_nothing_set_everything_is_embedded(tmp_path: Path) -> None:
    made = plan(tmp_path)

    assert [program.name for program in made.programs] == [
        "postgres", "valkey", "networks", "preprocessor", "stacker", "beat", "webhooks", "gateway",
    ]  # fmt: skip
    environment = made.gateway.environment
    assert environment["DATABASE_URL"].startswith("postgresql://")
    assert environment["REDIS_URL"].startswith("redis://:")
    addresses = [environment[f"{name}_SERVING_URL"] for name in ("MOBILENET", "DENSENET121", "NASNETMOBILE")]
    assert len(set(addresses)) == 3


def test_named_servers_are_used_and_not_started(tmp_path: Path) -> None:
    made = plan(tmp_path, **ELSEWHERE)

    assert made.servers == ()
    assert made.create is None
    for program in made.programs:
        assert ELSEWHERE.items() <= program.environment.items()


def test_one_network_elsewhere_leaves_three_embedded(tmp_path: Path) -> None:
    made = plan(tmp_path, MOBILENET_SERVING_URL="a.example:1")

    networks = next(program for program in made.servers if program.name == "networks")
    assert sum(word == "--endpoint" for word in networks.command) == 3
    assert not any("mobilenet=" in word and "nasnet" not in word for word in networks.command)


def test_the_key_that_signs_forms_outlives_a_restart_and_is_nobody_elses(tmp_path: Path) -> None:
    first, second = plan(tmp_path), plan(tmp_path)

    assert first.gateway.environment["SECRET_KEY"] == second.gateway.environment["SECRET_KEY"]
    assert len(first.gateway.environment["SECRET_KEY"]) >= 32
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_photographs_are_for_this_account_alone_and_those_of_an_earlier_release_become_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "blobs").mkdir(mode=0o755)

    plan(tmp_path)

    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
    assert tmp_path.stat().st_mode & 0o777 == 0o755, "PostgreSQL's account passes through when root runs it"


def test_passwords_stand_in_no_command_line(tmp_path: Path) -> None:
    made = plan(tmp_path)
    password = made.gateway.environment["REDIS_URL"].split(":")[2].split("@")[0]

    assert not any(password in word for program in made.programs for word in program.command)


def test_stopping_takes_less_than_ten_seconds_at_worst(tmp_path: Path) -> None:
    made = plan(tmp_path)
    one_after_the_other = [made.gateway.stop_within_s, max(program.stop_within_s for program in made.workers)]
    one_after_the_other += [program.stop_within_s for program in made.servers]

    assert sum(one_after_the_other) <= 9, "a second is left for a busy machine"


@pytest.mark.parametrize(
    ("host", "address", "asked"),
    [
        ("127.0.0.1", "http://localhost:8000", "127.0.0.1"),
        ("0.0.0.0", "http://localhost:8000", "127.0.0.1"),
        ("::", "http://[::1]:8000", "::1"),
        ("192.0.2.7", "http://192.0.2.7:8000", "192.0.2.7"),
    ],
)
def test_the_address_can_be_opened_in_a_browser(tmp_path: Path, host: str, address: str, asked: str) -> None:
    made = plan(tmp_path, **ELSEWHERE, HOST=host)

    assert made.address == address
    assert made.host == asked


def test_the_drawn_sample_is_a_lesion_to_the_preprocessor() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(drawing())))
    lesion = prepare_lesion(drawing())

    assert pixels.shape == (SIDE, SIDE, 3)
    assert isinstance(lesion, PreparedLesion), lesion
    assert 0.05 < lesion.mask.mean() < 0.5


def test_a_path_means_what_it_means_where_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("secret")
    made = plan(tmp_path, CALIBRATED_DIR="measured", SECRET_KEY_FILE="key")

    assert made.gateway.environment["CALIBRATED_DIR"] == str(tmp_path / "measured")
    assert made.gateway.environment["SECRET_KEY_FILE"] == str(tmp_path / "key")


def test_the_networks_served_are_those_that_were_promoted(tmp_path: Path) -> None:
    (networks,) = [program for program in plan(tmp_path).programs if program.name == "networks"]
    elsewhere = tmp_path / "elsewhere" / "models"
    elsewhere.mkdir(parents=True)
    (others,) = [
        program for program in plan(tmp_path, MODELS_DIR=str(elsewhere)).programs if program.name == "networks"
    ]

    at = networks.command.index("--config")
    assert min(file.name for file in Path(networks.command[at + 1]).glob("*.config")) == "densenet121.config"
    assert "--config" not in others.command, "their versions are not known there: the newest is served"
