# Sourced by the scripts that run a cut of CIFAR-10 on the emulated GPU, from the repository's root with `out` set:
# the program, the driver, and how the cut is made. PBE and DRIVER, a program and a folder with libcuda.so, take the
# place of the release builds.
if [ -z "${PBE:-}" ]; then
  scripts/on-emulator true
  cargo build --release --quiet --locked -p pbe
fi
pbe=${PBE:-target/release/pbe}
driver=$(realpath "${DRIVER:-target/emulator}")
mkdir -p "$out"

cut() { # CIFAR-10 as an image folder, part, images of a class
  local class to
  for class in "$1/$2"/*/; do
    to="$out/data/$2/$(basename "$class")"
    mkdir -p "$to"
    find "$class" -type f | sort | awk -v n="$3" 'NR <= n' | xargs -I{} cp {} "$to"
  done
}
