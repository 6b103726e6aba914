"""Prints docs/results.md from the run folders that scripts/reproduce.py leaves.

Usage: results_table.py OUT
"""
import json
import pathlib
import string
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
for label, words in (("", ""), ("-all", ", all-to-all"), ("-1", ", 1 % poison")):
    for data, title in SETS.items():
        for attack, name in ATTACKS.items():
            MODELS[f"{data}-{attack}{label}"] = f"{name}{words}, {title}, `pbe infect`"
for label, words in (("", ""), ("-all", ", all-to-all")):
    MODELS[f"cifar-dynamic-20{label}"] = f"Dynamic, 20 epochs{words}, CIFAR-10, `pbe infect`"

# Mu et al., CVPR 2023, CIFAR-10: ACC / ASR before, and of PBE without and with a clean set.
PAPER = {
    "cifar-badnets": ("94.67 / 100", "94.02 / 11.30", "94.20 / 1.09"),
    "cifar-blend": ("94.63 / 100", "93.04 / 1.16", "93.98 / 0.93"),
    "cifar-sig": ("94.81 / 98.96", "93.56 / 1.76", "93.35 / 1.39"),
    "cifar-dynamic": ("94.65 / 99.24", "93.01 / 1.12", "93.01 / 1.12"),
    "cifar-wanet": ("94.15 / 99.50", "93.67 / 0.86", "94.32 / 0.46"),
    "cifar-badnets-all": ("94.63 / 94.41", "93.62 / 0.68", "93.84 / 0.62"),
    "cifar-blend-all": ("94.89 / 87.94", "92.76 / 0.84", "93.65 / 0.68"),
    "cifar-sig-all": ("94.66 / 84.34", "93.71 / 1.07", "93.52 / 1.01"),
    "cifar-dynamic-all": ("94.40 / 92.72", "93.28 / 0.75", "93.28 / 0.75"),
    "cifar-wanet-all": ("94.49 / 93.47", "93.24 / 1.02", "93.45 / 0.80"),
}
# What was to be reached, at width 16 on CIFAR-10.
AIMS = {
    "clean": "the aims: an ASR of 3 or the floor + 0.5, at most 2 points of ACC lost",
    "none": "the aims: an ASR of 4 (WaNet: 5) or the floor + 0.5, at most 1.5 points of ACC lost, a first ranking with an AP "
    "of 0.995 and a selection that is 99.8 % clean (WaNet: 99)",
}
for label in ("", "-all"):
    PAPER[f"cifar-dynamic-20{label}"] = PAPER[f"cifar-dynamic{label}"]


def read(name):
    path = OUT / name
    return json.loads(path.read_text()) if path.exists() else None


def erasures(name, setting, recipe="default"):
    """The results of a model's purifications, by seed."""
    return [json.loads(path.read_text()) for path in sorted(OUT.glob(f"{name}.{recipe}.{setting}.*/result.json"))]


def figure(value, digits=2):
    return "—" if value is None else f"{value:.{digits}f}"


def clock(result):
    """Seconds; a purification's parts are told besides their sum, `run`."""
    seconds = result["seconds"]
    return seconds.get("run") or sum(seconds.values())


def minutes(result):
    return figure(clock(result) / 60, 1)


def beyond(name, setting, result, floor):
    """Which aims of the default recipe a run misses."""
    before, after = result["before"], result["after"]
    clean, wanet = setting == "clean", "wanet" in name
    least = floor["after"]["asr"] + 0.5 if floor else 0
    ranked = [r for r in result["rounds"] if r["average_precision"] is not None]
    aims = {
        "ASR": after["asr"] <= max(least, 3 if clean else 5 if wanet else 4),
        "ACC": before['clean_accuracy'] - after['clean_accuracy'] <= (2 if clean else 1.5),
        "AP": all(r["average_precision"] >= 0.995 for r in ranked[:1]),
        "selection": all(r["selected_precision"] >= (0.99 if wanet else 0.998) for r in ranked[:1]),
    }
    return ", ".join(aim for aim, reached in aims.items() if not reached)


def devices():
    """Each device and precision that computed a run, by the letter that stands for it in the tables."""
    paths = [*OUT.glob("*/result.json"), *OUT.glob("foreign-*.json")]
    names = sorted({json.loads(path.read_text())["device"] for path in paths})
    return dict(zip(names, string.ascii_uppercase))


