"""PredictionService of the embedded model server: Predict and GetModelMetadata.

Texts and codes of the refusals are TensorFlow Serving's (predict_util.cc, get_model_metadata_impl.cc) where
it has its own; the checks of type, shape and batch, which it leaves to the graph, say what was expected and
what came.
"""

from collections.abc import Callable
from typing import Any

import grpc
from numpy.typing import NDArray

from serving.embedded.engine import DEFAULT_SIGNATURE, Engine
from serving.embedded.lanes import Lanes, Outputs, Unanswered
from serving.embedded.replies import handler
from serving.embedded.versions import Catalogue, Refusal
from serving.tensors import TensorRefusal, to_proto_values
from serving.wire import (
    PREDICTION_SERVICE,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    Message,
    PredictRequest,
    PredictResponse,
    SignatureDefMap,
)

#: The one metadata field TensorFlow Serving knows.
_SIGNATURE_DEF = "signature_def"


class PredictionService:
    """Answers for the networks of one endpoint. The lanes are those of the whole process."""

    def __init__(self, catalogue: Catalogue, lanes: Lanes) -> None:
        self._catalogue = catalogue
        self._lanes = lanes

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service, as grpc.Server takes it."""
        return grpc.method_handlers_generic_handler(
            PREDICTION_SERVICE,
            {
                "Predict": handler(self.predict, PredictRequest, PredictResponse, self._catalogue),
                "GetModelMetadata": handler(
                    self.get_model_metadata, GetModelMetadataRequest, GetModelMetadataResponse, self._catalogue
                ),
            },
        )

    def predict(self, request: Message, context: grpc.ServicerContext) -> Message | Refusal:
        """PredictResponse for the images in a PredictRequest."""
        if not request.HasField("model_spec"):
            return Refusal("INVALID_ARGUMENT", "Missing ModelSpec")
        engine = self._catalogue.engine(request.model_spec)
        if isinstance(engine, Refusal):
            return engine
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if signature not in engine.signatures:
            return Refusal("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
        if signature != DEFAULT_SIGNATURE:
            return Refusal("FAILED_PRECONDITION", f'Signature "{signature}" is not for prediction.')
        refusal = _refuse_inputs(request, engine) or _refuse_filter(request, engine)
        if refusal:
            return refusal
        images = engine.check(request.inputs[engine.input_name])
        if isinstance(images, TensorRefusal):
            return Refusal("INVALID_ARGUMENT", images.sentence)
        outputs = self._infer(engine, images, context)
        if isinstance(outputs, Refusal):
            return outputs
        response = PredictResponse()
        _name_version(response.model_spec, engine)
        response.model_spec.signature_name = signature
        for name in request.output_filter or engine.output_names:
            response.outputs[name].CopyFrom(to_proto_values(outputs[name]))
        return response

    def get_model_metadata(self, request: Message, _context: grpc.ServicerContext) -> Message | Refusal:
        """GetModelMetadataResponse with the signatures of the version asked for."""
        if not request.HasField("model_spec"):
            return Refusal("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            return Refusal("INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field")
        for wanted in request.metadata_field:
            if wanted != _SIGNATURE_DEF:
                return Refusal("INVALID_ARGUMENT", f"Metadata field {wanted} is not supported")
        engine = self._catalogue.engine(request.model_spec)
        if isinstance(engine, Refusal):
            return engine
        signatures = SignatureDefMap()
        for key, signature in engine.signatures.items():
            signatures.signature_def[key].CopyFrom(signature)
        response = GetModelMetadataResponse()
        _name_version(response.model_spec, engine)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def _infer(self, engine: Engine, images: NDArray[Any], context: grpc.ServicerContext) -> Outputs | Refusal:
        is_wanted: Callable[[], bool] = context.is_active  # False once cancelled, or when the deadline has passed
        if not context.add_callback(self._lanes.wake):
            return _gone(context)
        outcome = self._lanes.run(engine, images, is_wanted)
        if outcome is Unanswered.FULL:
            return Refusal("RESOURCE_EXHAUSTED", f"too many requests wait for {engine.name} already")
        return _gone(context) if isinstance(outcome, Unanswered) else outcome


def _gone(context: grpc.ServicerContext) -> Refusal:
    left = context.time_remaining()
    if left is not None and left <= 0:
        return Refusal("DEADLINE_EXCEEDED", "the deadline passed before the network could answer")
    return Refusal("CANCELLED", "the caller cancelled the request")


def _name_version(model_spec: Message, engine: Engine) -> None:
    model_spec.name = engine.name
    model_spec.version.value = engine.version


def _refuse_inputs(request: Message, engine: Engine) -> Refusal | None:
    sent = set(request.inputs)
    if sent == {engine.input_name}:
        return None
    if len(sent) == 1:
        return Refusal(
            "INVALID_ARGUMENT",
            f"input tensor alias not found in signature: {sent.pop()}. "
            f"Inputs expected to be in the set {{{engine.input_name}}}.",
        )
    return Refusal(
        "INVALID_ARGUMENT",
        f"input size does not match signature: {len(sent)}!=1 len({{{','.join(sorted(sent))}}}) "
        f"!= len({{{engine.input_name}}}). Sent extra: {{{','.join(sorted(sent - {engine.input_name}))}}}. "
        f"Missing but required: {{{','.join({engine.input_name} - sent)}}}.",
    )


def _refuse_filter(request: Message, engine: Engine) -> Refusal | None:
    seen = set()
    for alias in request.output_filter:
        if alias not in engine.output_names:
            return Refusal(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{','.join(engine.output_names)}}}.",
            )
        if alias in seen:
            return Refusal("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return None
