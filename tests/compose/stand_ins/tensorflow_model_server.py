#!/opt/venv/bin/python
"""`tensorflow_model_server` as the compose file and the manifests call it, on the embedded model server.

It knows those flags of TensorFlow Serving that this project uses, and refuses any other, as the original does. It reads
the same configuration files, and answers on the REST port what a health check asks.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.client import NetworkClient
from serving.embedded import server
from serving.wire import ModelVersionStatus


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tensorflow_model_server", allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_config_file", type=Path, required=True)
    parser.add_argument("--monitoring_config_file", type=Path, required=True)
    parser.add_argument("--model_config_file_poll_wait_seconds", type=int)
    parser.add_argument("--grpc_channel_arguments", type=_channel_arguments, required=True)
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int, required=True)
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int, required=True)
    for flag in ("--allow_version_labels_for_unavailable_models", "--enable_grpc_healthcheck_service"):
        parser.add_argument(flag, choices=["true", "false"], required=True)
    return parser.parse_args()


def _channel_arguments(text: str) -> dict[str, int]:
    """`key=value,key=value`, as the original takes it apart."""
    return {key: int(value) for key, value in (pair.split("=") for pair in text.split(","))}


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        sys.exit(f"the configuration has nothing like {pattern}")
    return found.group(1)


def _rest(network: str, grpc_port: int, rest_port: int, metrics_path: str) -> None:
    client = NetworkClient(network, f"127.0.0.1:{grpc_port}")

    class Rest(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == metrics_path:
                self._answer(generate_latest(), CONTENT_TYPE_LATEST)
            elif self.path == f"/v1/models/{network}":
                statuses = client.start_status(2.0).result().model_version_status
                states = [
                    {"version": str(status.version), "state": ModelVersionStatus.State.Name(status.state)}
                    for status in statuses
                ]
                self._answer(json.dumps({"model_version_status": states}).encode(), "application/json")
            else:
                self.send_error(404)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A health check every five seconds is no news."""

    threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", rest_port), Rest).serve_forever, daemon=True).start()


def main() -> int:
    options = _options()
    config = options.model_config_file.read_text()
    network = _one(r'name: "([^"]+)"', config)
    folder = _one(r'base_path: "([^"]+)"', config)
    versions = re.findall(r"versions: (\d+)", config)
    labels = re.findall(r'version_labels \{ key: "([^"]+)" value: (\d+) \}', config)
    _rest(
        network,
        options.port,
        options.rest_api_port,
        _one(r'path: "([^"]+)"', options.monitoring_config_file.read_text()),
    )
    # What the original hands to its gRPC server goes to this one's.
    server._SERVER_OPTIONS = tuple({**dict(server._SERVER_OPTIONS), **options.grpc_channel_arguments}.items())
    return server.main(
        [
            *("--host", "0.0.0.0", "--port", str(options.port), "--model", f"{network}={folder}"),
            *("--versions", ",".join(versions) or "latest", "--cores", str(options.tensorflow_intra_op_parallelism)),
            *(word for label, version in labels for word in ("--label", f"{network}:{label}={version}")),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