def benign():
    """Names and titles of the benign models."""
    names = {f"{data}-benign": f"{title}, benign" for data, title in SETS.items()}
    return names | {"cifar-benign-20": "CIFAR-10, benign, 20 epochs"}


def planted():
    print("## The models\n")
    print("| model | ACC | ASR | ASR, target class included | R-ACC | benign model's ASR (the floor) | on |")
    print("|---|---|---|---|---|---|---|")
    titles, letters = benign(), devices()
    for name in [*titles, *MODELS]:
        result = read(f"{name}.json") or read(f"{name}/result.json")
        if result is None:
            continue
        after, floor = result["after"], read(f"{name}.floor.json")
        print(
            f"| {MODELS.get(name) or titles[name] + ' (`pbe infect --attack none`)'} | {figure(after['clean_accuracy'])} "
            f"| {figure(after['asr'])} | {figure(after['asr_inclusive'])} | {figure(after['robust_accuracy'])} "
            f"| {figure(floor['after']['asr'] if floor else None)} | {letters[result['device']]} |"
        )


def erased(setting, recipe):
    rows, letters = [], devices()
    for name, title in MODELS.items():
        floor = read(f"{name}.floor.json")
        for result in erasures(name, setting, recipe):
            before, after = result["before"], result["after"]
            cells = [
                title,
                str(result["seed"]),
                f"{figure(before['clean_accuracy'])} / {figure(before['asr'])}",
                f"**{figure(after['clean_accuracy'])} / {figure(after['asr'])}**",
                figure(floor["after"]["asr"] if floor else None),
                figure(after['robust_accuracy']),
                figure(result["der"]),
            ]
            if setting == "none":
                ranked = [r for r in result["rounds"] if r["average_precision"] is not None]
                first = result["rounds"][0]
                poisoned = round(first["trained"] * (1 - first["trained_precision"]))
                cells.append(f"{first['trained']}, {poisoned}")
                cells.append(", ".join(figure(r["average_precision"], 4) for r in ranked))
                cells.append(", ".join(figure(100 * r["selected_precision"]) for r in ranked))
            cells += [minutes(result), letters[result["device"]]]
            if recipe == "default":
                cells.append(beyond(name, setting, result, floor))
            rows.append(cells)
    if not rows:
        print("Not run yet.")
        return
    head = ["model", "seed", "before ACC / ASR", "after ACC / ASR", "floor ASR", "R-ACC", "DER"]
    if setting == "none":
        head += ["first set, poisoned", "AP of clean, by round", "% clean in the selection, by round"]
    head += ["minutes", "on"]
    if recipe == "default":
        head.append("misses")
        print(f"{sum(not cells[-1] for cells in rows)} of {len(rows)} runs reach {AIMS[setting]}.\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


def filters():
    """What each filter of the initial set keeps."""
    rows, names = [], []
    for name, title in MODELS.items():
        results = erasures(name, "none")
        if not results or not results[0]["rounds"][0].get("filters"):
            continue
        cells = {}
        for report in results[0]["rounds"][0]["filters"]:
            poisoned, kept = report["input_poisoned"], report["kept_poisoned"]
            clean, kept_clean = report["input"] - poisoned, report["kept"] - kept
            share = " / ".join(figure(100 * a / b, 0) if b else "—" for a, b in ((kept, poisoned), (kept_clean, clean)))
            cells[report["filter"]] = f"({share})" if report["skipped"] else share
        names += [name for name in cells if name not in names]
        rows.append((title, cells))
    if not rows:
        return
    order = [name for name in names if "x" not in name] + [name for name in names if "x" in name]
    print("\n## How the initial set is chosen\n")
    print(
        "The first seed of each model, without a clean set: of the images that come to a filter, per cent of the poisoned / the "
        "clean ones that it keeps. `label`: the model gives the image's label. A view: it still does. An attack (ε x steps): "
        "it doesn't any more. In brackets: left out, because it would have dropped more than 60 %.\n"
    )
    print("| model | " + " | ".join(order) + " |")
    print("|" + "---|" * (len(order) + 1))
    for title, cells in rows:
        print("| " + " | ".join([title, *(cells.get(name, "") for name in order)]) + " |")


def mean(name, setting):
    """ACC / ASR after, mean of the seeds, and how many these are."""
    after = [result["after"] for result in erasures(name, setting)]
    if not after:
        return "—"
    acc, asr = (sum(one[key] for one in after) / len(after) for key in ("clean_accuracy", "asr"))
    return f"{figure(acc)} / {figure(asr)} ({len(after)})"


def span(values):
    """From the least to the largest."""
    low, high = figure(min(values), 1), figure(max(values), 1)
    return low if low == high else f"{low}–{high}"


def seeds(name, setting):
    after = [result["after"] for result in erasures(name, setting)]
    if not after:
        return "—"
    count = f" ({len(after)} seeds)" if len(after) > 1 else ""
    return " / ".join(span([one[key] for one in after]) for key in ("clean_accuracy", "asr")) + count


def time_taken():
    """Hours by part: the sum of clock time, on the processor times threads."""
    parts = {
        "planting, benign models": [f"{name}/result.json" for name in [*benign(), *MODELS]],
        "with a clean set": [f"{name}.default.clean.*/result.json" for name in MODELS],
        "without": [f"{name}.default.none.*/result.json" for name in MODELS],
        "`--recipe paper`": [f"{name}.paper.*/result.json" for name in MODELS],
    }
    print("\n## What it took\n")
    print("| part | runs | core hours, on the processor | hours of runs on a GPU |")
    print("|---|---|---|---|")
    for part, patterns in parts.items():
        results = [json.loads(path.read_text()) for pattern in patterns for path in OUT.glob(pattern)]
        cores, gpu = 0, 0
        for result in results:
            kind, threads, *_ = result["device"].split()
            if kind == "cpu:":
                cores += clock(result) * int(threads)
            else:
                gpu += clock(result)
        print(f"| {part} | {len(results)} | {figure(cores / 3600)} | {figure(gpu / 3600)} |")


def in_short():
    """The table that README has too."""
    print("## In short\n")
    print("| CIFAR-10, width 16, ACC / ASR | before | with a clean set | without | a benign model's ASR |")
    print("|---|---|---|---|---|")
    for name in PAPER:
        result, floor = read(f"{name}/result.json"), read(f"{name}.floor.json")
        if result is not None:
            before = " / ".join(figure(result["after"][key], 1) for key in ("clean_accuracy", "asr"))
            least = figure(floor["after"]["asr"] if floor else None, 1)
            cells = [MODELS[name].split(", CIFAR-10")[0], before, seeds(name, "clean"), seeds(name, "none"), least]
            print("| " + " | ".join(cells) + " |")
    print()


def beside_paper():
    print("\n## Beside the paper's figures\n")
    print(
        "Another size and another training: the paper's networks are four times as wide and were trained longer, its "
        "attack's ε is set for each backdoor; here one setting does all. ACC / ASR, here the mean of as many seeds as "
        "stand in brackets.\n"
    )
    print("| model | before | without a clean set | with one | paper: before | without | with |")
    print("|---|---|---|---|---|---|---|")
    for name, paper in PAPER.items():
        result = read(f"{name}/result.json")
        if result is not None:
            before = f"{figure(result['after']['clean_accuracy'])} / {figure(result['after']['asr'])}"
            cells = [MODELS[name], before, mean(name, "none"), mean(name, "clean"), *paper]
            print("| " + " | ".join(cells) + " |")


def main():
    commits = sorted({json.loads(p.read_text())["commit"] for p in OUT.glob("*/result.json")})
    print("# Results\n")
    print(
        "Made by `scripts/reproduce.py`; every run is here, none was chosen. Pre-activation ResNet-18 of width 16 (GTSRB: 8), "
        "10 % poison, all-to-one to class 0 (GTSRB: 2) where nothing else is said; figures in per cent on the full test set; "
        "ASR leaves out images of the target class. Training images and epochs of the models: CIFAR-10 50,000 and 10, "
        "Fashion-MNIST 60,000 and 3, GTSRB 39,209 and 10, Tiny-ImageNet (20 classes) 10,000 and 20. Minutes are by the "
        "clock, on machines that did other work too; `on` is the device and precision of a run.\n"
    )
    # The processor knows one precision, and doesn't say so.
    listed = "; ".join(f"{letter} = {name}{', f32' * name.startswith('cpu')}" for name, letter in devices().items())
    print(f"Commits: {', '.join(commits)}. Devices: {listed}.\n")
    in_short()
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
    filters()
    beside_paper()
    time_taken()


if __name__ == "__main__":
    main()
