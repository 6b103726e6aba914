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
declare -A data=([cifar10]=$(realpath "$1") [gtsrb]=$(realpath "$2") [tiny]=$(realpath "$3"))
cd "$(dirname "$0")/.."
out=${4:-target/report}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
mkdir -p "$out"
out=$(realpath "$out")
jobs=${JOBS:-$(nproc)}
all="--threads 1 --device cpu --quiet --seed 31 --limit 20000"

model() { # data set, name, options of infect
  local set=$1 name=$1-$2 truth=(); shift 2
  if [ ! -e "$out/$name/result.json" ]; then
    rm -rf "${out:?}/$name"
    "$pbe" infect --data "${data[$set]}" $all --batch 64 --width 8 --size 24 --epochs 10 "$@" --output "$out/$name" \
      > "$out/$name.log" 2>&1
  fi
  [ ! -e "$out/$name/poison.json" ] || truth=(--poison "$out/$name/poison.json")
  [ -e "$out/$name.purified/result.json" ] || "$pbe" purify --model "$out/$name/model.safetensors" \
    --data "${data[$set]}" $all "${truth[@]}" --force --output "$out/$name.purified" >> "$out/$name.log" 2>&1
}
beside() { # command
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
  "$@" &
}

for set in cifar10 gtsrb tiny; do
  beside model $set none --attack none
  beside model $set badnets --attack badnets --target 8
  beside model $set blend --attack blend --target 1
done
for set in cifar10 gtsrb; do
  beside model $set wanet --attack wanet --target 4 --fresh --strength 1
  beside model $set sig --attack sig --target 2 --rate 0.05
  beside model $set badnets-a2a --attack badnets --label all-to-all
  beside model $set blend-a2a --attack blend --label all-to-all
done
beside model cifar10 sig-a2a --attack sig --label all-to-all
wait
python3 scripts/report_table.py "$out"
