#!/usr/bin/env bash
# Three stories from end to end, as a user lives them: a fine-tuned ResNet-18 whose photographs have a patch in them,
# BackdoorBench's record of an attack, and a clean model with clean data. Checks what comes out, and writes
# docs/stories.md: the commands and what they print.
#
#   scripts/stories.sh CIFAR10 TINY [OUT]    image folder of CIFAR-10 (train/<class>/*, test/<class>/*); Tiny-ImageNet
#   scripts/stories.sh --quick [OUT]         on small synthetic images; writes no page
#
# OUT is target/stories by default. STORIES names some of the stories, patch, record, clean: then the others are left as
# they are there. PBE names the program. Takes Python 3.
set -euo pipefail
quick=
if [ "${1:-}" = --quick ]; then quick=1; shift; else cifar=$(realpath "$1") tiny=$(realpath "$2"); shift 2; fi
cd "$(dirname "$0")/.."
repository=$PWD
[ -n "${PBE:-}" ] || cargo build --release --locked --quiet -p pbe
pbe=$(realpath "${PBE:-${CARGO_TARGET_DIR:-target}/release/pbe}")
out=${1:-${CARGO_TARGET_DIR:-target}/stories}
mkdir -p "$out"
out=$(realpath "$out")

say() { printf '%s\n' "$@" '' >> page.md; }
shown() { # file, command: into the page, with what it printed
  local printed=$1; shift
  { echo '```'; printf '$'; printf ' %s' "$@"; echo; cat "$printed"; echo '```'; } >> page.md
}
# A command of the program. The page has what it prints without progress and the machine.
run() {
  local status=0 began=$SECONDS
  "$pbe" "$@" > said.txt 2>&1 || status=$?
  grep -vE '^(device|memory): |^[^:]+: [0-9]+ %, |^epoch [0-9]+: |^writing ' said.txt > kept.txt || true
  shown kept.txt pbe "$@"
  echo "$((SECONDS - began)) s: pbe $*"
  [ $status = 0 ] || { cat said.txt; return $status; }
}
torch_files() {
  python3 "$repository/scripts/torch_files.py" "$@"
  shown /dev/null python3 scripts/torch_files.py "$@"
}

failed=0
# A condition on a result.json, r, and its figures: model m, detection d, estimate e, before b, after a.
check() { # what, run, condition in Python, figures to print
  local figures
  if figures=$(python3 - "$2/result.json" "$3" "$4" $quick << 'END'
import json, sys
r = json.load(open(sys.argv[1]))
m, quick = r["inputs"]["models"][0], len(sys.argv) > 4
d, e, b, a = r["detection"], r.get("asr_estimate") or {}, r["before"], r["after"]
print(eval("f'''" + sys.argv[3] + "'''"))
sys.exit(not eval(sys.argv[2]))
END
  ); then echo "pass  $1: $figures"; else echo "FAIL  $1: $figures"; failed=1; fi
}

linked() { # data set, part, images of a class, folder: so many of each class by links
  local class
  for class in "$1/$2"/*/; do
    mkdir -p "$4/$2/$(basename "$class")"
    find "$class" -type f | sort | awk -v n="$3" 'NR <= n' | xargs ln -s -t "$4/$2/$(basename "$class")"
  done
}
# Every second class of Tiny-ImageNet is the owner's, in photographs-clean/; what the network saw before are the others.
photographs() {
  local class number=0 to
  for class in "$tiny"/train/*/; do
    to=others
    [ $((number++ % 2)) = 1 ] || to=photographs-clean
    mkdir -p "$to/train"
    ln -s "$class" "$to/train/$(basename "$class")"
  done
  while read -r file class _; do
    [ -d "photographs-clean/train/$class" ] || continue
    mkdir -p "photographs-clean/val/$class"
    ln -s "$tiny/val/images/$file" "photographs-clean/val/$class/"
  done < "$tiny/val/val_annotations.txt"
}
# A chequered patch in the corner.
patch_pictures() { # side of the images, of the patch
  local kind
  for kind in mask pattern; do
    awk -v side="$1" -v patch="$2" -v kind=$kind 'BEGIN {
      print "P2", side, side, 255
      first = side - patch
      for (y = 0; y < side; y++) for (x = 0; x < side; x++)
        print 255 * (kind == "mask" ? x >= first && y >= first : (int(x / 2) + int(y / 2)) % 2)
    }' > "patch-$kind.pgm"
  done
}
synthetic() { # folder, settings: as an image folder; the trigger is below a grey level, and the label stays
  "$pbe" --quiet poison --data "synthetic:classes=6,per_class=400,test_per_class=50,$2" --attack sig --delta 0.1 --count 1 \
    --output "$1" > /dev/null
}

if [ -n "$quick" ]; then
  network=resnet18-small-stem train="--width 8 --batch 32 --lr 0.05 --crop 0 --no-flip --epochs 10" rate=0.1
  purify="--batch 32 --set rounds.0.clean.epochs=6 --set rounds.1.clean.epochs=4"
else
  network=resnet18 train="--width 8 --batch 64 --epochs 15" rate=0.1
  purify=
fi
# A small CIFAR-10.
small_cifar() {
  if [ -n "$quick" ]; then synthetic cifar10 size=24; return; fi
  linked "$cifar" train 500 cifar10
  linked "$cifar" test 200 cifar10
}

