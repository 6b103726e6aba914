#!/usr/bin/env bash
# Regenerates docs/emulator.md: a cut of CIFAR-10 through `infect` and `purify` on the emulated GPU, all
# checks on, in three orders of its blocks and warps, and on the processor.
#
#   scripts/emulated_run.sh CIFAR10_FOLDER [TRAIN [TEST [OUT]]]
#
# CIFAR10_FOLDER is an image folder: train/<class>/*, test/<class>/*. TRAIN and TEST are images of the cut,
# 2000 and 200 by default; OUT is target/emulated-run. Every run reads what the processor's `infect` made, so
# that all of them purify the same model. Resumable: a run whose result.json is there is not run again.
# PBE and DRIVER, a program and a folder with libcuda.so, take the place of the release builds.
set -euo pipefail
data=$(realpath "$1"); train=${2:-2000}; test=${3:-200}
cd "$(dirname "$0")/.."
out=${4:-target/emulated-run}
source scripts/emulated_cut.sh
[ -d "$out/data/test" ] || { cut "$data" train $((train / 10)); cut "$data" test $((test / 10)); }

run() { # name, scheduling seed or cpu, command and options
  local name=$1 seed=$2; shift 2
  [ -e "$out/$name/result.json" ] && return 0
  local device=cuda
  [ "$seed" != cpu ] || device=cpu
  local TIMEFORMAT="%R %U"
  rm -rf "${out:?}/$name"
  { time PTX_EMULATOR_SEED=${seed/cpu/0} PTX_EMULATOR_CHECKS=all LD_LIBRARY_PATH="$driver" "$pbe" "$@" \
      --device "$device" --precision f32 --output "$out/$name" > "$out/$name.txt" 2> "$out/$name.log"; } 2> "$out/$name.time" ||
    { tail -n 3 "$out/$name.log"; return 1; }
}
infect="infect --data $out/data --attack badnets --rate 0.1 --width 8 --batch 32 --epochs 2 --lr 0.05"
# One epoch of each step, few images attacked: a step of PGD costs about half of a training step.
purify="purify --data $out/data --model $out/infect-cpu/model.safetensors --poison $out/infect-cpu/poison.json
  --set batch=32 --set initial_set.no_sign=0 --set rounds.*.attack.steps=3 --set initial_set.views=[] --set initial_set.attacks=[{epsilon=16,steps=2}]
  --set initial_set.limit=$((train / 4)) --set rounds.*.adversarial.limit=$((train / 8))
  --set rounds.0.clean.limit=$((train / 4)) --set rounds.*.adversarial.epochs=1 --set rounds.*.clean.epochs=1"
set -f
for seed in cpu 0 1 2; do
  # The options are words.
  # shellcheck disable=SC2086
  run "infect-$seed" "$seed" $infect
  # shellcheck disable=SC2086
  run "purify-$seed" "$seed" $purify
done
python3 scripts/emulated_table.py "$out" "$train" "$test" > docs/emulator.md
echo "== docs/emulator.md"
