# Sourced: two pinned toolkits in Python virtual environments, made on first use. cuda13 compiles and
# assembles, cuda12 is the older assembler. PBE_CUDA_TOOLKIT names a folder that has both already.
toolkit="${PBE_CUDA_TOOLKIT:-target/cuda-toolkit}"

install_toolkit() { # name wheel...
    local name=$1
    shift
    [ -e "$toolkit/$name/complete" ] || [ -n "${PBE_CUDA_TOOLKIT:-}" ] && return
    python3 -m venv "$toolkit/$name"
    "$toolkit/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
    touch "$toolkit/$name/complete"
}

find_tool() { # environment tool
    local found
    found=$(find "$toolkit/$1/" -path "*/bin/$2" -not -path "*/$1/bin/*" | head -1)
    [ -x "$found" ] || { echo "no $2 in $toolkit/$1" >&2; return 1; }
    echo "$found"
}

install_toolkit cuda13 nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-cuobjdump==13.5.37 \
    nvidia-cuda-nvdisasm==13.5.37
install_toolkit cuda12 nvidia-cuda-nvcc-cu12==12.0.140
