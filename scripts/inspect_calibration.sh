#!/usr/bin/env bash
# Trains small models, benign and infected, measures their backdoors, inspects them and larger ones, and
# prints docs/inspect.md: what the threshold of `pbe inspect` was chosen on, and how often it errs.
#
#   scripts/inspect_calibration.sh CIFAR10_FOLDER FASHION_MNIST_FOLDER [OUT [REPRODUCED MODELS]]
#
# CIFAR10_FOLDER is an image folder with train/ and test/. Resumable: what is there is not made again.
# OUT is target/inspect by default. REPRODUCED holds the runs of `scripts/reproduce.py`, MODELS the two
# models of another program that it names: larger models. GTSRB in the environment is the folder of that set,
# for its models. Each small model takes about 20 seconds of one core.
set -euo pipefail
cifar=$(realpath "$1"); fashion=$(realpath "$2")
cd "$(dirname "$0")/.."
out=${3:-target/inspect}
reproduced=${4:-}; models=${5:-}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
mkdir -p "$out/cifar" "$out/fashion"
out=$(realpath "$out")
# Without a test split no epoch is measured: that is done once, at the end.
ln -sfn "$cifar/train" "$out/cifar/train"
for file in "$fashion"/train-*; do ln -sfn "$file" "$out/fashion/"; done

model() { # part, data, name, options of infect
  local part=$1 data=$2 name=$1-$2-$3; shift 3
  local train test options
  case $data in
    cifar) train="$out/cifar" test=$cifar options="--size 16 --limit 20000 --epochs 8" ;;
    fashion) train="$out/fashion" test=$fashion options="--limit 10000 --epochs 3" ;;
    shapes) train="synthetic:per_class=400,test_per_class=1,seed=1" test="synthetic:per_class=2,test_per_class=100,seed=1" options="--epochs 10" ;;
  esac
  case "$*" in *--width*) ;; *) options+=" --width 8" ;; esac
  if [ ! -e "$out/$name/result.json" ]; then
    rm -rf "${out:?}/$name"
    "$pbe" infect --data "$train" $options --batch 64 --threads 1 --device cpu "$@" \
      --output "$out/$name" > /dev/null 2> "$out/$name.log" || { tail -n 3 "$out/$name.log"; return 1; }
  fi
  if [ ! -s "$out/$name.measured.json" ]; then
    local trigger=""
    if [ -e "$out/$name/poison.json" ]; then trigger="--trigger $out/$name/poison.json"; fi
    "$pbe" evaluate --data "$test" --model "$out/$name/model.safetensors" $trigger --threads 1 --device cpu \
      --json > "$out/$name.measured.json" 2>> "$out/$name.log"
  fi
}

# Part c sets the threshold, part h is held out: other seeds, targets and widths.
model c cifar benign-1 --attack none --seed 1
model c cifar badnets --attack badnets --seed 1 --target 3
model c cifar blend --attack blend --seed 1 --target 5
model c cifar benign-2 --attack none --seed 2 --width 6
model c cifar badnets-a2a --attack badnets --seed 1 --label all-to-all
model c cifar sig --attack sig --seed 1 --target 7
model c cifar wanet --attack wanet --seed 1 --target 2 --fresh --strength 1
model c fashion benign-1 --attack none --seed 1
model c fashion badnets --attack badnets --seed 1 --target 3
model c fashion blend --attack blend --seed 1 --target 5
model c fashion benign-2 --attack none --seed 2 --width 6
model h cifar benign-1 --attack none --seed 11 --width 10
model h cifar badnets --attack badnets --seed 11 --target 8
model h cifar blend --attack blend --seed 11 --target 1
model h cifar benign-2 --attack none --seed 12
model c shapes benign-1 --attack none --seed 1
model c shapes badnets --attack badnets --seed 1 --target 3
model h fashion benign-1 --attack none --seed 11 --width 10
model h fashion blend --attack blend --seed 11 --target 1
model h shapes benign-1 --attack none --seed 11 --width 10
model h shapes badnets --attack badnets --seed 11 --target 8

look() { # name, model, data, further options
  local name=$1 model=$2 data=$3; shift 3
  [ -s "$out/$name.inspect.json" ] && return 0
  "$pbe" inspect --model "$model" --data "$data" "$@" --device cpu --threads 1 --json > "$out/$name.inspect.tmp" \
    2>> "$out/$name.log"
  mv "$out/$name.inspect.tmp" "$out/$name.inspect.json"
}
for folder in "$out"/[ch]-*/; do
  name=$(basename "$folder")
  [ -e "$folder/result.json" ] || continue
  case $name in
    *-cifar-*) data=$cifar ;;
    *-fashion-*) data=$fashion ;;
    *-shapes-*) data="synthetic:per_class=50,test_per_class=1,seed=2" ;;
  esac
  look "$name" "$folder/model.safetensors" "$data"
done
if [ -n "$reproduced" ]; then
  for folder in "$reproduced"/{cifar,fashion,gtsrb}-*/; do
    name=$(basename "$folder")
    case $name in *.*) continue ;; cifar-*) data=$cifar ;; fashion-*) data=$fashion ;; gtsrb-*) data=${GTSRB:-} ;; esac
    [ -n "$data" ] && [ -e "$folder/result.json" ] || continue
    case $name in cifar-benign | cifar-badnets | cifar-blend | fashion-*) part=r ;; *) part=l ;; esac
    look "$part-$name" "$folder/model.safetensors" "$data"
    cp "$folder/result.json" "$out/$part-$name.measured.json"
    [ ! -e "$folder/poison.json" ] || { mkdir -p "$out/$part-$name"; cp "$folder/poison.json" "$out/$part-$name/"; }
  done
  for name in badnets blend; do
    look "r-cifar-$name-other" "$models/$name-cifar10-w16.safetensors" "$cifar" \
      --normalisation 0.4914,0.4822,0.4465/0.2470,0.2435,0.2616
    cp "$reproduced/foreign-$name.json" "$out/r-cifar-$name-other.measured.json"
  done
fi
python3 scripts/inspect_table.py "$out" > docs/inspect.md
echo "docs/inspect.md written"
