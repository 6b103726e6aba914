#!/usr/bin/env bash
# Compiles kernels/*.cu to kernels/ptx/*.ptx; --check compiles them elsewhere and compares, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cuda_toolkit.sh
nvcc=$(find_tool cuda13 nvcc)

out=kernels/ptx
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -r "$out"' EXIT
fi
mkdir -p "$out"
for source in kernels/*.cu; do
    ptx=$out/$(basename "${source%.cu}").ptx
    "$nvcc" -ptx -arch=compute_80 -lineinfo "$source" -o "$ptx"
    # PTX 7.0 is what the oldest driver that knows sm_80 reads. Attributes of `.loc` and the strings
    # they need are newer. Paths lose the folders of this machine.
    sed -i -E \
        -e 's/^\.version .*/.version 7.0/' \
        -e 's/^(\s*\.loc\s[^,]*), function_name .*/\1/' \
        -e '/^\s*\.section\s+\.debug_str/,/^\s*\}/d' \
        -e '/^\s*\.file/s#"[^"]*/kernels/([^/"]+)"#"kernels/\1"#' \
        -e '/^\s*\.file/s#"/[^"]*/([^/"]+)"#"toolkit/\1"#' "$ptx"
done
if [ "$out" != kernels/ptx ]; then
    diff -r "$out" kernels/ptx || { echo "kernels/ptx is not what kernels/*.cu compile to: run scripts/build_ptx.sh" >&2; exit 1; }
fi
