#!/usr/bin/env bash
# Small fixed runs: infect and purify with a clean set, without one, and with the recipe `paper`. Prints a digest of
# each model's tensors. A change that moves code leaves them as they were; one that changes numbers says so.
#
#   scripts/fixed_runs.sh PROGRAM DRIVER CIFAR10 OUT
#
# DRIVER is a folder with the emulator's libcuda.so, CIFAR10 an image folder (train/<class>/*, test/<class>/*), of
# which a cut is put below OUT. PLACES="cpu bf16 f32", the default, are the processor and the emulated GPU in both
# precisions; cpu alone takes seconds.
set -euo pipefail
program=$1 driver=$2 cifar=$3 out=$4

cut() { # split, images of a class
  local class
  for class in "$cifar/$1"/*/; do
    mkdir -p "$out/data/$1/$(basename "$class")"
    find "$class" -type f | sort | sed -n "1,$2p" | xargs -I{} cp {} "$out/data/$1/$(basename "$class")"
  done
}
[ -d "$out/data/test" ] || { cut train 6; cut test 2; }

digest() {
  python3 - "$1" << 'PYTHON'
import hashlib, json, struct, sys
data = open(sys.argv[1], "rb").read()
length = struct.unpack("<Q", data[:8])[0]
header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
digest = hashlib.sha256()
for name in sorted(header.keys() - {"__metadata__"}):
    first, last = header[name]["data_offsets"]
    digest.update(f"{name}{header[name]['dtype']}{header[name]['shape']}".encode() + tensors[first:last])
print(digest.hexdigest()[:16])
PYTHON
}

for place in ${PLACES:-cpu bf16 f32}; do
  device=(--device cuda --precision "$place")
  [ "$place" != cpu ] || device=(--device cpu)
  runs=$out/$place
  rm -rf "$runs"
  mkdir -p "$runs"
  run() { # name, command and options
    local name=$1; shift
    PTX_EMULATOR_CHECKS=none LD_LIBRARY_PATH=$driver "$program" "$@" --data "$out/data" --seed 3 \
      --output "$runs/$name" "${device[@]}" >> "$runs/log" 2>&1 || { tail -n 3 "$runs/log"; return 1; }
    echo "$place $name $(digest "$runs/$name/model.safetensors")"
  }
  purify() { # name, options
    local name=$1; shift
    run "$name" purify --model "$runs/infected/model.safetensors" --poison "$runs/infected/poison.json" \
      --set batch=16 --set 'rounds.*.adversarial.epochs=1' "$@"
  }
  run infected infect --attack badnets --rate 0.1 --target 0 --width 8 --batch 16 --epochs 2 --lr 0.05
  purify clean --clean 0.5 --set rounds.0.clean.epochs=1
  purify noclean --set initial_set.no_sign=0 --set 'rounds.*.clean.epochs=1'
  purify paper --recipe paper --set rounds=2 --set rounds.1.clean.epochs=1 --set 'rounds.*.select.share=0.5'
done
