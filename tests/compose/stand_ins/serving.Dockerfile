# Stands in for tensorflow/serving: a `tensorflow_model_server` with the same flags, which runs the embedded model server.
FROM lesionlens/serving-embedded
USER 0:0
COPY tensorflow_model_server.py /usr/bin/tensorflow_model_server
RUN chmod 755 /usr/bin/tensorflow_model_server
CMD []
