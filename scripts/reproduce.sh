#!/usr/bin/env bash
# Regenerates docs/results.md: plants backdoors on CIFAR-10 and Fashion-MNIST, purifies those models
# and the two of another program, and measures everything on the full test sets.
#
#   scripts/reproduce.sh CIFAR10_FOLDER FASHION_MNIST_FOLDER MODELS_FOLDER [OUT]
#
# MODELS_FOLDER holds badnets-cifar10-w16 and blend-cifar10-w16 (.safetensors, .poison.json).
# Set in the environment, these add to it: ATTACKS=1 the other attacks on CIFAR-10, and all of them all-to-all;
# GTSRB and TINY_IMAGENET, folders with these sets (200 classes or fewer), models of them.
# Resumable: a run whose result.json is there is not run again. OUT is target/reproduce by default.
set -euo pipefail
gtsrb=${GTSRB:+$(realpath "$GTSRB")}
tiny=${TINY_IMAGENET:+$(realpath "$TINY_IMAGENET")}
cifar=$(realpath "$1"); fashion=$(realpath "$2"); models=$(realpath "$3")
cd "$(dirname "$0")/.."
out=${4:-target/reproduce}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
mkdir -p "$out"
# The two models carry no metadata: their README states the normalisation.
foreign="--normalisation 0.4914,0.4822,0.4465/0.2470,0.2435,0.2616"

run() { # name, command and options
  local name=$1; shift
  [ -e "$out/$name/result.json" ] && return 0
  echo "== $name: pbe $*"
  local resume=""
  if [ -e "$out/$name/config.toml" ]; then resume="--resume"; fi
  "$pbe" "$@" $resume --output "$out/$name" > "$out/$name.txt" 2> "$out/$name.log" || { tail -n 3 "$out/$name.log"; return 1; }
  tail -n 4 "$out/$name.txt"
}
measure() { # name, options of evaluate
  local name=$1; shift
  [ -s "$out/$name.json" ] && return 0
  "$pbe" evaluate --json "$@" > "$out/$name.json" 2>> "$out/evaluate.log"
}

infect_cifar="infect --data $cifar --width 16 --seed 0"
infect_fashion="infect --data $fashion --width 16 --epochs 3 --seed 0"
infect_gtsrb="infect --data $gtsrb --width 8 --epochs 10 --seed 0"
infect_tiny="infect --data $tiny --network resnet18 --width 16 --epochs 20 --seed 0"
attack() { # name of a run: set, attack, -20 for 20 epochs, -all for all-to-all, -1 for 1 % of poison
  local attack=${1#*-} options=""
  case $1 in
    *-20*) options="--epochs 20"; attack=${attack/-20/} ;;
    cifar-*) options="--epochs 10" ;;
    # A large class. None has images for SIG at 10 % with its label as it is.
    gtsrb-sig) options="--target 2 --dirty-label" ;;
    gtsrb-*) options="--target 2" ;;
    # The patch of 32x32, resized: 6x6.
    tiny-*) options="--mask $out/cifar-badnets/badnets-mask.png --pattern $out/cifar-badnets/badnets-pattern.png" ;;
  esac
  case $attack in
    # SIG without its label changed needs one target.
    sig-all) echo "--attack sig --rate 0.1 --dirty-label --label all-to-all $options" ;;
    *-all) echo "--attack ${attack%-all} --rate 0.1 --label all-to-all $options" ;;
    *-1) echo "--attack ${attack%-1} --rate 0.01 $options" ;;
    *) echo "--attack $attack --rate 0.1 $options" ;;
  esac
}
floors() {
  for name in cifar-badnets cifar-blend cifar-badnets-1 cifar-blend-1 $others; do
    [ -e "$out/$name/poison.json" ] || continue
    measure "$name.floor" --model "$out/cifar-benign/model.safetensors" --data "$cifar" --trigger "$out/$name/poison.json"
  done
  measure fashion-badnets.floor --model "$out/fashion-benign/model.safetensors" --data "$fashion" --trigger "$out/fashion-badnets/poison.json"
  for name in badnets blend; do
    measure "foreign-$name" --model "$models/$name-cifar10-w16.safetensors" --data "$cifar" --trigger "$models/$name-cifar10-w16.poison.json" $foreign
    measure "foreign-$name.floor" --model "$out/cifar-benign/model.safetensors" --data "$cifar" --trigger "$models/$name-cifar10-w16.poison.json"
  done
}
erase() { # recipe, setting, seed, models
  local recipe=$1 setting=$2 seed=$3 name; shift 3
  for name in "$@"; do
    local data=$cifar model="$out/$name/model.safetensors" poison="$out/$name/poison.json" extra=""
    case $name in
      fashion-*) data=$fashion ;;
      gtsrb-*) data=$gtsrb ;;
      tiny-*) data=$tiny ;;
      foreign-*) model="$models/${name#foreign-}-cifar10-w16.safetensors"; poison="${model%.safetensors}.poison.json"; extra=$foreign ;;
    esac
    case $recipe.$setting in
      *.clean) extra="$extra --clean-fraction 0.05" ;;
      # The paper's setting without a clean set costs about 20 epochs: on a cut of the data.
      paper.none) extra="$extra --limit 10000" ;;
    esac
    run "$name.$recipe.$setting.$seed" purify --model "$model" --data "$data" --poison "$poison" --recipe "$recipe" --seed "$seed" $extra
  done
}

