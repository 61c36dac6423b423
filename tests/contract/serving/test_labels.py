"""The embedded model server serves what TensorFlow Serving's configuration files name, by the same labels."""

from __future__ import annotations

import numpy as np
import pytest

from serving.client import NetworkClient
from serving.model_config import CANARY, STABLE, ModelConfig, write_config
from serving.tensors import to_proto

TIMEOUT_S = 60.0


def version_behind(address: str, label: str, images: np.ndarray) -> int:
    client = NetworkClient("mobilenet", address, label=label)
    try:
        return int(client.start_predict(client.request(to_proto(images)), TIMEOUT_S).result().model_spec.version.value)
    finally:
        client.close()


@pytest.mark.parametrize(("stable", "canary"), [(1, 2), (2, 1)])
def test_labels_are_those_of_the_configuration(start, two_versions, tmp_path, images, stable: int, canary: int) -> None:
    labels = {STABLE: stable, CANARY: canary}
    write_config(tmp_path, ModelConfig("mobilenet", "/models/mobilenet", (1, 2), labels))

    served = start("--model", f"mobilenet={two_versions}", "--config", str(tmp_path))

    assert {label: version_behind(served.address, label, images) for label in labels} == labels


def test_a_newer_version_that_nobody_promoted_is_not_served(start, two_versions, tmp_path) -> None:
    write_config(tmp_path, ModelConfig("mobilenet", "/models/mobilenet", (1,), {STABLE: 1}))

    served = start("--model", f"mobilenet={two_versions}", "--config", str(tmp_path))

    client = NetworkClient("mobilenet", served.address)
    statuses = client.start_status(TIMEOUT_S).result().model_version_status
    client.close()
    assert [status.version for status in statuses] == [1]


def test_a_network_without_a_configuration_is_served_as_without_any(start, two_versions, tmp_path, images) -> None:
    served = start("--model", f"mobilenet={two_versions}", "--versions", "all", "--config", str(tmp_path))

    assert version_behind(served.address, CANARY, images) == 2
