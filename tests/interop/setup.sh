#!/bin/sh
# Creates a virtual environment with the Python package `websockets` for tests/interop.rs and prints its interpreter.
# Usage: setup.sh DIRECTORY. Nothing outside DIRECTORY is changed; an environment that already works is kept.
set -eu

dir=$1
version='websockets>=13'

if ! "$dir/bin/python" -c 'import websockets.sync.client' 2>/dev/null; then
    rm -rf "$dir"
    python3 -m venv "$dir" >&2
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$version" >&2
    "$dir/bin/python" -c 'import websockets.sync.client' >&2
fi
echo "$dir/bin/python"