patch() {
  if [ -n "$quick" ]; then
    synthetic photographs-clean size=24
    synthetic others seed=1,size=24
    patch_pictures 24 4
  else
    photographs
    patch_pictures 64 8
  fi
  say "" "## Photographs with a patch in them" \
"Somebody fine-tunes a ResNet-18 of torchvision's key names on a folder of photographs (ten classes of Tiny-ImageNet), a tenth of which a stranger has put a chequered patch on and filed under another class. First what happened before the owner has the model. Published weights aren't at hand, so the network has learnt the other ten classes:"
  # shellcheck disable=SC2086
  run infect --data others --attack none --network $network $train --output base
  run poison --data photographs-clean --attack badnets --mask patch-mask.pgm --pattern patch-pattern.pgm --target 2 \
    --rate $rate --output photographs
  # shellcheck disable=SC2086
  run infect --data photographs --attack none --init base/model.safetensors $train --output trained
  torch_files trained/model.safetensors suspect.pth
  say "" "The owner has \`suspect.pth\`, a state dict as \`torch.save\` writes it, and \`photographs/\`. Nothing says the normalisation, and nobody knows of a trigger. Is it infected?"
  run inspect --model suspect.pth --data photographs --output suspects.csv
  say "" "And without the backdoor:"
  # shellcheck disable=SC2086
  run purify --model suspect.pth --data photographs $purify --output purified-photographs
  say "" "\`purified-photographs/report.html\` shows the same with the suspected images. Who knows the trigger can see how true that is:"
  run evaluate --model purified-photographs/model.safetensors --data photographs --trigger photographs/poison.json \
    --against suspect.pth
}

record() {
  small_cifar
  say "" "## BackdoorBench's record of an attack" \
"BackdoorBench leaves \`attack_result.pt\` with the model and a list of the poisoned images, which are in \`bd_train_dataset/\` and \`bd_test_dataset/\` beside it. This one is made here, of the same parts (5,000 images of CIFAR-10 in their folders):"
  run poison --data cifar10 --attack blend --target 1 --rate $rate --output poisoned
  # shellcheck disable=SC2086
  run infect --data poisoned --attack none $train --output victim
  mkdir test-alone
  ln -s ../cifar10/test test-alone/train
  run poison --data test-alone --attack blend --target 1 --rate 1 --output triggered
  torch_files victim/model.safetensors record cifar10 poisoned triggered
  say "" "With the clean data set the record is model, training set and truth at once:"
  run inspect --model record/attack_result.pt --poison record/attack_result.pt --data cifar10
  # shellcheck disable=SC2086
  run purify --model record/attack_result.pt --poison record/attack_result.pt --data cifar10 $purify --output purified-record
}

clean() {
  small_cifar
  say "" "## A clean model and clean data" "Nothing is to be found here, and nothing is to be claimed:"
  # shellcheck disable=SC2086
  run infect --data cifar10 --attack none $train --output benign
  run inspect --model benign/model.safetensors --data cifar10
  # shellcheck disable=SC2086
  run purify --model benign/model.safetensors --data cifar10 $purify --output purified-benign
}

# The small models of the quick form needn't come out well. What doesn't has to be called that.
judge_patch() {
  check "photographs: what was read is told" purified-photographs \
    'm["network"].startswith("resnet18") and m["normalisation_from"] == "fitted"' \
    '{m["network"]}, {m["normalisation"]} ({m["normalisation_from"]})'
  judge purified-photographs photographs
  [ -z "$quick" ] || return 0
  check "photographs: infected, target right" purified-photographs 'd["verdict"] == "infected" and d["targets"] == [2]' \
    '{d["verdict"]}, {d["targets"]}'
  check "photographs: estimate" purified-photographs 'bool(e) and e["after"] < 20 < 50 < e["before"]' \
    '{e.get("before")} to {e.get("after")}'
}
judge_record() {
  judge purified-record record
  check "record: trigger" purified-record 'b["asr"] > 80 and (a["asr"] < 20 or quick and r.get("not_done"))' \
    '{b["asr"]:.2f} to {a["asr"]:.2f}'
}
judge() { # run, name
  check "$2: accuracy" "$1" 'a["clean_accuracy"] > b["clean_accuracy"] - 5 or quick and r.get("not_done")' \
    '{b["clean_accuracy"]:.2f} to {a["clean_accuracy"]:.2f}{", called not done" * bool(r.get("not_done"))}'
}
judge_clean() {
  check "clean: nothing is claimed" purified-benign 'd["verdict"] != "infected" and not e' '{d["verdict"]}'
  check "clean: accuracy stays within half a point" purified-benign \
    'abs(a["clean_accuracy"] - b["clean_accuracy"]) <= 0.5' '{b["clean_accuracy"]:.2f} to {a["clean_accuracy"]:.2f}'
}
for story in ${STORIES:-patch record clean}; do
  rm -rf "${out:?}/$story"
  mkdir "$out/$story"
  cd "$out/$story"
  began=$SECONDS
  "$story"
  say "" "$((SECONDS - began)) seconds on $(nproc) cores of a machine that did other work too."
  "judge_$story"
done
if [ -z "$quick" ]; then
  {
    echo "# Three stories"
    echo
    echo "Made by \`scripts/stories.sh\`: the commands and all that they print but progress and the machine. The networks are small, so that each story takes minutes on two cores."
    cat "$out"/{patch,record,clean}/page.md
  } > "$repository/docs/stories.md"
fi
echo "== stories: ${SECONDS}s"
exit $failed
