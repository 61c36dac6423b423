"""A network as the server computes it."""

import openvino

from serving.embedded.precision import Source
from serving.embedded.quantisation import quantise
from serving.embedded.shrinking import split_shrinkings
from serving.embedded.simplification import simplify


def read_graph(core: openvino.Core, source: Source, images: int = 1) -> openvino.Model:
    """The network for so many images at once, in 8 bits where `source` says so, without steps that change no number.

    Raises:
        RuntimeError: OpenVINO cannot read it.
        IndexError, ValueError: the ranges are not of this network.
    """
    graph = core.read_model(source.file)
    image_shape = list(graph.inputs[0].get_partial_shape())[1:]
    graph.reshape([images, *(dimension.get_length() for dimension in image_shape)])
    quantise(graph, source.ranges)  # before anything else: ranges name convolutions by their order
    simplify(graph)
    split_shrinkings(graph)
    return graph
