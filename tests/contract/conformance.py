"""Does the running service answer as its OpenAPI document says? `make conformance`

Starts the product as `make run` does, on data of its own (or asks the one at LESIONLENS_URL, with LESIONLENS_API_KEY).
Schemathesis makes requests from the document: valid ones, invalid ones, and chains of them. Exit status 1 when an
answer is a 5xx, or is not what the document says.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from services.analysis.database import make_engine
from services.analysis.keys import KeyRing
from tests.conftest import free_port
from tests.e2e.product import Product, running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=50, help="requests for each operation (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=900, help="at most (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ll-conf-") as folder:
        address = os.environ.get("LESIONLENS_URL")
        started = nullcontext() if address else running(Product(Path(folder) / "data", free_port()))
        with started as product:
            token = os.environ.get("LESIONLENS_API_KEY") or key_of(product)
            return schemathesis(address or product.base_url, token, given.examples, given.seconds)


def schemathesis(address: str, token: str, examples: int, seconds: int) -> int:
    """Runs it; 0 when everything conforms."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--max-examples", str(examples), "--no-color",
        "--request-timeout", "60", "--generation-deterministic", "--max-failures", "20",
        "--checks", CHECKS,
    ]  # fmt: skip
    return subprocess.run(command, cwd=tempfile.gettempdir(), check=False, timeout=seconds).returncode


#: All that a document can promise. What is sent wrongly must be refused, what is sent rightly must not be.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,use_after_free"
)


def key_of(product: Product) -> str:
    """An API key of the product, with which nothing is limited."""
    engine = make_engine(database_url(product))
    _, token = KeyRing(engine).create("conformance", uploads_per_minute=1_000_000)
    engine.dispose()
    return token


def database_url(product: Product) -> str:
    """Where the product's own PostgreSQL listens."""
    from lesionlens.supervisor.postgres import EmbeddedPostgres

    return EmbeddedPostgres(product.folder / "postgres", product.folder / "run").url


if __name__ == "__main__":
    sys.exit(main())
