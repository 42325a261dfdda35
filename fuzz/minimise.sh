#!/usr/bin/env bash
# Renews the found part of a target's committed corpus: of that and of what runs have left in fuzz/found/<target>*, the smallest
# inputs that reach together what all of them reach, none above 4 KiB. Seeds with names are kept.
#
#   fuzz/minimise.sh ws_frames
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
corpus=fuzz/corpus/$target

found='.*/[0-9a-f]{40}'

minimal=$(mktemp -d)
trap 'rm -r "$minimal"' EXIT
find "$corpus" -regextype egrep -type f ! -regex "$found" -exec cp -t "$minimal" {} +
mkdir -p "fuzz/found/$target"
cargo +nightly fuzz run -s none --target-dir fuzz/target/none "$target" "$minimal" "$corpus" "fuzz/found/$target"* -- \
    -merge=1 -set_cover_merge=1 -use_counters=0 -max_len=4096
find "$corpus" -regextype egrep -type f -regex "$found" -delete
cp "$minimal"/* "$corpus"
