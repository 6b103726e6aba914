#!/usr/bin/env bash
# Compiles kernels/*.cu to kernels/ptx/*.ptx; --check compiles them elsewhere and compares, byte for byte. With
# arguments SOURCE PTX it compiles that one file.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cuda_toolkit.sh
nvcc=$(find_tool cuda13 nvcc)

compile() { # source ptx
    "$nvcc" -ptx -arch=compute_80 -lineinfo "$1" -o "$2"
    # PTX 7.0 is what the oldest driver that knows sm_80 reads. Attributes of `.loc` and the strings
    # they need are newer. Paths lose the folders of this machine.
    sed -i -E \
        -e 's/^\.version .*/.version 7.0/' \
        -e 's/^(\s*\.loc\s[^,]*), function_name .*/\1/' \
        -e '/^\s*\.section\s+\.debug_str/,/^\s*\}/d' \
        -e '/^\s*\.file/s#"[^"]*/kernels/([^/"]+)"#"kernels/\1"#' \
        -e '/^\s*\.file/s#"/[^"]*/([^/"]+)"#"toolkit/\1"#' "$2"
}

if [ $# -eq 2 ]; then
    compile "$1" "$2"
    exit
fi
out=kernels/ptx
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -r "$out"' EXIT
fi
mkdir -p "$out"
for source in kernels/*.cu; do
    compile "$source" "$out/$(basename "${source%.cu}").ptx"
done
if [ "$out" != kernels/ptx ]; then
    diff -r "$out" kernels/ptx || { echo "kernels/ptx is not what kernels/*.cu compile to: run scripts/build_ptx.sh" >&2; exit 1; }
fi
