#!/opt/venv/bin/python
"""`minio server DIR --address :PORT` on moto's S3 server: another key than the secret file's is refused."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


def main() -> None:
    parser = argparse.ArgumentParser(prog="minio", allow_abbrev=False)
    parser.add_argument("command", choices=["server"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", required=True)
    options = parser.parse_args()
    user = Path(os.environ["MINIO_ROOT_USER_FILE"]).read_text().strip()
    password = Path(os.environ["MINIO_ROOT_PASSWORD_FILE"]).read_text().strip()
    assert len(user) >= 3, "MinIO's own limit"
    assert len(password) >= 8, "MinIO's own limit"
    with tempfile.NamedTemporaryFile(dir=options.folder):
        """As MinIO does, it keeps what it is given there, and has to be able to write."""
    served = DomainDispatcherApplication(create_backend_app)

    def keyed(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        if environ["PATH_INFO"] == "/minio/health/live":
            start("200 OK", [])
            return [b""]
        if asked is None or asked.group(1) != user:
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InvalidAccessKeyId</Code></Error>"]
        return served(environ, start)

    host, _, port = options.address.rpartition(":")
    run_simple(host or "0.0.0.0", int(port), keyed, threaded=True)


if __name__ == "__main__":
    main()
