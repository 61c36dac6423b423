"""What may not be left as it is where strangers can reach it: checked when `PRODUCTION` is set."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

#: Characters of a secret that stands for 128 random bits, in whatever alphabet.
MIN_SECRET_CHARS = 22
#: What stands in tutorials, images and templates.
_WELL_KNOWN = frozenset(
    {
        "", "admin", "changeme", "change-me", "change_me", "default", "dev", "development", "example", "guest",
        "lesionlens", "minio", "minioadmin", "password", "postgres", "redis", "root", "secret", "test", "valkey", "…",
    }
)  # fmt: skip


def faults(secret_key: str, database_url: str, redis_url: str, s3_secret: str) -> list[str]:
    """What stands in the way of production, in sentences that name the setting and never its value."""
    found = []
    if len(secret_key) < MIN_SECRET_CHARS or len(set(secret_key)) < 8 or _well_known(secret_key):
        found.append(f"SECRET_KEY must be at least {MIN_SECRET_CHARS} random characters (`openssl rand -base64 32`)")
    for name, url in (("DATABASE_URL", database_url), ("REDIS_URL", redis_url)):
        if url and not _local(url) and _well_known(_password(url)):
            found.append(f"{name} must hold a password that does not stand in every manual")
    if s3_secret and _well_known(s3_secret):
        found.append("S3_SECRET_ACCESS_KEY must not be one that stands in every manual")
    return found


def _well_known(secret: str) -> bool:
    return secret.strip().lower().rstrip("0123456789!") in _WELL_KNOWN


def _password(url: str) -> str:
    try:
        parts = urlsplit(url)
        named = parse_qs(parts.query).get("password", [""])[0]
        return unquote(parts.password or "") or named
    except ValueError:
        return ""


def _local(url: str) -> bool:
    """Over a Unix socket the folder's rights take the password's place."""
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    return parts.scheme in {"unix", "redis+socket"} or unquote(host).startswith("/")
