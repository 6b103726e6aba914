#!/usr/bin/env bash
# Trains small models, benign and infected, inspects them with their training images, and writes docs/inspect.md and
# src/analysis/benign_indices.txt: how often `pbe inspect` errs, and the benign models that its p-value counts.
#
#   scripts/inspect_calibration.sh CIFAR10 GTSRB TINY [OUT]
#
# Each is an image folder with train/. OUT is target/inspect by default. Resumable: what is there is not made again.
# PBE names the program, JOBS how many models are trained side by side (one for each core), MODELS a folder with two
# models of another program (see below). A model takes two to four minutes of one core.
set -euo pipefail
folder=inspect
source "$(dirname "$0")/small_models.sh"

beside() { # command
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
  "$@" &
}
cpu="--threads 1 --device cpu"
images="--limit 10000"

# Part c calibrates, v is what settings were chosen with besides, h is held out, i is infected. Where a file is missing in the end, inspect_table.py
# says so.
model() { # part, data set, name, options of infect
  local part=$1 set=$2 name=$1-$2-$3 trigger=(); shift 3
  if [ ! -e "$out/$name/result.json" ]; then
    rm -rf "${out:?}/$name"
    "$pbe" infect --data "$out/data/$set" --batch 64 $cpu "$@" --output "$out/$name" > /dev/null 2> "$out/$name.log" || {
      tail -n 1 "$out/$name.log"
      return 1
    }
  fi
  [ ! -e "$out/$name/poison.json" ] || trigger=("$out/$name/poison.json")
  # The images that it was trained on: --limit draws them by the seed.
  look "$name" "$set" "$out/$name/model.safetensors" "$images --seed $seed" "${trigger[@]}"
}
look() { # name, data set, model, which images, poison.json
  local name=$1 set=$2 known=(--model "$3" $cpu --json ${normalisation:-}) images=$4 poison=() trigger=()
  [ $# -lt 5 ] || { poison=(--poison "$5"); trigger=(--trigger "$5"); }
  [ -s "$out/$name.measured.json" ] || "$pbe" evaluate --data "${data[$set]}" "${known[@]}" "${trigger[@]}" \
    > "$out/$name.measured.json" 2>> "$out/$name.log"
  [ -s "$out/$name.inspect.json" ] || "$pbe" inspect --data "$out/data/$set" "${known[@]}" "${poison[@]}" $images \
    > "$out/$name.inspect.json" 2>> "$out/$name.log"
}

# Networks by seed; the same for benign and held-out models.
preact="--width 8 --size 24"
resnet="--width 16 --size 32 --network resnet18"
vgg="--width 12 --size 32 --network vgg11-bn-small-head"
for seed in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do
  part=c network=$preact
  ((seed <= 10)) || part=v
  ((seed <= 14)) || part=h
  ! [[ " 4 5 6 12 16 " == *" $seed "* ]] || network=$resnet
  ! [[ " 7 8 9 10 13 14 17 " == *" $seed "* ]] || network=$vgg
  for set in gtsrb cifar10 tiny; do
    beside model $part $set none-$seed --attack none --seed $seed $images --epochs 10 $network
  done
done
seed=21
for set in gtsrb cifar10; do
  trained="$images --epochs 10 --seed $seed"
  beside model i $set badnets --attack badnets --target 8 $trained $preact
  beside model i $set blend --attack blend --target 1 $trained $vgg
  beside model i $set wanet --attack wanet --target 4 --fresh --strength 1 $trained $preact
  beside model i $set sig --attack sig --target 2 --rate 0.05 $trained $resnet
  beside model i $set badnets-a2a --attack badnets --label all-to-all $trained $vgg
  beside model i $set blend-a2a --attack blend --label all-to-all $trained $vgg
done
beside model i tiny badnets --attack badnets --target 8 $trained $vgg
wait
# Two models of another program, width 16, full size: MODELS/{badnets,blend}-cifar10-w16.{safetensors,poison.json}.
if [ -n "${MODELS:-}" ]; then
  normalisation="--normalisation 0.4914,0.4822,0.4465/0.2470,0.2435,0.2616"
  for attack in badnets blend; do
    name=i-cifar10-$attack-other model=$MODELS/$attack-cifar10-w16
    mkdir -p "$out/$name"
    cp "$model.poison.json" "$out/$name/poison.json"
    beside look "$name" cifar10 "$model.safetensors" "--limit 5000" "$model.poison.json"
  done
  wait
fi
python3 scripts/inspect_table.py "$out"
