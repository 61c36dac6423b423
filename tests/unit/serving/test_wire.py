"""The messages of our own .proto files, in a pool nobody else sees."""

import importlib.util

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from serving import wire
from serving.protos.compile import DESCRIPTOR_SET, compile_protos


@pytest.mark.parametrize("name", ["tensorflow.TensorProto", "tensorflow.serving.PredictRequest"])
def test_the_default_pool_knows_none_of_our_messages(name):
    assert wire.descriptors().FindMessageTypeByName(name).full_name == name
    # A test of the same run may have imported TensorFlow, whose own file then holds the name.
    try:
        known = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        return
    assert known.file.name.startswith(("tensorflow/core/", "tensorflow_serving/apis/"))


def test_the_descriptor_set_is_what_the_proto_files_compile_to(tmp_path):
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools compiles the .proto files")
    compile_protos(tmp_path / "again.binpb")
    again = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "again.binpb").read_bytes())
    kept = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    ours = {file.name: file for file in kept.file if not file.name.startswith("google/")}
    assert ours == {file.name: file for file in again.file if not file.name.startswith("google/")}


def test_the_service_paths_are_those_of_tensorflow_serving():
    assert wire.PREDICT == "/tensorflow.serving.PredictionService/Predict"
    assert wire.GET_MODEL_METADATA == "/tensorflow.serving.PredictionService/GetModelMetadata"
    assert wire.GET_MODEL_STATUS == "/tensorflow.serving.ModelService/GetModelStatus"
