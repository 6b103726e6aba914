#!/usr/bin/env bash
# Regenerates docs/bf16.md: a cut of CIFAR-10 through `evaluate`, `purify` and `rank` in bf16 on the emulated GPU,
# and in f32 on the processor.
#
#   scripts/emulated_bf16.sh CIFAR10_FOLDER INFECTED_RUN [OUT]
#
# CIFAR10_FOLDER is an image folder: train/<class>/*, test/<class>/*. INFECTED_RUN is a run folder of `pbe infect`
# on it, as scripts/reproduce.py makes them (cifar-badnets). OUT is target/emulated-bf16 by default. Resumable.
# With PYTHON, one that has PyTorch (see scripts/signs.py), it also compares gradients' signs with PyTorch's.
# PBE and DRIVER, a program and a folder with libcuda.so, take the place of the release builds. The emulator's
# checks are off: the self-test has them on.
set -euo pipefail
data=$(realpath "$1"); run=$(realpath "$2")
cd "$(dirname "$0")/.."
out=${3:-target/emulated-bf16}
source scripts/emulated_cut.sh
[ -d "$out/data/test" ] || { cut "$data" train 60; cut "$data" test 40; }

on() { # place, command and options
  local device="--device cpu"
  [ "$1" = processor ] || device="--device cuda --precision bf16"
  shift
  # The options are words.
  # shellcheck disable=SC2086
  PTX_EMULATOR_CHECKS=none LD_LIBRARY_PATH="$driver" "$pbe" "$@" $device
}
both() { # file that says it's done, command and options: run on both, with the place in front of the file
  local done=$1 place; shift
  for place in processor emulator; do
    [ -e "$out/$place.$done" ] && continue
    # The options are words; PLACE stands for the place.
    # shellcheck disable=SC2068
    on $place ${@//PLACE/$place} > "$out/$place.log" 2>&1 || { tail -n 3 "$out/$place.log"; return 1; }
  done
}
infected="--model $run/model.safetensors --data $out/data"
both infected.csv evaluate $infected --predictions "$out/PLACE.infected.csv"
# All of the cut as the clean set; 5 and 10 epochs, where the default would go through so few images 32 and 64 times.
purify="--trigger $run/poison.json --clean 1 --set batch=64 --set rounds.0.adversarial.epochs=5
  --set rounds.0.adversarial.learning_rate=0.02 --set rounds.0.adversarial.erasing=0 --set rounds.0.clean.epochs=10"
both purified/result.json purify $infected $purify --output "$out/PLACE.purified"
# How far another course of the training takes so short a run: other seeds on the processor.
for seed in 1 2 3 4; do
  [ -e "$out/seed$seed/result.json" ] || "$pbe" purify $infected $purify --seed "$seed" --device cpu --output "$out/seed$seed" \
    > "$out/seed$seed.log" 2>&1
done
both ranking.csv rank $infected --purified "$out/PLACE.purified/model.safetensors" --output "$out/PLACE.ranking.csv"
# The demo's short form, from planting on.
for place in processor emulator; do
  [ -s "$out/$place.demo.txt" ] && continue
  on $place demo --quick > "$out/demo.txt" 2> "$out/demo.log"
  mv "$out/demo.txt" "$out/$place.demo.txt"
done
# Gradients' signs, of all the planted models that stand beside this one (purified ones have a dot in their names),
# where PYTHON names one with PyTorch.
if [ -n "${PYTHON:-}" ] && [ ! -s "$out/signs.txt" ]; then
  cargo build --release --quiet --locked --example forward
  mapfile -t models < <(printf '%s\n' "$run"/../cifar-*/model.safetensors | grep -v 'cifar-[^/]*\.')
  PTX_EMULATOR_CHECKS=none LD_LIBRARY_PATH="$driver" "$PYTHON" scripts/signs.py "$data" \
    "${models[@]}" > "$out/signs.txt" 2> "$out/signs.log"
fi
python3 scripts/bf16_table.py "$out" > docs/bf16.md
echo "== docs/bf16.md"
