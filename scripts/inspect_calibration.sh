#!/usr/bin/env bash
# Trains small models, benign and infected, inspects them with their training images, and writes docs/inspect.md and
# src/analysis/benign_indices.txt: how often `pbe inspect` errs, and the benign models that its p-value counts.
#
#   scripts/inspect_calibration.sh CIFAR10 GTSRB TINY [OUT]
#
# Each is an image folder with train/. OUT is target/inspect by default. Resumable: what is there is not made again.
# PBE names the program, MODELS a folder with two models of another program (see below). A model takes 5 to 60 seconds of one core.
set -euo pipefail
declare -A data=([cifar10]=$(realpath "$1") [gtsrb]=$(realpath "$2") [tiny]=$(realpath "$3"))
cd "$(dirname "$0")/.."
out=${4:-target/inspect}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
mkdir -p "$out"
out=$(realpath "$out")
for set in "${!data[@]}"; do
  # Without a test split no epoch is measured.
  mkdir -p "$out/data/$set"
  ln -sfn "${data[$set]}/train" "$out/data/$set/train"
  find "${data[$set]}" -maxdepth 1 -name '*.txt' -exec ln -sfn {} "$out/data/$set/" \;
done

# Part c calibrates, h is held out, i is infected (held out too).
model() { # part, data set, name, options of infect
  local part=$1 set=$2 name=$1-$2-$3 trigger=(); shift 3
  if [ ! -e "$out/$name/result.json" ]; then
    rm -rf "${out:?}/$name"
    "$pbe" infect --data "$out/data/$set" --batch 64 --threads 1 --device cpu "$@" --output "$out/$name" \
      > /dev/null 2> "$out/$name.log" || { tail -n 1 "$out/$name.log"; return 1; }
  fi
  if [ -e "$out/$name/poison.json" ]; then
    trigger=(--poison "$out/$name/poison.json")
    [ -s "$out/$name.measured.json" ] || "$pbe" evaluate --data "${data[$set]}" --model "$out/$name/model.safetensors" \
      --trigger "$out/$name/poison.json" --threads 1 --device cpu --json > "$out/$name.measured.json" 2>> "$out/$name.log"
  fi
  [ -s "$out/$name.inspect.json" ] || "$pbe" inspect --data "$out/data/$set" --model "$out/$name/model.safetensors" \
    "${trigger[@]}" --limit 5000 --threads 1 --device cpu --json > "$out/$name.inspect.json" 2>> "$out/$name.log"
}

for set in cifar10 gtsrb tiny; do
  small="--size 16 --limit 5000 --epochs 8"
  [ $set != tiny ] || small="--size 16 --limit 5000 --epochs 10"
  for seed in 1 2 3 4; do model c $set none-$seed --attack none --seed $seed $small --width 6; done
  for seed in 5 6; do model c $set none-$seed --attack none --seed $seed $small --width 10; done
  for seed in 7 8; do
    model c $set none-$seed --attack none --seed $seed $small --width 6 --network resnet18-small-stem
  done
  for seed in 9 10; do model c $set none-$seed --attack none --seed $seed $small --width 8; done
  for seed in 11 12; do model h $set none-$seed --attack none --seed $seed $small --width 6; done
  model h $set none-13 --attack none --seed 13 $small --width 6 --network resnet18-small-stem
done
for set in cifar10 gtsrb; do
  larger="--size 16 --limit 10000 --epochs 8 --width 8 --seed 21"
  model i $set badnets --attack badnets --target 8 $larger
  model i $set blend --attack blend --target 1 $larger
  model i $set wanet --attack wanet --target 4 --fresh --strength 1 $larger
  model i $set sig --attack sig --target 2 --rate 0.05 $larger
  model i $set blend-a2a --attack blend --label all-to-all $larger
done
# Two models of another program, width 16, full size: MODELS/{badnets,blend}-cifar10-w16.{safetensors,poison.json}.
if [ -n "${MODELS:-}" ]; then
  for attack in badnets blend; do
    name=i-cifar10-$attack-other model=$MODELS/$attack-cifar10-w16
    mkdir -p "$out/$name"
    cp "$model.poison.json" "$out/$name/poison.json"
    known="--normalisation 0.4914,0.4822,0.4465/0.2470,0.2435,0.2616 --threads 1 --device cpu --json"
    [ -s "$out/$name.inspect.json" ] || "$pbe" inspect --model "$model.safetensors" --data "$out/data/cifar10" \
      --poison "$model.poison.json" --limit 5000 $known > "$out/$name.inspect.json" 2> "$out/$name.log"
    [ -s "$out/$name.measured.json" ] || "$pbe" evaluate --model "$model.safetensors" --data "${data[cifar10]}" \
      --trigger "$model.poison.json" $known > "$out/$name.measured.json" 2>> "$out/$name.log"
  done
fi
python3 scripts/inspect_table.py "$out"
