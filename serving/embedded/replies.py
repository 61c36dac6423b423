"""From a method that returns a response or a Refusal to a gRPC handler, in one place for all methods."""

import logging
from collections.abc import Callable, Container

import grpc

from serving.embedded.metrics import REQUESTS
from serving.embedded.versions import Refusal
from serving.wire import Message

log = logging.getLogger(__name__)

#: A method of a service: request and context in, response or Refusal out.
Method = Callable[[Message, grpc.ServicerContext], Message | Refusal]


def handler(method: Method, request: Message, response: Message, networks: Container[str]) -> grpc.RpcMethodHandler:
    """Handler of a unary method with these message classes.

    Requests are counted by network; a name not among `networks` is the caller's invention and is counted under none, or
    callers could fill the memory with names.
    """

    def answer(message: Message, context: grpc.ServicerContext) -> Message:
        network = message.model_spec.name if message.model_spec.name in networks else ""
        try:
            reply = method(message, context)
        except Exception:
            log.exception("%s for %r failed", method.__name__, network)
            reply = Refusal("INTERNAL", "the model server failed; its log has the reason")
        if isinstance(reply, Refusal):
            REQUESTS.labels(network, method.__name__, reply.code).inc()
            context.abort(grpc.StatusCode[reply.code], reply.sentence)
        REQUESTS.labels(network, method.__name__, "OK").inc()
        return reply

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )
