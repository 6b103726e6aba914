#!/usr/bin/env bash
# Builds the images of docs/Containerfile.cpu and .gpu, runs them, and prints their sizes. No registry is asked: the GPU
# image's base is made from Debian's packages.
#
#   scripts/images.sh           both
#   scripts/images.sh static    only the static program, target/images/static/pbe
#
# It takes root and Debian's packages buildah, podman, runc and debootstrap, which it installs where they are missing.
# PBE_STATIC and PBE, programs, take the place of the static and of the release build; DRIVER, a libcuda.so, that of the
# emulator's release build.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/target/images
most=8000000 # bytes of the CPU image

# A target of its own keeps the flags from build scripts. Without CUDA: a static program can't load the driver's library.
# The linker is Rust's own (1.90 or later, x86-64): it packs relocations and folds functions of the same code.
target=$(rustc -vV | sed -n 's/^host: //p')
flags="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all -C llvm-args=--inline-threshold=100"
if [ -z "${PBE_STATIC:-}" ]; then
  RUSTFLAGS=$flags cargo build --profile dist --locked --quiet --target "$target" \
    --no-default-features --features cli,decoders
  PBE_STATIC=${CARGO_TARGET_DIR:-target}/$target/dist/pbe
fi
mkdir -p "$out/static" "$out/gpu"
cp "$PBE_STATIC" "$out/static/pbe"
if [ "${1:-}" = static ]; then exit 0; fi
if [ -z "${PBE:-}" ]; then
  cargo build --release --locked --quiet -p pbe
  PBE=${CARGO_TARGET_DIR:-target}/release/pbe
fi
cp "$PBE" "$out/gpu/pbe"
if [ -z "${DRIVER:-}" ]; then
  cargo build --release --locked --quiet -p ptx-emulator
  DRIVER=${CARGO_TARGET_DIR:-target}/release/libptx_emulator.so
fi

missing=()
for tool in buildah podman runc debootstrap; do command -v "$tool" > /dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends "${missing[@]}" > "$out/apt.log"
fi
# Nothing of the machine's own images is touched, and no limit is raised, which a sandbox may forbid.
store=(--root "$out/storage" --runroot "$out/run" --storage-driver vfs)
image() { # name, Containerfile, folder with the program, options
  local name=$1 file=$2 folder=$3; shift 3
  buildah "${store[@]}" bud --quiet --isolation chroot --format docker -t "$name" -f "$file" "$@" "$folder" > "$out/$name.id"
}
contained() { # options and image, arguments
  podman "${store[@]}" --runtime runc --cgroup-manager cgroupfs run --rm --network none \
    --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 "$@"
}

if [ ! -e "$out/base.tar" ]; then
  rm -rf "$out/base"
  debootstrap --variant=minbase bookworm "$out/base" > "$out/debootstrap.log"
  # As debian:bookworm-slim: without documentation, translations and what apt has fetched.
  rm -rf "$out"/base/usr/share/{doc,locale,man,info} "$out"/base/var/cache/apt/* "$out"/base/var/lib/apt/lists/*
  tar -C "$out/base" -cf "$out/base.tar" .
fi
podman "${store[@]}" import --quiet "$out/base.tar" pbe-base > "$out/base.id"
image pbe docs/Containerfile.cpu "$out/static"
image pbe-gpu docs/Containerfile.gpu "$out/gpu" --build-arg BASE=localhost/pbe-base

failed=0
check() { # what, expected exit code, a line that has to be printed, arguments of contained
  local what=$1 code=$2 line=$3 output status=0; shift 3
  output=$(contained "$@" 2>&1) || status=$?
  if [ "$status" = "$code" ] && grep -qE "$line" <<< "$output" && ! grep -q panicked <<< "$output"; then
    echo "pass  $what: $(grep -E "$line" <<< "$output" | tail -n 1)"
  else
    echo "FAIL  $what: exit code $status instead of $code, or no line \`$line\`:"
    echo "$output"
    failed=1
  fi
}
none='built without CUDA'
check "static: doctor" 0 "^cuda .*$none" pbe doctor
check "static: --device cuda" 2 "^pbe: error: device cuda:0: .*$none" pbe selftest --quick --device cuda
check "static: demo" 0 "^after " pbe demo --quick
check "static: a container's memory" 0 '^memory .* 0\.5 GB for this control group, 0\.[45] GB available' --memory 500m pbe doctor
check "static: what doesn't fit into it" 0 'of memory are needed .* more than is free' --memory 500m pbe doctor --width 128
check "gpu: no driver" 0 "^cuda +.*(driver|libcuda)" pbe-gpu doctor
check "gpu: demo" 0 "^after " pbe-gpu demo --quick
check "gpu: the host's driver" 0 "^cuda:0 .*compute capability" \
  -v "$(realpath "$DRIVER"):/usr/lib/x86_64-linux-gnu/libcuda.so.1:ro" pbe-gpu doctor

size() { # what, bytes, at most
  printf '%s: %d.%02d MB' "$1" $(($2 / 1000000)) $(($2 / 10000 % 100))
  if [ $# -lt 3 ]; then echo; return; fi
  printf ', at most %d.%02d\n' $(($3 / 1000000)) $(($3 / 10000 % 100))
  if [ "$2" -gt "$3" ]; then echo "FAIL  $1 is too large"; failed=1; fi
}
bytes() { podman "${store[@]}" image inspect --format '{{.Size}}' "$1"; }
size "static program" "$(stat -c %s "$out/static/pbe")"
size "CPU image" "$(bytes pbe)" $most
size "program for the GPU" "$(stat -c %s "$out/gpu/pbe")"
size "GPU image" "$(bytes pbe-gpu)"
exit $failed
