"""Writes docs/report.md from what scripts/report_errors.sh leaves.

Usage: report_table.py OUT
"""
import json
import sys
from pathlib import Path

OUT = Path(sys.argv[1])
DATA = {"cifar10": "CIFAR-10", "gtsrb": "GTSRB", "tiny": "Tiny-ImageNet (20 classes)"}
ATTACKS = {"badnets": "BadNets", "blend": "Blend", "badnets-a2a": "BadNets, all-to-all", "sig": "SIG"}
FROM = {"reconstructed_trigger": "a reconstructed trigger", "suspects": "the suspected images"}
# The aim: so many points between estimate and truth, in 95 % of the runs.
AIM = 3

runs = []
for path in sorted(OUT.glob("*.purified/result.json")):
    data, attack = path.parent.name.removesuffix(".purified").split("-", 1)
    runs.append((data, attack, json.loads(path.read_text())))
infected = [run for run in runs if run[1] != "none"]
estimated = [run for run in infected if run[2].get("asr_estimate")]


def error(result, when):
    return abs(result["asr_estimate"][when] - result[when]["asr"])


def row(data, attack, result):
    found, estimate = result["detection"], result.get("asr_estimate")
    before, after = result["before"], result["after"]
    numbers = ["—"] * 4
    if estimate:
        relearnt = estimate.get("relearnt")
        numbers = [f"{estimate['before']:.1f}", f"{estimate['after']:.1f}",
                   "—" if relearnt is None else f"{relearnt:.1f}", FROM[estimate["from"]]]
    rounds = result["rounds"]
    chosen = "filters" if any(round.get("filters") for round in rounds) else "suspicion"
    chosen += {"poisoned": ", after a second look", "no_sign": "; returned as given"}.get(result.get("second_look"), "")
    chosen += ", relabelled" * any(round.get("relabelled") for round in rounds)
    chosen += ", unlearnt" * any(round.get("unlearned") for round in rounds)
    return [DATA[data], ATTACKS[attack], found["verdict"].replace("_", " "), chosen,
            f"{before['clean_accuracy']:.1f} / {after['clean_accuracy']:.1f}", f"{before['asr']:.1f}", numbers[0],
            f"{after['asr']:.1f}", *numbers[1:]]


def commits(pattern):
    """Of the runs that a table is made from."""
    found = {json.loads(path.read_text())["commit"] for path in OUT.glob(f"{pattern}/result.json")}
    return "Commits: " + ", ".join(sorted(found)) + "."


def within(when):
    near = sum(error(result, when) <= AIM for _, _, result in estimated)
    worst = max((error(result, when) for _, _, result in estimated), default=0)
    return f"within {AIM} points in {near} of {len(estimated)} runs, {worst:.1f} points off at most"


def table(head, rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


benign = [[DATA[data], result["detection"]["verdict"].replace("_", " "),
           f"{result['detection']['suspected']} of {result['detection']['images']}",
           f"{result['before']['clean_accuracy']:.1f}", f"{result['after']['clean_accuracy']:.1f}"]
          for data, attack, result in runs if attack == "none"]


def figures(path):
    if not path.exists():
        sys.exit(f"{path}: not there; run report_errors.sh again")
    result = json.loads(path.read_text())
    return " / ".join(f"{result['after'][figure]:.1f}" for figure in ("clean_accuracy", "asr"))


def fewer(kind, names, counts):
    rows = [[DATA[name.split("-")[0]], ATTACKS[name.split("-")[1]],
             *(figures(OUT / f"{name}.{kind}-{count}" / "result.json") for count in counts),
             figures(OUT / f"{name}.purified" / "result.json")] for name in names]
    return table(["data", "attack", *map(str, counts), "all, poisoned ones too"], rows)


few = fewer("images", ["cifar10-badnets", "gtsrb-badnets"], [250, 500, 1000, 2500])
few_clean = fewer("clean", ["cifar10-badnets", "gtsrb-badnets"], [50, 100, 250, 500])
head = ["data", "attack", "verdict", "sets by", "ACC before / after", "ASR before", "estimated", "ASR after", "estimated",
        "estimated, retrained", "from"]
Path("docs/report.md").write_text(f"""# How far the report is from the truth

`pbe purify` without a clean set ends with a verdict and, for an infected model, with an estimated attack success rate (ASR), before and after. Both come from the training images alone.

What the suspected images have in common beside other images (for each byte: place and spread of its values) is a *reconstructed trigger*. Where it works on other images, the rate is measured with it. Where it doesn't, it is the share of the suspected images that still get their suspicious label, of a fifth that nothing was trained on, without those that seem to be clean. The estimate *retrained* is of the purified model after an epoch on 1 % of the suspected images and 10 % of the others: a defence that only hides a backdoor loses to that.

Made by `scripts/report_errors.sh`: PreAct-ResNet-18 of width 8 at 24x24, trained on 10,000 images for twelve epochs, purified with those and the default settings on a CPU. One seed. The models are small, and some attacks are hardly learnt.

{table(head, [row(*run) for run in infected])}

Estimates there are for {len(estimated)} of {len(infected)} runs. Before: {within("before")}. After: {within("after")}.

*Sets by*: suspicion, where a label has so much poison for certain that the suspected images decide (docs/method.md), else the filters. *Relabelled*: suspected images were trained on under other labels; *unlearnt*: images with the reconstructed trigger under their own. The estimate after unlearning may be too low, since it is of the trigger that was unlearnt.

On benign models:

{table(["data", "verdict", "suspected", "ACC before", "ACC after"], benign)}

{commits("*.purified")}

## With fewer images

ACC / ASR after a purification with so many of the poisoned training images:

{few}

{commits("*.images-*")}

and with so many clean ones (`--clean`):

{few_clean}

{commits("*.clean-*")}
""")
