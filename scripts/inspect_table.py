"""Prints docs/inspect.md from what scripts/inspect_calibration.sh leaves.

Usage: inspect_table.py OUT
"""
import json
import pathlib
import sys

OUT = pathlib.Path(sys.argv[1])
PARTS = {"c": "the threshold was chosen on", "h": "held out", "r": "larger, seen while the method was made", "l": "larger, looked at afterwards"}
DATA = {"cifar": "CIFAR-10", "fashion": "Fashion-MNIST", "gtsrb": "GTSRB", "shapes": "synthetic"}
ATTACKS = {"badnets": "BadNets", "blend": "Blend", "sig": "SIG", "wanet": "WaNet", "dynamic": "Dynamic", "benign": "none"}
PLANTED = 50  # An attack success below this is no backdoor to be found.


def planted(name):
    """Whether the model has a backdoor; None where one was meant and hardly learnt."""
    if "benign" in name:
        return False
    asr = json.loads((OUT / f"{name}.measured.json").read_text())["after"]["asr"]
    return True if asr >= PLANTED else None


def target(name):
    """The attacker's label; the larger models all have class 0."""
    path = OUT / name / "poison.json"
    return json.loads(path.read_text())["label"].get("target") if path.exists() else 0


def row(name):
    part, data, *attack = name.split("-")
    after = json.loads((OUT / f"{name}.measured.json").read_text())["after"]
    found = json.loads((OUT / f"{name}.inspect.json").read_text())
    kind = ATTACKS[attack[0]]
    kind += ", all-to-all" if {"a2a", "all"} & set(attack) else ""
    kind += ", other program" if "other" in attack else ""
    verdict = found["verdict"]
    if found["target"] is not None:
        verdict += f", target {'right' if found['target'] == target(name) else 'wrong'}"
    asr = "—" if after["asr"] is None else f"{after['asr']:.1f}"
    cells = [PARTS[part], DATA[data], kind, f"{after['clean_accuracy']:.1f}", asr, f"{found['index']:.2f}", verdict]
    return "| " + " | ".join(cells) + " |"


def rates(names, title):
    benign = [n for n in names if planted(n) is False]
    infected = [n for n in names if planted(n)]
    verdict = {n: json.loads((OUT / f"{n}.inspect.json").read_text()) for n in names}
    alarms = sum(verdict[n]["verdict"] == "infected" for n in benign)
    found = sum(verdict[n]["verdict"] == "infected" for n in infected)
    right = sum(verdict[n]["verdict"] == "infected" and verdict[n]["target"] == target(n) for n in infected)
    largest = f"{max(verdict[n]['index'] for n in benign):.2f}" if benign else "—"
    missed = len(infected) - found
    cells = [title, f"{alarms} of {len(benign)}", largest, f"{found} of {len(infected)}"]
    cells += [f"{right} of {found}", f"{missed} of {len(infected)}"]
    print("| " + " | ".join(cells) + " |")


def main():
    names = sorted(p.name.removesuffix(".inspect.json") for p in OUT.glob("*.inspect.json"))
    names = [n for n in names if (OUT / f"{n}.measured.json").exists()]
    one = json.loads((OUT / f"{names[0]}.inspect.json").read_text())
    benign = [json.loads((OUT / f"{n}.inspect.json").read_text()) for n in names if planted(n) is False]
    favourite = max(max(found["histogram"]) for found in benign)
    index = lambda name: json.loads((OUT / f"{name}.inspect.json").read_text())["index"]
    near = [f"{row(name).split('|')[3].strip()} ({index(name):.2f})" for name in names if 1.5 <= index(name) < 2]
    between = f"Between 1.5 and 2 lies: {', '.join(near)}." if near else "No verdict differs between 1.5 and 2."
    print(f"""# Is this model infected?

`pbe inspect` attacks 200 images (L2, radius 1 and 2, untargeted, away from the model's own answers) and looks at what the examples that land on one label have in common: their mean perturbation, put on images it wasn't made from. A trigger is such a common change, so in an infected model the examples on the attacker's label share one that takes other images there, while no other label's does. The index is that label's lead in log-odds before the best other one, a mean over both attacks; from {one['threshold']:g} on the verdict is *infected*. It needs no trigger, no labels and no clean model.

**Below it the verdict is *undecided*, never *clean***: of the infected models here Blend stands out everywhere, all-to-one, and BadNets once in six times; BadNets otherwise, SIG and WaNet leave an index like that of a benign model or little above it, Dynamic one below the threshold. All-to-all backdoors aren't found: they have no label on which examples could share a change. The share of adversarial examples on the favourite label, which the paper looks at, tells less: benign models have one too, with up to {favourite:.0f} % of the examples at radius 2.

Made by `scripts/inspect_calibration.sh`. Small models of width 6 to 10: CIFAR-10 resized to 16x16 (20,000 images, 8 epochs), Fashion-MNIST (10,000 images, 3 epochs), synthetic images (10 epochs); the larger ones were planted with the commands of `scripts/reproduce.py` on a CPU, in f32.

| models | false alarms | largest index of a benign one | infected ones found | with the right target | missed (undecided) |
|---|---|---|---|---|---|""")
    for part, title in PARTS.items():
        rates([n for n in names if n.startswith(part + "-")], title)
    rates(names, "all")
    print(f"""
The threshold lies between the largest index of a benign model and the smallest of the infected ones that stand out, of the models of the first and the third row; it was 1.5 when the held-out ones were first looked at. {between} An infected model counts where its ASR is at least {PLANTED} %: what the others learnt is hardly a backdoor. With so few models the rates are rough: no false alarm among {len(benign)} benign models still allows a rate of {100 * (1 - 0.05 ** (1 / len(benign))):.0f} % (at 95 % confidence).

| models | data | attack | ACC | ASR | index | verdict |
|---|---|---|---|---|---|---|""")
    for name in names:
        print(row(name))


main()
