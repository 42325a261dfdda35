#!/bin/sh
# Installs the original (rainbow-server 0.05, Python 2) into target/original, for `rainbow-bench --against target/original/run`.
#
#   sh benches/original.sh                 needs CPython 2.7 with pip: $PYTHON2, python2.7, or pyenv's
#   rainbow-bench send0 --against target/original/run
#
# The original announces itself by UDP broadcast; to keep that on this machine, run the whole benchmark in a network
# namespace of its own:  unshare -n sh -c 'ip link set lo up && exec rainbow-bench send0 --against target/original/run'
set -eu
cd "$(dirname "$0")/.."
target=$PWD/target/original

find_python() {
    for python in "${PYTHON2:-}" python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python; do
        [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 && "$python" -m pip --version >/dev/null 2>&1 || continue
        command -v "$python"
        return
    done
    echo "original.sh: no CPython 2.7 with pip was found; set PYTHON2=/path/to/python2.7" >&2
    exit 1
}

python=$(find_python)
mkdir -p "$target"
# The package names tornado without a version; 4.5.3 is the last one of its time.
[ -e "$target/psutil" ] || "$python" -m pip install --quiet --target "$target" 'tornado==4.5.3' 'psutil<6' 'rainbow-server==0.5'
cat >"$target/run" <<EOF
#!/bin/sh
PYTHONPATH='$target' PYTHONDONTWRITEBYTECODE=1 exec '$python' '$target/bin/rainbow-server' "\$@"
EOF
chmod +x "$target/run"
echo "$target/run"
