"""Our .proto files against the descriptors of tensorflow-serving-api: every message, field, enum and service path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from serving import wire
from serving.protos.compile import DESCRIPTOR_SET

ROOT = Path(__file__).parents[3]

#: Fields of theirs that ours leave out, on purpose. Anything else of theirs that ours lack fails the test, so a new
#: release with a new field is looked at.
LEFT_OUT = {
    "tensorflow.TensorProto": {
        "scomplex_val", "dcomplex_val", "resource_handle_val", "variant_val", "float8_val",
    },
    "tensorflow.TensorInfo": {"coo_sparse", "composite_tensor"},
    "tensorflow.MetaGraphDef": {"graph_def", "saver_def", "collection_def", "asset_file_def", "object_graph_def"},
    "tensorflow.MetaGraphDef.MetaInfoDef": {
        "meta_graph_version", "stripped_op_list", "any_info", "tensorflow_version", "tensorflow_git_version",
        "stripped_default_attrs", "function_aliases",
    },
    "tensorflow.serving.PredictRequest": {"predict_streamed_options", "client_id", "request_options"},
    "tensorflow.serving.PredictionLog": {
        "log_metadata", "classify_log", "regress_log", "predict_streamed_log", "multi_inference_log", "session_run_log",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(needs):
    """Their descriptor of a full name, from the modules that define our messages and services."""
    files: list[FileDescriptor] = [
        needs(f"tensorflow_serving.apis.{name}_pb2").DESCRIPTOR
        for name in (
            "predict", "model", "get_model_metadata", "get_model_status", "prediction_log", "prediction_service",
            "model_service",
        )
    ]  # fmt: skip
    files.append(needs("tensorflow.core.protobuf.saved_model_pb2").DESCRIPTOR)
    pool = files[0].pool
    assert pool is not wire.descriptors()
    return pool


def our_files() -> list[FileDescriptor]:
    described = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    return [
        wire.descriptors().FindFileByName(file.name) for file in described.file if not file.name.startswith("google/")
    ]


def with_nested(message: Descriptor) -> list[Descriptor]:
    return [message, *(deeper for nested in message.nested_types for deeper in with_nested(nested))]


MESSAGES = [
    message.full_name
    for file in our_files()
    for top in file.message_types_by_name.values()
    for message in with_nested(top)
]
ENUMS = [enum.full_name for file in our_files() for enum in file.enum_types_by_name.values()] + [
    enum.full_name for name in MESSAGES for enum in wire.descriptors().FindMessageTypeByName(name).enum_types
]
METHODS = [
    (service.full_name, method.name)
    for file in our_files()
    for service in file.services_by_name.values()
    for method in service.methods
]


def outline(field: FieldDescriptor) -> dict[str, object]:
    """All that decides how a field travels, and the names a caller writes."""
    kind = field.message_type or field.enum_type
    packed = field.is_packed if hasattr(field, "is_packed") else field.GetOptions().packed
    return {
        "number": field.number,
        "type": field.type,
        "of": kind.full_name if kind else None,
        "repeated": field.is_repeated,
        "packed": packed,
        "one of": field.containing_oneof.name if field.containing_oneof else None,
        "presence": field.has_presence,
        "map": bool(field.message_type and field.message_type.GetOptions().map_entry),
        "json": field.json_name,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_of_ours_is_theirs_and_only_what_is_listed_is_left_out(theirs, name):
    ours = wire.descriptors().FindMessageTypeByName(name)
    other = theirs.FindMessageTypeByName(name)
    assert {field.name: outline(field) for field in ours.fields} == {
        field.name: outline(field) for field in other.fields if field.name not in LEFT_OUT.get(name, ())
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ENUMS)
def test_every_enum_value_of_ours_has_their_number(theirs, name):
    ours: EnumDescriptor = wire.descriptors().FindEnumTypeByName(name)
    numbers = {value.name: value.number for value in theirs.FindEnumTypeByName(name).values}
    assert {value.name: value.number for value in ours.values}.items() <= numbers.items()


@pytest.mark.slow
@pytest.mark.parametrize(("service", "method"), METHODS)
def test_every_method_of_ours_has_their_path_and_messages(theirs, service, method):
    ours = wire.descriptors().FindServiceByName(service).FindMethodByName(method)
    other = theirs.FindServiceByName(service).FindMethodByName(method)
    assert ours.full_name == other.full_name
    assert ours.input_type.full_name == other.input_type.full_name
    assert ours.output_type.full_name == other.output_type.full_name
    assert (ours.client_streaming, ours.server_streaming) == (other.client_streaming, other.server_streaming)


def test_the_comparison_covers_all_that_is_sent():
    assert {"tensorflow.serving.PredictRequest", "tensorflow.serving.PredictRequest.InputsEntry"} <= set(MESSAGES)
    assert {"tensorflow.DataType", "tensorflow.error.Code", "tensorflow.serving.ModelVersionStatus.State"} <= set(ENUMS)
    assert len(METHODS) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        ("serving.wire", "tensorflow_serving.apis.predict_pb2", "ovmsclient"),
        ("ovmsclient", "tensorflow_serving.apis.predict_pb2", "serving.wire"),
    ],
    ids=["ours first", "ours last"],
)
def test_our_messages_tensorflows_and_ovmsclients_live_in_one_process(needs, order):
    for module in order:
        needs(module)
    script = "\n".join(
        [
            *(f"import {module}" for module in order),
            "from tensorflow_serving.apis import predict_pb2",
            "from serving import wire",
            "ours = wire.PredictRequest(output_filter=['logit'])",
            "assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()).output_filter == ['logit']",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
