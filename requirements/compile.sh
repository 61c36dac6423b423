#!/usr/bin/env bash
# Pins what pyproject.toml asks for, with hashes and without addresses. Needs uv; `make requirements` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # compile OUTPUT ARGUMENTS…: what is pinned already stays pinned, unless --upgrade is among the arguments
    local output="requirements/$1.txt"
    shift
    echo "$output"
    uv pip compile pyproject.toml "$@" --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --override requirements/overrides.txt --custom-compile-command "make requirements" --quiet -o "$output"
}

# The largest set first: the others take its versions, so that all of them fit into one .venv.
compile test --extra test "$@"
# One set for each image too (gateway, preprocessor, stacker, serving: the embedded model server).
for extra in run training lint audit deploy conformance gateway preprocessor stacker serving; do
    compile "$extra" --extra "$extra" -c requirements/test.txt "$@"
done
# Locust, Checkov and what `make bench` compares with live apart from all of them (see the Makefile), but not with the dependencies of every process.
for alone in load checkov bench; do
    echo "requirements/$alone.txt"
    uv pip compile "requirements/$alone.in" --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command "make requirements" --quiet "$@" -o "requirements/$alone.txt"
done
