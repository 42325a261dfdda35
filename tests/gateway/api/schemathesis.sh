#!/bin/sh
# Creates a virtual environment with schemathesis for tests/gateway and prints its program.
# Usage: schemathesis.sh DIRECTORY. Nothing outside DIRECTORY is changed; an environment that already works is kept.
set -eu

dir=$1
version='schemathesis>=4,<5'

if ! "$dir/bin/schemathesis" --version >/dev/null 2>&1; then
    rm -rf "$dir"
    python3 -m venv "$dir" >&2
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$version" >&2
    "$dir/bin/schemathesis" --version >&2
fi
echo "$dir/bin/schemathesis"
