#!/usr/bin/env bash
# Assembles the kernels for sm_80, 86, 89 and 90 with ptxas 12.0.140 and 13.0.88: no spill, no stack, no
# local memory, registers and shared memory within the budget, tensor-core kernels with the instructions they
# are made for. Writes the numbers into kernels/README.md's table; --check compares them.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cuda_toolkit.sh
python3 scripts/kernel_gates.py "$(find_tool cuda13 cuobjdump)" "$(find_tool cuda13 nvdisasm)" \
    "$(find_tool cuda13 ptxas)" "$(find_tool cuda12 ptxas)" "$@"
