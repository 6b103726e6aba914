#!/usr/bin/env bash
# Puts every mistake of tests/mutations into the kernels, one at a time, and checks that the self-test notices. The
# argument limits it to mutations with that in their label, such as norm.cu or Race.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cuda_toolkit.sh
PBE_MUTATIONS="${1:-}" cargo test --locked -p pbe --test mutations -- --ignored --nocapture
