#!/usr/bin/env bash
# Races pbe against PyTorch on this CPU: PGD step, training step and scoring of pre-activation
# ResNet-18, batch 128, 32x32, width 64 and 16, f32. Both take turns in one run; the table has the
# medians of all turns, the ratio, and each program's peak memory.
#
#   scripts/race_pytorch.sh [TURNS]      (3 by default; PEER and PYTHON may name the baseline script
#                                         and a Python with torch)
set -euo pipefail
cd "$(dirname "$0")/.."
turns=${1:-3}
peer=${PEER:-../shared/peers/torch_pbe.py}
python=${PYTHON:-python3}
[ -f "$peer" ] || { echo "no PyTorch baseline at $peer: set PEER" >&2; exit 2; }
"$python" -c 'import torch' 2>/dev/null || { echo "$python has no torch: set PYTHON" >&2; exit 2; }
cargo build --release --quiet --example race
exec "$python" scripts/race.py "$turns" "$peer" target/release/examples/race
