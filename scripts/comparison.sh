#!/usr/bin/env bash
# Writes docs/comparison.md: every defence on small infected models of CIFAR-10, one seed, a clean set of 500 images.
#
#   scripts/comparison.sh CIFAR10 MODELS [OUT]
#
# CIFAR10 is an image folder; MODELS is where scripts/report_errors.sh has left its models (target/report). OUT is
# target/comparison by default. Resumable: a run that has ended isn't made again. Two processes of one thread each; it
# takes some two hours of two cores. PBE names the program.
set -euo pipefail
cifar10=$(realpath "$1") models=$(realpath "$2")
cd "$(dirname "$0")/.."
out=${3:-target/comparison}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
compare() { # options
  "$pbe" compare --models "$models"/cifar10-{badnets,blend} --data "$cifar10" --defenses all --seeds 1 --limit 10000 \
    --threads 1 --device cpu --quiet --output "$out" "$@"
}
seq 2 | xargs -P 2 -I K bash -c "$(declare -p pbe models cifar10 out); $(declare -f compare); compare --shard K/2 > /dev/null"
{
  cat <<'TEXT'
# Defences side by side, small models

Written by `scripts/comparison.sh`: PreAct-ResNet-18 of width 8 at 24x24 pixels, trained on 10,000 images of CIFAR-10 by `scripts/report_errors.sh` (BadNets to label 8, Blend to label 1, 10 % poison). The clean set is 500 images. `pbe-no-clean` has the 10,000 poisoned images in place of it. Per cent on the whole test set, one seed. The models are weak: the table shows what each defence does to them, not how well it can do. Results on larger models are in [results.md](results.md), of PBE alone so far.

The seconds are by the clock, of one thread on a machine that had other work to do: they say no more than the order of size.

TEXT
  compare | sed 's/^# /## /'
} > docs/comparison.md
