"""The messages and service paths of TensorFlow Serving's API, in a descriptor pool of their own.

The messages carry TensorFlow's names (`tensorflow.TensorProto`, …). In protobuf's default pool they would
crash a later `import tensorflow` in the same process, because two files would define one name; in a private
pool nobody else sees them. The classes are made at import from the descriptor set beside the .proto files
(about 1 ms), so there is no generated code.
"""

from importlib.resources import files
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

#: A message of the private pool, or its class. The classes exist only at run time, so no type checker knows
#: their fields.
Message: TypeAlias = Any

_POOL = descriptor_pool.DescriptorPool()


def _load_descriptors() -> None:
    described = descriptor_pb2.FileDescriptorSet.FromString(files("serving.protos").joinpath("wire.binpb").read_bytes())
    for file in described.file:  # protoc writes a file after the files it imports
        _POOL.Add(file)


_load_descriptors()


def _message(name: str) -> Message:
    """Message class of a full name."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


def _path(service: str, method: str) -> str:
    """Path of a method, e.g. /tensorflow.serving.ModelService/GetModelStatus."""
    found = _POOL.FindServiceByName(service).FindMethodByName(method)
    return f"/{found.containing_service.full_name}/{found.name}"


TensorProto = _message("tensorflow.TensorProto")
TensorShapeProto = _message("tensorflow.TensorShapeProto")
TensorInfo = _message("tensorflow.TensorInfo")
SignatureDef = _message("tensorflow.SignatureDef")
SavedModel = _message("tensorflow.SavedModel")

ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = _message("tensorflow.serving.ModelVersionStatus")
PredictionLog = _message("tensorflow.serving.PredictionLog")

DATA_TYPES: dict[str, int] = {
    value.name: value.number for value in _POOL.FindEnumTypeByName("tensorflow.DataType").values
}

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
PREDICT = _path(PREDICTION_SERVICE, "Predict")
GET_MODEL_METADATA = _path(PREDICTION_SERVICE, "GetModelMetadata")
GET_MODEL_STATUS = _path(MODEL_SERVICE, "GetModelStatus")


def descriptors() -> descriptor_pool.DescriptorPool:
    """The private pool itself, for the contract test that compares it with TensorFlow's descriptors."""
    return _POOL
