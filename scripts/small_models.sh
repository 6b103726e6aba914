# Sourced by the scripts that train many small models, with their arguments CIFAR10 GTSRB TINY [OUT] and `folder`, below
# target/, set. Leaves the repository as the current folder, `data`, `pbe`, `out` (made) and `jobs` as those scripts
# describe them, and $out/data, the sets without their test splits: on those `pbe infect` measures no epoch.
declare -A data=([cifar10]=$(realpath "$1") [gtsrb]=$(realpath "$2") [tiny]=$(realpath "$3"))
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${4:-target/$folder}
pbe=${PBE:-target/release/pbe}
[ -n "${PBE:-}" ] || cargo build --release --quiet
mkdir -p "$out"
out=$(realpath "$out")
for set in "${!data[@]}"; do
  mkdir -p "$out/data/$set"
  ln -sfn "${data[$set]}/train" "$out/data/$set/train"
  find "${data[$set]}" -maxdepth 1 -name '*.txt' -exec ln -sfn {} "$out/data/$set/" \;
done
jobs=${JOBS:-$(nproc)}
