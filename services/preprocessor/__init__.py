"""The preprocessor: from an uploaded photograph to the tensor that the networks take."""
