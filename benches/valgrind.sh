#!/bin/sh
# Installs valgrind for `cargo bench --bench instructions` if it is missing.
set -eu
command -v valgrind >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind >/dev/null && exit 0
fi
echo "valgrind.sh: valgrind is missing and could not be installed (needs root and apt-get); install it and try again" >&2
exit 1
