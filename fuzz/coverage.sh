#!/usr/bin/env bash
# Lines of each module that the fuzz targets run over their committed corpora, on stable: the table of docs/reliability.md.
# Needs the llvm-profdata and llvm-cov of the compiler's LLVM: `rustup component add llvm-tools`, or Debian's llvm-22.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
own="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin"
tool() { command -v "$own/llvm-$1" || command -v "llvm-$1-$version" || { echo "no llvm-$1 of LLVM $version" >&2; return 1; }; }
profdata=$(tool profdata)
cov=$(tool cov)

out=target/coverage
# One codegen unit: what no target reaches counts as well.
export CARGO_INCREMENTAL=0 RUSTFLAGS="-Cinstrument-coverage -Ccodegen-units=1" LLVM_PROFILE_FILE="$PWD/$out/raw/%p.profraw"
binary=$(cargo test --quiet --target-dir "$out" --features fuzzing --test fuzz_smoke --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*fuzz_smoke[^"]*\)".*/\1/p')
rm -rf "$out/raw"
FUZZ_SMOKE_ITERATIONS=0 "$binary" --quiet >&2
"$profdata" merge -sparse "$out"/raw/*.profraw -o "$out/profdata"
echo "| module | lines | reached | files with less than half |"
echo "| --- | ---: | ---: | --- |"
# A file belongs to the folder of its name, if there is one, else to the one it is in.
"$cov" report "$binary" -instr-profile "$out/profdata" "$PWD/src" | LC_ALL=C sort | awk '
    $1 ~ /\.rs$/ && $1 !~ /^fuzzing/ {
        file[++files] = $1; lines[$1] = $8; missed[$1] = $9
        folder = $1
        while (sub(/\/[^\/]*$/, "", folder)) folders[folder]
    }
    END {
        for (at = 1; at <= files; at++) {
            module = name = file[at]
            sub(/\.rs$/, "", module)
            sub(/.*\//, "", name)
            if (!(module in folders) && !sub(/\/[^\/]*$/, "", module)) module = "src"
            all[module] += lines[file[at]]
            left[module] += missed[file[at]]
            if (2 * missed[file[at]] > lines[file[at]]) few[module] = few[module] " `" name "`"
        }
        for (module in all)
            printf "| `%s` | %d | %.0f %% |%s |\n", module, all[module], 100 - 100 * left[module] / all[module],
                left[module] < all[module] ? few[module] : " all"
    }' | LC_ALL=C sort -t '`' -k 2,2
