#!/usr/bin/env bash
# The estimates in docs/performance.md: what the launches of a PreAct-ResNet-18 of width 64 take at best on an
# A100 and an H100, by `pbe profile --estimate`. No GPU is asked. The words above them are by hand.
#
#   scripts/estimates.sh            writes them
#   scripts/estimates.sh --check    fails where they differ from what is there
#
# PBE, a program, takes the place of the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${PBE:-}" ] || cargo build --release --quiet --locked -p pbe
pbe=${PBE:-target/release/pbe}
page=docs/performance.md
new=$(mktemp)
trap 'rm -f "$new"' EXIT

estimate() { # card, mode, further options
  "$pbe" profile --estimate --card "$1" --precision bf16 --mode "$2" "${@:3}"
}

summary() { # options
  for card in a100 h100; do
    for mode in attack train; do estimate "$card" "$mode" --json "$@"; done
  done | python3 scripts/estimates_summary.py
}

tables() {
  local card mode line
  printf '\nPreAct-ResNet-18 of width 64, 32x32, batch 128, bf16:\n\n'
  summary
  printf '\nResNet-18 of width 64, 224x224, batch 128, bf16:\n\n'
  summary --network resnet18 --image-size 224
  for card in a100 h100; do
    for mode in attack train; do
      line=(profile --estimate --card "$card" --precision bf16 --mode "$mode")
      printf '\n`pbe %s`\n```\n' "${line[*]}"
      "$pbe" "${line[@]}"
      echo '```'
    done
  done
}
{
  sed '/<!-- estimates: scripts\/estimates.sh -->/q' "$page"
  tables
  sed -n '/<!-- end of estimates -->/,$p' "$page"
} > "$new"
if [ "${1:-}" = --check ]; then
  diff -u "$page" "$new" || { echo "$page: run scripts/estimates.sh" >&2; exit 1; }
else
  cat "$new" > "$page"
fi
