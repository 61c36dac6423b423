"""The .proto files of our own, and the descriptor set compiled from them (`python -m serving.protos.compile`)."""
