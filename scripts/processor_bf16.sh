#!/usr/bin/env bash
# Prints a Markdown table: purifications of small infected models in bf16 on the processor beside f32, with and without a
# clean set.
#
#   scripts/processor_bf16.sh CIFAR10 GTSRB MODELS [OUT]
#
# CIFAR10 and GTSRB are image folders; MODELS is where scripts/report_errors.sh has left its models (target/report). OUT
# is target/processor-bf16 by default. Resumable. The processor needs a matrix unit (`pbe doctor`). PBE names the program.
set -euo pipefail
cifar10=$(realpath "$1") gtsrb=$(realpath "$2") models=$(realpath "$3")
cd "$(dirname "$0")/.."
out=${4:-target/processor-bf16}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet --locked
compare() { # precision, data set's name, its folder, models
  local precision=$1 name=$2 data=$3
  shift 3
  "$pbe" compare --models "$@" --data "$data" --defenses pbe,pbe-no-clean --seeds 1 --limit 10000 --device cpu \
    --precision "$precision" --quiet --output "$out/$name-$precision" > /dev/null
}
for precision in f32 bf16; do
  compare "$precision" cifar10 "$cifar10" "$models"/cifar10-{badnets,blend,sig}
  compare "$precision" gtsrb "$gtsrb" "$models"/gtsrb-{badnets,badnets-a2a}
done
python3 - "$out" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
differences = []
print("| model | | infected, ACC / ASR | f32 | bf16 |\n|---|---|---|---|---|")
for f32 in sorted(out.glob("*-f32/runs/*/*/*/result.json")):
    bf16 = pathlib.Path(str(f32).replace("-f32/", "-bf16/"))
    both = [json.loads(path.read_text()) for path in (f32, bf16)]
    of = lambda figures: tuple(figures[key] for key in ("clean_accuracy", "asr"))
    before, (a, b) = of(both[0]["before"]), [of(result["after"]) for result in both]
    differences.append([y - x for x, y in zip(a, b)])
    print(f"| {f32.parts[-4]} | {f32.parts[-3]} | " + " | ".join("%.2f / %.2f" % each for each in (before, a, b)) + " |")
mean = [sum(abs(each[i]) for each in differences) / len(differences) for i in (0, 1)]
signed = [sum(each[i] for each in differences) / len(differences) for i in (0, 1)]
print("\nbf16 - f32, mean: ACC %+.2f, ASR %+.2f points; mean of the absolute differences: %.2f, %.2f" % (*signed, *mean))
PYTHON
