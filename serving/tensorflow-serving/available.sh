#!/bin/bash
# available.sh NETWORK: whether TensorFlow Serving has a version of NETWORK that answers.
# The image has bash but no curl; and the address answers 200 in every state, so what it says has to be read.
set -eu
exec 3<>/dev/tcp/127.0.0.1/8501
printf 'GET /v1/models/%s HTTP/1.0\r\n\r\n' "$1" >&3
grep -q '"AVAILABLE"' <&3
