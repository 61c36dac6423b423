"""What is read out of a SavedModel folder."""

import struct

import numpy as np
import pytest

from services.analysis.errors import SettingsError
from serving.embedded.saved_model import MAX_WARMUP_REQUESTS, WARMUP_PATH, signatures_of, warmup_requests
from serving.tensors import from_proto, to_proto
from serving.wire import PredictionLog, SavedModel


def record(value: int) -> bytes:
    entry = PredictionLog()
    entry.predict_log.request.inputs["image"].CopyFrom(to_proto(np.array([value], np.uint8)))
    data = entry.SerializeToString()
    return struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)


def values(folder) -> list[int]:
    return [int(from_proto(request.inputs["image"])[0]) for request in warmup_requests(folder)]


@pytest.fixture
def records(tmp_path):
    path = tmp_path / WARMUP_PATH
    path.parent.mkdir()
    return path


def test_warm_up_requests_come_in_the_order_they_were_recorded(records, tmp_path):
    records.write_bytes(record(3) + record(1) + record(2))
    assert values(tmp_path) == [3, 1, 2]


def test_no_warm_up_file_is_no_requests(tmp_path):
    assert values(tmp_path) == []


@pytest.mark.parametrize("damage", [b"\x00", record(2)[:-8], struct.pack("<QI", 2**62, 0), record(2)[:12]])
def test_a_damaged_warm_up_file_keeps_what_came_before(records, tmp_path, damage, caplog):
    records.write_bytes(record(1) + damage)
    assert values(tmp_path) == [1]
    assert "damaged at byte" in caplog.text


def test_only_the_first_warm_up_requests_are_replayed(records, tmp_path):
    records.write_bytes(record(1) * (MAX_WARMUP_REQUESTS + 5))
    assert len(values(tmp_path)) == MAX_WARMUP_REQUESTS


def test_signatures_are_those_of_the_graph_for_serving(tmp_path):
    saved = SavedModel(saved_model_schema_version=1)
    saved.meta_graphs.add().meta_info_def.tags.append("train")
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert list(signatures_of(tmp_path)) == ["serving_default"]


@pytest.mark.parametrize("content", [b"", b"no protobuf at all \xff\xff"])
def test_a_file_that_is_no_saved_model_stops_the_start(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(SettingsError, match=r"saved_model\.pb"):
        signatures_of(tmp_path)
