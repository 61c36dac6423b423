"""Where strangers can reach it, no secret is missing or stands in a manual."""

from __future__ import annotations

import pytest

from services.analysis.errors import SettingsError
from services.analysis.settings import load_settings

GOOD = {
    "PRODUCTION": "true",
    "SECRET_KEY": "q83Jf0aWl2ZsKx9Rb7TnYc",
    "DATABASE_URL": "postgresql://lesionlens:Vt4mN8xQ2rLz@db:5432/lesionlens?sslmode=verify-full",
    "REDIS_URL": "rediss://:Hk7pW3sD9fGy@redis:6380/0",
    "S3_ACCESS_KEY_ID": "lesionlens",
    "S3_SECRET_ACCESS_KEY": "Zq5tB1nY6uCe",
}


def test_good_secrets_are_taken():
    assert load_settings(GOOD).production


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", ""), ("SECRET_KEY", "changeme"), ("SECRET_KEY", "a" * 40), ("SECRET_KEY", "short-but-odd-7"),
        ("DATABASE_URL", "postgresql://lesionlens@db/lesionlens"),
        ("DATABASE_URL", "postgresql://postgres:postgres@db/lesionlens"),
        ("DATABASE_URL", "postgresql://lesionlens:lesionlens123@db/lesionlens"),
        ("DATABASE_URL", "postgresql://db/lesionlens?password=password"),
        ("REDIS_URL", "redis://redis:6379/0"), ("REDIS_URL", "redis://:changeme@redis:6379/0"),
        ("REDIS_URL", "redis://default:@redis:6379/0"),
        ("S3_SECRET_ACCESS_KEY", "minioadmin"), ("S3_SECRET_ACCESS_KEY", "minio123"),
    ],
)  # fmt: skip
def test_a_missing_or_well_known_secret_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name) as refused:
        load_settings({**GOOD, name: value})
    assert not value or value not in str(refused.value)
    assert load_settings({**GOOD, name: value, "PRODUCTION": "false"})


def test_a_socket_needs_no_password():
    over_socket = "postgresql://lesionlens@/lesionlens?host=%2Frun%2Fpostgresql"
    assert load_settings({**GOOD, "DATABASE_URL": over_socket, "REDIS_URL": "unix:///run/redis.sock"})


def test_a_secret_comes_from_its_file_when_the_variable_is_empty(tmp_path):
    (tmp_path / "key").write_text(GOOD["SECRET_KEY"] + "\n")
    source = {**GOOD, "SECRET_KEY": "", "SECRET_KEY_FILE": str(tmp_path / "key")}
    assert load_settings(source).secret_key == GOOD["SECRET_KEY"]
