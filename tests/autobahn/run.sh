#!/bin/sh
# Runs the fuzzing client of the Autobahn test suite (PyPI: autobahntestsuite) against the echo endpoint of the real binary.
#
#   tests/autobahn/run.sh            all cases
#   tests/autobahn/run.sh '6.*'      some of them
#
# The suite needs Python 2.7: taken from $PYTHON2, the PATH or pyenv. The package goes into target/autobahn, the reports into
# target/autobahn/reports (index.html). Ends with 0 if every case has the result that expected.txt allows.
set -eu
cd "$(dirname "$0")/../.."

work=target/autobahn
packages=$PWD/$work/packages
binary=${SERVER:-target/debug/rainbow-server}
port=${PORT:-19001}
mkdir -p "$work"

find_python() {
    for candidate in "${PYTHON2:-}" python2.7 python2 pypy "$HOME"/.pyenv/versions/2.7*/bin/python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; assert sys.version_info[:2] == (2, 7)' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python 2.7 found; set PYTHON2=/path/to/python2.7, or see docs/websocket.md" >&2
    return 1
}

python=$(find_python)
if ! [ -e "$packages/done" ]; then
    rm -rf "$packages"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$packages" autobahntestsuite
    touch "$packages/done"
fi
[ -n "${SERVER:-}" ] || cargo build --quiet

cat > "$work/server.ini" <<END
[main]
connect_url = http://127.0.0.1:9/connect/
forward_url = http://127.0.0.1:9/message/{message_type}/
close_url = http://127.0.0.1:9/close/
security_token = autobahn
bind = 127.0.0.1
cluster_udp = no
workers = 1
echo = on
compression = on
message_max = 32m
END
rm -rf "$work/reports"
"$binary" -f "$work/server.ini" -p "$port" > "$work/server.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT

cases=
for case in "${@:-*}"; do
    cases="$cases${cases:+, }\"$case\""
done
cat > "$work/spec.json" <<END
{
    "outdir": "$PWD/$work/reports",
    "servers": [{"agent": "rainbow-server", "url": "ws://127.0.0.1:$port/echo/"}],
    "cases": [$cases],
    "exclude-cases": [],
    "exclude-agent-cases": {}
}
END
sleep 1
started=$(date +%s)
"$python" - --mode fuzzingclient --spec "$work/spec.json" > "$work/client.log" 2>&1 <<END
import site
site.addsitedir("$packages")
from autobahntestsuite.wstest import run
run()
END
kill -0 $server || { echo "the server died; see $work/server.log" >&2; exit 1; }
"$python" tests/autobahn/judge.py "$work/reports/index.json" tests/autobahn/expected.txt
echo "$(($(date +%s) - started)) s"
