#!/usr/bin/env bash
# NVIDIA's own libcuda on a machine without a GPU: the program has to say so, end as it should, and go on
# without it where it may. The library is Debian's package `libcuda1` (component non-free of this machine's
# own source), unpacked into target/libcuda and installed nowhere.
#
#   scripts/real_libcuda.sh
#
# PBE, a program, takes the place of the release build. On a machine with an NVIDIA GPU there is nothing to
# check: the driver finds it.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$PWD/target/libcuda
[ -n "${PBE:-}" ] || cargo build --release --quiet --locked -p pbe
pbe=${PBE:-target/release/pbe}
# Not /dev/nvidiactl: the library makes that file itself where it may.
if [ -e /proc/driver/nvidia/version ]; then
  echo "this machine has an NVIDIA driver: nothing to check"
  exit 0
fi

fetch() {
  mkdir -p "$scratch"/{lists/partial,cache/archives/partial,package}
  # The machine's Debian sources with another component.
  sed 's/^Components:.*/Components: non-free/' /etc/apt/sources.list.d/debian.sources > "$scratch/non-free.sources"
  local options=(-qq -o "Dir::Etc::SourceList=$scratch/non-free.sources" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$scratch" && apt-get "${options[@]}" download libcuda1)
  dpkg-deb -x "$scratch"/libcuda1_*.deb "$scratch/package"
}
[ -d "$scratch/package/usr" ] || fetch
library=$(find "$scratch/package" -name 'libcuda.so.[0-9]*' -type f | head -n 1)
mkdir -p "$scratch/driver"
for name in libcuda.so libcuda.so.1; do ln -sf "$library" "$scratch/driver/$name"; done
echo "== $(basename "$library")"

failed=0
check() { # what, expected exit code, a line that has to be printed, arguments
  local what=$1 code=$2 line=$3 output status=0; shift 3
  output=$(LD_LIBRARY_PATH="$scratch/driver" "$pbe" "$@" 2>&1) || status=$?
  if [ "$status" = "$code" ] && grep -qE "$line" <<< "$output" && ! grep -q panicked <<< "$output"; then
    echo "pass  $what: $(grep -E "$line" <<< "$output" | head -n 1)"
  else
    echo "FAIL  $what: exit code $status instead of $code, or no line \`$line\`:"
    echo "$output"
    failed=1
  fi
}
none='the CUDA driver finds no device'
check "doctor" 0 "^cuda +driver for CUDA [0-9]+\.[0-9]+; $none" doctor
check "--device cuda" 2 "^pbe: error: device cuda:0: $none" selftest --quick --device cuda
check "--device auto" 0 "^device: cpu: .*chosen: $none" selftest --quick
exit $failed
