"""Settings are typed data, and a wrong one is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.analysis.errors import SettingsError
from services.analysis.results import NETWORKS
from services.analysis.settings import Settings, load_settings, markdown_table
from services.preprocessor import worker


def test_defaults_need_no_environment() -> None:
    settings = load_settings({})
    assert settings.port == 8000
    assert settings.database_url == ""


def test_the_environment_overrides_a_default() -> None:
    assert load_settings({"PORT": "9000", "UNRELATED": "x"}).port == 9000


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    assert load_settings({"SECRET_KEY_FILE": str(secret)}).secret_key == "s3cret"
    with pytest.raises(SettingsError, match="SECRET_KEY_FILE"):
        load_settings({"SECRET_KEY_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "eighty"), ("PORT", "70000"), ("MAX_UPLOAD_BYTES", "0"), ("LOG_FORMAT", "xml"), ("LOG_LEVEL", "verbose"),
     ("LEASE_S", "-1")],
)  # fmt: skip
def test_a_wrong_value_names_its_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings({name: value})


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING"])
def test_a_log_level_may_be_written_in_any_case(level: str) -> None:
    assert load_settings({"LOG_LEVEL": level}).log_level == level


def test_a_lease_must_outlive_the_task_it_protects() -> None:
    with pytest.raises(SettingsError, match="LEASE_S must exceed NETWORK_DEADLINE_S"):
        load_settings({"LEASE_S": "10", "NETWORK_DEADLINE_S": "9"})


def test_a_lease_must_outlive_a_preparation_however_quick_the_networks_are() -> None:
    killed_after_s = worker.prepare_analysis_task.time_limit
    with pytest.raises(SettingsError, match=f"LEASE_S must exceed .* {killed_after_s} s in any case"):
        load_settings({"LEASE_S": str(killed_after_s), "NETWORK_DEADLINE_S": "2"})
    assert load_settings({"LEASE_S": str(killed_after_s + 1), "NETWORK_DEADLINE_S": "2"}).network_deadline_s == 2


def test_every_network_has_an_address() -> None:
    environ = {f"{name.upper()}_SERVING_URL": f"{name}:8500" for name in NETWORKS}
    assert load_settings(environ).serving_addresses() == {name: f"{name}:8500" for name in NETWORKS}


def test_every_setting_has_a_help_text() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"`{name.upper()}`" in markdown_table()


@pytest.mark.parametrize("value", ["", "*", "https://clinic.example, http://localhost:5173", "https://[::1]:8443"])
def test_origins_are_written_as_browsers_write_them(value: str) -> None:
    wanted = {part.strip() for part in value.split(",") if part.strip()}
    assert load_settings({"CORS_ORIGINS": value}).allowed_origins() == wanted


@pytest.mark.parametrize(
    "value",
    [
        "clinic.example",
        "https://clinic.example/",
        "https://Clinic.example",
        "https://*.example",
        "null",
        "*,https://a.example",
    ],
)
def test_an_origin_that_no_browser_would_ever_send_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        load_settings({"CORS_ORIGINS": value})
