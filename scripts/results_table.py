"""Prints docs/results.md from the run folders that scripts/reproduce.sh leaves.

Usage: results_table.py OUT
"""
import json
import pathlib
import sys

OUT = pathlib.Path(sys.argv[1])
ATTACKS = {"badnets": "BadNets", "blend": "Blend", "sig": "SIG", "wanet": "WaNet", "dynamic": "Dynamic"}
SETS = {
    "cifar": "CIFAR-10",
    "fashion": "Fashion-MNIST",
    "gtsrb": "GTSRB",
    "tiny": "Tiny-ImageNet, ResNet-18",
}
MODELS = {
    "foreign-badnets": "BadNets, CIFAR-10, of another program",
    "foreign-blend": "Blend, CIFAR-10, of another program",
}
for label, words in (("", ""), ("-all", ", all-to-all")):
    for data, title in SETS.items():
        for attack, name in ATTACKS.items():
            MODELS[f"{data}-{attack}{label}"] = f"{name}{words}, {title}, `pbe infect`"


def read(name):
    path = OUT / name
    return json.loads(path.read_text()) if path.exists() else None


def figure(value, digits=2):
    return "—" if value is None else f"{value:.{digits}f}"


def minutes(result):
    return f"{sum(result['seconds'].values()) / 60:.1f}" if result.get("seconds") else "—"


def planted():
    print("## The models\n")
    print("| model | ACC | ASR | ASR, target class included | R-ACC | benign model's ASR (the floor) |")
    print("|---|---|---|---|---|---|")
    for name in [*(f"{data}-benign" for data in SETS), *MODELS]:
        result = read(f"{name}.json") or read(f"{name}/result.json")
        if result is None:
            continue
        after, floor = result["after"], read(f"{name}.floor.json")
        print(
            f"| {MODELS.get(name, name.replace('-', ', ') + ' (`pbe infect --attack none`)')} | {figure(after['acc'])} "
            f"| {figure(after['asr'])} | {figure(after['asr_inclusive'])} | {figure(after['racc'])} "
            f"| {figure(floor['after']['asr'] if floor else None)} |"
        )


def erased(setting, recipe):
    rows = []
    for name, title in MODELS.items():
        floor = read(f"{name}.floor.json")
        for path in sorted(OUT.glob(f"{name}.{recipe}.{setting}.*/result.json")):
            result = json.loads(path.read_text())
            before, after = result["before"], result["after"]
            cells = [
                title,
                str(result["seed"]),
                f"{figure(before['acc'])} / {figure(before['asr'])}",
                f"**{figure(after['acc'])} / {figure(after['asr'])}**",
                figure(floor["after"]["asr"] if floor else None),
                figure(after["racc"]),
                figure(result["der"]),
            ]
            if setting == "none":
                ranked = [r for r in result["rounds"] if r["average_precision"] is not None]
                cells.append(", ".join(figure(r["average_precision"], 4) for r in ranked))
                cells.append(", ".join(figure(100 * r["selected_precision"]) for r in ranked))
            rows.append(cells + [minutes(result)])
    if not rows:
        print("Not run yet.")
        return
    head = ["model", "seed", "before ACC / ASR", "after ACC / ASR", "floor ASR", "R-ACC", "DER"]
    if setting == "none":
        head += ["AP of clean, by round", "% clean in the selection, by round"]
    head.append("minutes")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


def main():
    commits = sorted({json.loads(p.read_text())["commit"] for p in OUT.glob("*/result.json")})
    devices = sorted({json.loads(p.read_text())["device"] for p in OUT.glob("*/result.json")})
    print("# Results\n")
    print(
        "Made by `scripts/reproduce.sh`; every run is here, none was chosen. Pre-activation ResNet-18 of width 16, "
        "10 % poison, all-to-one to class 0 where nothing else is said; figures in per cent on the full test set; ASR leaves out images of the "
        "target class. Minutes are of a machine that did other work too.\n"
    )
    print(f"Commits: {', '.join(commits)}. Device: {'; '.join(devices)}.\n")
    planted()
    for setting, title in (
        ("clean", "With a clean set (5 % of the training images)"),
        ("none", "Without a clean set (all training images, poisoned as given)"),
    ):
        print(f"\n## {title}\n\n### Default recipe: one setting for all\n")
        erased(setting, "default")
        note = " (on 10,000 of the training images)" if setting == "none" else ""
        print(f"\n### `--recipe paper`{note}\n")
        erased(setting, "paper")


if __name__ == "__main__":
    main()