plant() { # infect with its options, models
  local infect=$1 name; shift
  for name in "$@"; do
    # shellcheck disable=SC2046
    run "$name" $infect $(attack "$name")
  done
}
plant_and_erase() { # infect with its options, models
  local seed
  plant "$@"
  shift
  for seed in 0 1 2; do
    erase default clean "$seed" "$@"
    erase default none "$seed" "$@"
  done
}

own="cifar-badnets cifar-blend fashion-badnets"
others="cifar-sig cifar-wanet cifar-dynamic
  cifar-badnets-all cifar-blend-all cifar-sig-all cifar-wanet-all cifar-dynamic-all
  cifar-dynamic-20 cifar-dynamic-20-all"
gtsrb_models="gtsrb-badnets gtsrb-blend gtsrb-sig gtsrb-wanet gtsrb-dynamic"
foreign_models="foreign-badnets foreign-blend"
run cifar-benign $infect_cifar --epochs 10 --attack none
plant "$infect_cifar" cifar-badnets
erase default clean 0 $foreign_models cifar-badnets
erase default none 0 $foreign_models cifar-badnets
run fashion-badnets $infect_fashion --attack badnets --rate 0.1
run fashion-benign $infect_fashion --attack none
erase default clean 0 fashion-badnets
erase default none 0 fashion-badnets
plant "$infect_cifar" cifar-blend
erase default clean 0 cifar-blend
erase default none 0 cifar-blend
erase paper clean 0 $own
for seed in 1 2; do
  erase default clean $seed $own
  erase default none $seed $own
done
erase paper none 0 $own
if [ -n "${ATTACKS:-}" ]; then
  run cifar-benign-20 $infect_cifar --epochs 20 --attack none
  plant "$infect_cifar" cifar-badnets-1 cifar-blend-1
  plant_and_erase "$infect_cifar" $others
fi
if [ -n "$gtsrb" ]; then
  run gtsrb-benign $infect_gtsrb --attack none
  plant_and_erase "$infect_gtsrb" $gtsrb_models
  for name in $gtsrb_models; do
    measure "$name.floor" --model "$out/gtsrb-benign/model.safetensors" --data "$gtsrb" --trigger "$out/$name/poison.json"
  done
fi
if [ -n "$tiny" ]; then
  run tiny-benign $infect_tiny --attack none
  plant_and_erase "$infect_tiny" tiny-badnets
  measure tiny-badnets.floor --model "$out/tiny-benign/model.safetensors" --data "$tiny" --trigger "$out/tiny-badnets/poison.json"
fi
floors
python3 scripts/results_table.py "$out" > docs/results.md
echo "docs/results.md written"
