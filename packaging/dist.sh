#!/usr/bin/env bash
# Builds what is published from one release build, into target/dist:  packaging/dist.sh [archive] [wheel] [npm] [deb]
#
# Needs cargo, binutils; for the wheel python3 with venv; for npm, npm; and for deb, dpkg. maturin and cargo-deb are installed
# below target/tools where they are missing, in the versions named here. packaging/try.py uses each of the results.
set -euo pipefail
cd "$(dirname "$0")/.."

MATURIN=1.16.0
CARGO_DEB=3.8.0
TOOLS="$PWD/target/tools"
DIST="$PWD/target/dist"
STAGE="$PWD/target/stage"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
machine=$(uname -m)
parts=" ${*:-archive wheel npm deb} "
# The time of all files of the archive. Not exported: ring, and all above it, is built anew when that changes.
time=$(git log -1 --format=%ct 2>/dev/null || date +%s)

step() { printf -- '-- %s\n' "$*"; }

step "release build"
cargo build --release --locked --bin rainbow-server
rm -rf "$DIST" "$STAGE"
mkdir -p "$DIST" "$STAGE/bin" "$STAGE/completions"
strip -o "$STAGE/bin/rainbow-server" target/release/rainbow-server
for shell in bash zsh fish; do
    target/release/rainbow-server completions $shell >"$STAGE/completions/rainbow-server.$shell"
done

archive() {
    local name="rainbow-server-$version-$machine-linux-gnu" folder
    folder="$STAGE/archive/$name"
    mkdir -p "$folder/sdk/js" "$folder/sdk/python/rainbow_sdk"
    cp "$STAGE/bin/rainbow-server" README.md LICENSE CHANGELOG.md server.ini packaging/rainbow-server.1 \
        packaging/rainbow-server.service "$folder"
    cp -r "$STAGE/completions" docs examples packaging/ops "$folder"
    cp sdk/js/{README.md,package.json,rainbow.js,rainbow.d.ts} "$folder/sdk/js"
    cp sdk/python/{README.md,pyproject.toml} "$folder/sdk/python"
    cp sdk/python/rainbow_sdk/*.py "$folder/sdk/python/rainbow_sdk"
    tar --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX \
        -C "$STAGE/archive" -cf - "$name" | gzip -9n >"$DIST/$name.tar.gz"
}

wheel() {
    local venv="$TOOLS/maturin"
    if [ "$("$venv/bin/maturin" --version 2>/dev/null)" != "maturin $MATURIN" ]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "maturin==$MATURIN"
    fi
    "$venv/bin/maturin" build --release --locked --quiet --out "$DIST"
}

npm_packages() {
    local platform="$STAGE/npm/linux-x64"
    [ "$machine" = x86_64 ] || { echo "npm: there is a package for x86_64 only" >&2; return 1; }
    mkdir -p "$platform/bin"
    cp packaging/npm/linux-x64/package.json LICENSE "$platform"
    cp "$STAGE/bin/rainbow-server" "$platform/bin"
    cp -r packaging/npm/rainbow-server "$STAGE/npm"
    cp README.md LICENSE "$STAGE/npm/rainbow-server"
    npm pack --silent --pack-destination "$DIST" "$platform" "$STAGE/npm/rainbow-server" >/dev/null
}

deb() {
    if [ "$("$TOOLS/bin/cargo-deb" --version 2>/dev/null)" != "$CARGO_DEB" ]; then
        # Without optimisation: it is built more often than it runs.
        cargo install cargo-deb --version "$CARGO_DEB" --locked --debug --quiet --root "$TOOLS" --target-dir "$TOOLS/deb-build"
        rm -rf "$TOOLS/deb-build"
    fi
    PATH="$TOOLS/bin:$PATH" cargo deb --locked --no-build --quiet --output "$DIST"
}

for part in archive wheel npm deb; do
    case $parts in
    *" $part "*)
        step "$part"
        if [ $part = npm ]; then npm_packages; else $part; fi
        ;;
    esac
done
(cd "$DIST" && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
