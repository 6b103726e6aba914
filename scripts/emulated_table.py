"""Prints docs/emulator.md from what scripts/emulated_run.sh leaves.

Usage: emulated_table.py OUT TRAIN TEST
"""
import csv
import hashlib
import json
import pathlib
import sys

OUT, TRAIN, TEST = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
SEEDS = ["0", "1", "2"]
LOSSES = {
    "infect": ["loss"],
    "purify": ["attack_loss", "adversarial_loss", "clean_loss", "average_precision"],
}


def result(name):
    return json.loads((OUT / name / "result.json").read_text())


def metrics(name):
    with open(OUT / name / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [{key: cell for key, cell in row.items() if not key.startswith("seconds")} for row in rows]


def bits(name):
    """What has to be equal to the bit between orders: the model, and every figure."""
    model = hashlib.sha256((OUT / name / "model.safetensors").read_bytes()).hexdigest()
    return model, metrics(name), result(name)["after"]


def difference(command):
    """The largest relative difference of a loss between the processor and the emulated GPU."""
    pairs = zip(metrics(f"{command}-cpu"), metrics(f"{command}-0"))
    gaps = [
        abs(float(cpu[name]) - float(gpu[name])) / (1 + abs(float(cpu[name])))
        for cpu, gpu in pairs
        for name in LOSSES[command]
        if cpu[name]
    ]
    return max(gaps)


def percent(value):
    return "—" if value is None else f"{value:.2f}"


def findings(name):
    lines = (OUT / f"{name}.log").read_text().splitlines()
    return sum(line.startswith("ptx-emulator: ") for line in lines)


def row(command, run):
    name = f"{command}-{run}"
    after = result(name)["after"]
    wall, user = (OUT / f"{name}.time").read_text().split()[-2:]
    place = "processor" if run == "cpu" else f"emulated GPU, seed {run}"
    found = "—" if run == "cpu" else findings(name)
    figures = f"{percent(after['clean_accuracy'])} / {percent(after['asr'])}"
    return f"| {command} | {place} | {figures} | {found} | {float(wall):.0f} | {float(user):.0f} |"


def main():
    device = result("infect-0")["device"]
    commits = sorted({result(f"{command}-{run}")["commit"] for command in LOSSES for run in ["cpu", *SEEDS]})
    print(f"""# The whole loop on the emulated GPU

Made by `scripts/emulated_run.sh`, commit {", ".join(commits)}. Device: {device}. All checks of the emulator are on; its seeds are orders of blocks and warps (`PTX_EMULATOR_SEED`).

A cut of CIFAR-10, {TRAIN} training and {TEST} test images: `pbe infect` (BadNets, width 8, 2 epochs), and `pbe purify` of the model that the processor made (survivors filter, attack of 3 steps, every training step one epoch, two rounds). That is enough to run every kernel through the whole method, and too little to make or mend a useful model: the figures are for comparison with each other alone.

| command | where | ACC / ASR after it | findings | seconds | processor seconds |
|---|---|---|---|---|---|""")
    for command in LOSSES:
        for run in ["cpu", *SEEDS]:
            print(row(command, run))
    print()
    for command in LOSSES:
        same = all(bits(f"{command}-{seed}") == bits(f"{command}-0") for seed in SEEDS)
        verdict = "are equal to the bit" if same else "**differ**"
        gap = difference(command)
        print(f"- `{command}`: model, metrics and figures of the three orders {verdict}; the losses differ from "
              f"the processor's by at most {gap:.1e} (relative to 1 + the loss).")
    selected = [[row["selected"] for row in metrics(f"purify-{run}")] for run in ["cpu", "0"]]
    print(f"- Images selected by each round: {', '.join(filter(None, selected[0]))} on the processor, "
          f"{', '.join(filter(None, selected[1]))} on the emulated GPU.")
    print("\nDifferences of rounding grow from step to step of a training: how far single operations, gradients and the first steps agree is what `pbe selftest` and the tests measure. Seconds are of a machine that did other work too; processor seconds are what the run itself used.")


main()
