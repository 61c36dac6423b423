"""A backup of the running service, brought back into an empty data folder, gives the same answers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from lesionlens.backup import embedded_database
from lesionlens.cli import main
from services.analysis.settings import load_settings
from services.gateway.app import create_app
from services.gateway.parts import make_parts
from tests.conftest import lesion_photograph
from tests.e2e.product import Product


class Networks:
    def readiness(self, timeout_s: float) -> dict[str, bool]:
        return {}


def lesionlens(product: Product, *arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={**product.environment, **environment})


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_restored_service_gives_the_same_answers(product: Product, data_folder: Path, tmp_path: Path) -> None:
    ids = [product.accepted(lesion_photograph(seed), force="true") for seed in (61, 62)]
    answers = {analysis_id: product.ended(analysis_id) for analysis_id in ids}
    image = requests.get(f"{product.base_url}/v1/analyses/{ids[0]}/image", timeout=30).content
    file = tmp_path / "backup.tar"

    made = lesionlens(product, "backup", file)
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "there are photographs of people in it"
    assert lesionlens(product, "backup", file).exit_code != 0, "nothing is overwritten"

    elsewhere = str(data_folder)
    restored = lesionlens(product, "restore", file, DATA_DIR=elsewhere)
    assert restored.exit_code == 0, restored.output
    again = lesionlens(product, "restore", file, DATA_DIR=elsewhere)
    assert again.exit_code != 0
    assert "not empty" in again.output

    settings = load_settings({"DATA_DIR": elsewhere, "REDIS_URL": "redis://127.0.0.1:9/0"})
    with embedded_database(settings) as url:
        settings = settings.model_copy(update={"database_url": url})
        parts = make_parts(settings, Networks())
        client = create_app(settings, parts).test_client()
        assert {analysis_id: client.get(f"/v1/analyses/{analysis_id}").json for analysis_id in ids} == answers
        assert client.get(f"/v1/analyses/{ids[0]}/image").data == image
        parts.drain()
        parts.engine.dispose()
