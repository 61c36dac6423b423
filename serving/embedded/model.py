"""ModelService of the embedded model server: GetModelStatus."""

import grpc

from serving.embedded.replies import handler
from serving.embedded.versions import Catalogue, Refusal
from serving.wire import MODEL_SERVICE, GetModelStatusRequest, GetModelStatusResponse, Message


class ModelService:
    """Tells the state of the versions of one endpoint. Versions change only with a restart, so nothing is reloaded."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service, as grpc.Server takes it."""
        return grpc.method_handlers_generic_handler(
            MODEL_SERVICE,
            {
                "GetModelStatus": handler(
                    self.get_model_status, GetModelStatusRequest, GetModelStatusResponse, self._catalogue
                )
            },
        )

    def get_model_status(self, request: Message, _context: grpc.ServicerContext) -> Message | Refusal:
        """GetModelStatusResponse with the state of one version or of all, the newest first as TensorFlow
        Serving does.
        """
        if not request.HasField("model_spec"):
            return Refusal("INVALID_ARGUMENT", "Missing ModelSpec")
        states = self._catalogue.states(request.model_spec)
        if isinstance(states, Refusal):
            return states
        response = GetModelStatusResponse()
        for version, state in sorted(states.items(), reverse=True):
            entry = response.model_version_status.add(version=version, state=state.value)
            entry.status.SetInParent()  # present and OK, as TensorFlow Serving sends it
        return response
