#!/usr/bin/env bash
# Breaks runs at random and checks that each ends with the bits of one that nothing broke.
#
#   scripts/faults.sh [ROUNDS] [SEED]     20 rounds, seed 1
#
# A round is a purification of a small model that is killed, stopped and continued, ended by a signal, started twice,
# limited in the size of its files, or has its checkpoint damaged, until it has gone through. The program is PBE, else
# the release build. tests/cli/faults has what each of these must say.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-20}
RANDOM=${2:-1}
[ -n "${PBE:-}" ] || cargo build --release --locked --quiet
pbe=${PBE:-target/release/pbe}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

data='synthetic:classes=4,per_class=60,test_per_class=10,size=12'
"$pbe" infect --data "$data" --attack badnets --rate 0.2 --width 4 --batch 16 --epochs 3 --lr 0.05 --device cpu \
  --output "$out/infected" > "$out/log" 2>&1
purify() { # folder
  local folder=$1
  exec "$pbe" purify --model "$out/infected/model.safetensors" --data "$data" --poison "$out/infected/poison.json" \
    --set batch=16 --set initial_set.no_sign=0 --set 'rounds.*.clean.epochs=30' --device cpu --output "$folder" > "$folder.out" 2> "$folder.err"
}
resume() { exec "$pbe" purify --resume "$1" > "$1.out" 2> "$1.err"; }
bits() { sha256sum < "$1/model.safetensors"; }
pause() { sleep "0.$(printf '%03d' $((RANDOM % 700)))"; }

(purify "$out/whole")
expected=$(bits "$out/whole")
declare -A counts
for ((round = 0; round < rounds; round++)); do
  run=$out/$round step=purify
  while [ ! -e "$run/result.json" ]; do
    ($step "$run") & pid=$!
    kind=$((RANDOM % 7))
    pause
    case $kind in
      0 | 1) kind=kill; kill -KILL $pid 2> "$out/null" || true ;;
      2) kind=signal; kill "-$(printf 'TERM\nINT\nHUP\n' | sed -n "$((RANDOM % 3 + 1))p")" $pid 2> "$out/null" || true ;;
      3) kind=stop; kill -STOP $pid 2> "$out/null" || true; pause; kill -CONT $pid 2> "$out/null" || true ;;
      4) # A second process in the same folder has to be refused while the first is there.
        kind=race
        if (resume "$run") && kill -0 $pid 2> "$out/null"; then
          echo "round $round: two processes worked in one folder"; exit 1
        fi ;;
      5) # Files can't grow: a full disk.
        kind=full; kill -KILL $pid 2> "$out/null" || true; wait $pid 2> "$out/null" || true
        (ulimit -f 8; resume "$run") & pid=$! ;;
      6) # Damage is refused, and the file as it was goes on.
        kind=damage; kill -KILL $pid 2> "$out/null" || true; wait $pid 2> "$out/null" || true
        if [ -s "$run/checkpoint.safetensors" ]; then
          cp "$run/checkpoint.safetensors" "$out/kept"
          at=$((RANDOM * 32768 + RANDOM)); at=$((at % $(stat -c %s "$out/kept")))
          printf '\x5a\xa5' | dd of="$run/checkpoint.safetensors" bs=1 seek=$at conv=notrunc 2> "$out/null"
          if ! cmp -s "$out/kept" "$run/checkpoint.safetensors" && (resume "$run"); then
            [ "$(bits "$run")" = "$expected" ] || { echo "round $round: a damaged checkpoint was continued"; exit 1; }
          fi
          [ -e "$run/result.json" ] || cp "$out/kept" "$run/checkpoint.safetensors"
        fi ;;
    esac
    counts[$kind]=$((${counts[$kind]:-0} + 1))
    code=0; wait $pid 2> "$out/null" || code=$?
    case $code in 0 | 1 | 2 | 130 | 137) ;; *) echo "round $round: exit code $code: $(tail -n 1 "$run.err")"; exit 1 ;; esac
    [ ! -e "$run/config.toml" ] || step=resume
  done
  [ "$(bits "$run")" = "$expected" ] || { echo "round $round: other bits"; exit 1; }
  leftovers=$(find "$run" -name '*.tmp')
  [ -z "$leftovers" ] || { echo "round $round: left over: $leftovers"; exit 1; }
done
echo "$rounds rounds, all to the same bits:" "$(for kind in "${!counts[@]}"; do printf '%s %s, ' "$kind" "${counts[$kind]}"; done)"
