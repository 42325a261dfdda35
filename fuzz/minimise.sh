#!/usr/bin/env bash
# Renews the found part of a target's committed corpus: of that and of what runs have left in fuzz/found/<target>*, the smallest
# inputs that reach together what all of them reach, none above 4 KiB. Seeds with names are kept.
#
#   fuzz/minimise.sh ws_frames
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
corpus=fuzz/corpus/$target

before=$(mktemp -d)
trap 'rm -r "$before"' EXIT
find "$corpus" -regextype egrep -regex '.*/[0-9a-f]{40}' -exec mv -t "$before" {} +
mkdir -p "fuzz/found/$target"
cargo +nightly fuzz run -s none --target-dir fuzz/target/none "$target" "$corpus" "$before" "fuzz/found/$target"* -- \
    -merge=1 -set_cover_merge=1 -use_counters=0 -max_len=4096
