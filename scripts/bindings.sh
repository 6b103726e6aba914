#!/usr/bin/env bash
# Builds and tests pbe for C and for Python, the latter beside PyTorch.
#
#   scripts/bindings.sh          both
#   scripts/bindings.sh c        or one: c, python
#
# Needs cc, nm and valgrind, and Python 3.11 or later with venv. What is installed goes to target/bindings-venv.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
venv=$CARGO_TARGET_DIR/bindings-venv
installed=(maturin==1.16.0 numpy==2.3.5 pillow==13.0.0)
torch=(torch==2.15.0 torchvision==0.29.2)

c() {
    cargo test -p libpbe --locked
}

# PyTorch's wheel is linked with 3 GB of NVIDIA's libraries, none of which is called without a GPU. Stand-ins with
# their names take their place, in which every function fails.
stand_in_for_cuda() {
    local lib=$1 wanted so version
    wanted=$(nm -D --undefined-only "$lib"/*.so | awk '$2 ~ /^_*(cu|nv|nccl)/ { sub("@", " ", $2); print $2 }' | sort -u)
    for so in $(readelf -d "$lib"/*.so | grep -oE '\[lib(cu|nccl|nv)[^]]*\]' | tr -d '[]' | sort -u); do
        version=$so
        [[ $so == libnvshmem* ]] && version=NVSHMEM
        echo "$version { *; };" > "$lib/stand-in.map"
        # Functions without a version are in one of them.
        awk -v version="$version" '$2 == version || ($2 == "" && version ~ /nccl/) {
            print "const char *" $1 "(void) { return \"a stand-in\"; }" }' <<< "$wanted" |
            cc -shared -fPIC -w -x c - -o "$lib/$so" "-Wl,-soname,$so,--version-script,$lib/stand-in.map"
    done
}

install() {
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "${installed[@]}" filelock fsspec jinja2 networkx setuptools sympy typing-extensions
    "$venv/bin/pip" install --quiet --no-deps "${torch[@]}"
    stand_in_for_cuda "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch/lib"
    echo "${installed[@]}" "${torch[@]}" > "$venv/installed"
}

python() {
    [ "$(cat "$venv/installed" 2>/dev/null)" = "${installed[*]} ${torch[*]}" ] || install
    local wheels=$CARGO_TARGET_DIR/wheels
    rm -rf "$wheels"
    "$venv/bin/maturin" build --quiet --locked --profile dev --manifest-path bindings/python/Cargo.toml --out "$wheels"
    "$venv/bin/pip" install --quiet --force-reinstall --no-deps "$wheels"/pbe-*-abi3-*.whl
    "$venv/bin/python" -W ignore -m unittest discover --start-directory bindings/python/tests --verbose
}

for part in ${1:-c python}; do "$part"; done
echo "== bindings: ${SECONDS}s"
