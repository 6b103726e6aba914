#!/usr/bin/env bash
# Prints docs/observation.md: does the paper's observation hold for the models of scripts/reproduce.py, attack by
# attack? `pbe observe` on 500 test images of each, at five radii, beside the benign model of the same set.
#
#   scripts/observation.sh REPRODUCED CIFAR10_FOLDER FASHION_MNIST_FOLDER [GTSRB_FOLDER]
#
# Models that aren't there are left out; what was observed before is kept. About a minute for each model on one core.
set -euo pipefail
reproduced=$(realpath "$1"); cifar=$(realpath "$2"); fashion=$(realpath "$3"); gtsrb=${4:+$(realpath "$4")}
cd "$(dirname "$0")/.."
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
out=$reproduced/observed
mkdir -p "$out"

for folder in "$reproduced"/{cifar,fashion,gtsrb}-*/; do
  name=$(basename "$folder")
  case $name in *.* | *-benign) continue ;; esac
  [ -e "$folder/result.json" ] && [ -e "$folder/poison.json" ] || continue
  case $name in cifar-*) data=$cifar ;; fashion-*) data=$fashion ;; gtsrb-*) data=$gtsrb ;; esac
  benign=$reproduced/${name%%-*}-benign/model.safetensors
  for epsilon in 4 8 16 32 64; do
    [ -e "$out/$name.$epsilon/result.json" ] && continue
    "$pbe" observe --model "$folder/model.safetensors" --benign "$benign" --trigger "$folder/poison.json" \
      --data "$data" --images 500 --epsilon "$epsilon" --output "$out/$name.$epsilon" > /dev/null 2> "$out/$name.log" \
      || { tail -n 1 "$out/$name.log"; exit 1; }
  done
done
python3 scripts/observation_table.py "$reproduced" > docs/observation.md
echo "docs/observation.md written"
