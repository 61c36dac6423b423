"""The peer: LitServe with the same four networks in TensorFlow, `python litserve_peer.py MODELS VERSIONS PORT`.

As its documentation advises for throughput: batching on, one worker (TensorFlow uses all cores itself).
VERSIONS: a JSON object, network → version.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from serving.model_files import network_file


class Networks(litserve.LitAPI):  # type: ignore[misc]
    """The four networks behind one address."""

    def __init__(self, models: Path, versions: Mapping[str, int]) -> None:
        """`models`: folder of the networks; `versions`: which of them, in the order of the logits."""
        super().__init__(max_batch_size=8, batch_timeout=0.005)
        self.folders = [str(network_file(models, name, version).parent) for name, version in versions.items()]

    def setup(self, device: str) -> None:
        """Load the networks, in the worker."""
        del device
        import tensorflow as tf

        loaded = [tf.saved_model.load(folder) for folder in self.folders]
        self.kept = loaded
        self.signatures = [model.signatures["serving_default"] for model in loaded]
        self.pool = ThreadPoolExecutor(len(loaded))
        self.constant = tf.constant

    def decode_request(self, request: dict[str, str]) -> Any:
        """One image."""
        return np.frombuffer(base64.b64decode(request["image"]), np.uint8).reshape(224, 224, 3)

    def batch(self, inputs: list[Any]) -> Any:
        """Images as one array."""
        return np.stack(inputs)

    def predict(self, images: Any) -> Any:
        """Four logits an image."""
        given = self.constant(images)
        answers = self.pool.map(lambda signature: signature(image=given)["logit"].numpy(), self.signatures)
        return np.stack(list(answers), axis=1)

    def unbatch(self, output: Any) -> list[Any]:
        """The logits of each image."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """As JSON."""
        return {"logits": [float(logit) for logit in output]}


if __name__ == "__main__":
    networks = Networks(Path(sys.argv[1]), json.loads(sys.argv[2]))
    server = litserve.LitServer(networks, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(port=int(sys.argv[3]), host="127.0.0.1", generate_client_file=False, log_level="error")
