"""One product for all end-to-end tests; those that stop or break it for good start their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.e2e.collector import collecting
from tests.e2e.product import Product, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A data folder that does not exist yet; its path is short, as most people's are."""
    with tempfile.TemporaryDirectory(prefix="ll-e2e-") as folder:
        yield Path(folder) / "data"


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """The product, ready. Tests leave it ready."""
    with (
        tempfile.TemporaryDirectory(prefix="ll-e2e-") as folder,
        collecting() as collector,
        running(Product(Path(folder) / "data", free_port(), OTLP_URL=collector.url)) as product,
    ):
        product.collector = collector
        yield product
