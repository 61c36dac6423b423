"""Training of the four networks and of the stack over them; the only package that imports TensorFlow or Keras."""
