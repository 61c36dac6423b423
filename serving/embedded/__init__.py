"""The embedded model server: TensorFlow Serving's gRPC API on OpenVINO, over the same SavedModel folders."""
