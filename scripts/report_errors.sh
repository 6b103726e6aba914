#!/usr/bin/env bash
# Trains small models, benign and infected, purifies them without a clean set and without telling the trigger, and writes
# docs/report.md: how far the report of `pbe purify` is from the truth.
#
#   scripts/report_errors.sh CIFAR10 GTSRB TINY [OUT]
#
# Each is an image folder with train/ and a test split. OUT is target/report by default. Resumable: what is there is not
# made again. PBE names the program, JOBS how many models are worked on side by side (one for each core). A model takes
# some four minutes of one core.
set -euo pipefail
folder=report
source "$(dirname "$0")/small_models.sh"
all="--threads 1 --device cpu --quiet --seed 31"

model() { # data set, name, options of infect
  local set=$1 name=$1-$2 truth=(); shift 2
  if [ ! -e "$out/$name/result.json" ]; then
    rm -rf "${out:?}/$name"
    "$pbe" infect --data "$out/data/$set" $all --limit 10000 --batch 64 --width 8 --size 24 --epochs 12 "$@" \
      --output "$out/$name" > "$out/$name.log" 2>&1
  fi
  [ ! -e "$out/$name/poison.json" ] || truth=(--poison "$out/$name/poison.json")
  purified "$name" purified --set data.limit=10000 "${truth[@]}"
}
purified() { # model, ending of the folder, options of purify
  local name=$1 run=$1.$2; shift 2
  [ -e "$out/$run/result.json" ] || "$pbe" purify --model "$out/$name/model.safetensors" --data "${data[${name%%-*}]}" \
    $all "$@" --force --output "$out/$run" > "$out/$run.log" 2>&1
}
beside() { # command
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
  "$@" &
}

for set in cifar10 gtsrb tiny; do
  beside model $set none --attack none
  beside model $set badnets --attack badnets --target 8
done
beside model cifar10 blend --attack blend --target 1
beside model cifar10 sig --attack sig --target 2 --rate 0.05
beside model gtsrb badnets-a2a --attack badnets --label all-to-all
wait
# With fewer images: of the poisoned data, then clean ones.
for name in cifar10-badnets gtsrb-badnets; do
  for images in 250 500 1000 2500; do
    beside purified $name images-$images --set data.limit=$images --poison "$out/$name/poison.json"
  done
  for images in 50 100 250 500; do
    beside purified $name clean-$images --set data.limit=10000 --clean 0.$(printf %04d $images) \
      --trigger "$out/$name/poison.json"
  done
done
wait
python3 scripts/report_table.py "$out"
