"""Writes docs/inspect.md and src/analysis/benign_indices.txt from what scripts/inspect_calibration.sh leaves.

Usage: inspect_table.py OUT
"""
import json
import sys
from pathlib import Path

OUT = Path(sys.argv[1])
DATA = {"cifar10": "CIFAR-10", "gtsrb": "GTSRB", "tiny": "Tiny-ImageNet (20 classes)"}
ATTACKS = {"badnets": "BadNets", "blend": "Blend", "wanet": "WaNet", "sig": "SIG", "blend-a2a": "Blend, all-to-all",
           "badnets-other": "BadNets, other program, width 16", "blend-other": "Blend, other program, width 16"}
# Below this attack success rate a model has hardly learnt the backdoor.
PLANTED = 50


def read(name, kind):
    path = OUT / f"{name}.{kind}.json"
    return json.loads(path.read_text()) if path.exists() else None


def share(label):
    """Wilson's lower bound, as src/analysis/suspects.rs."""
    n, k, z = label["images"], label["suspected"], 1.645
    if k == 0 or 2 * n < label["labelled"]:
        return 0.0
    p = k / n
    spread = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, (p + z * z / (2 * n) - spread) / (1 + z * z / n))


names = sorted(path.name.removesuffix(".inspect.json") for path in OUT.glob("*.inspect.json"))
found = {name: read(name, "inspect") for name in names}
part = lambda letter: [name for name in names if name.startswith(letter + "-")]
index = lambda name: max(share(label) for label in found[name]["training_images"]["labels"])
calibration, held_out, infected = part("c"), part("h"), part("i")

# The p-values depend on the indices of the calibration alone, so they are computed here, not by an older program.
benign = sorted(index(name) for name in calibration)
p_value = lambda value: (1 + sum(other >= value for other in benign)) / (1 + len(benign))
verdict = lambda p: "infected" if p <= 0.05 else "no sign" if p > 0.2 else "undecided"
lines = [f"{index(name)!r},{name.removeprefix('c-')}" for name in sorted(calibration, key=index)]
Path("src/analysis/benign_indices.txt").write_text("\n".join(lines) + "\n")


def row(name):
    result, measured = found[name], read(name, "measured")
    training, truth = result["training_images"], json.loads((OUT / name / "poison.json").read_text())
    p = p_value(index(name))
    targets = [at for at, label in enumerate(training["labels"]) if p_value(share(label)) <= 0.05]
    wanted = truth["label"].get("target")
    right = targets == [wanted] if wanted is not None else 2 * len(targets) >= len(training["labels"])
    word = verdict(p)
    if word == "infected":
        word += ", target right" if right else f", {len(targets)} targets"
    _, data, attack = name.split("-", 2)
    after = measured["after"]
    return [DATA[data], ATTACKS[attack], f"{after['clean_accuracy']:.1f}", f"{after['asr']:.1f}",
            f"{training['suspected']} of {training['images']}", f"{100 * index(name):.1f}", f"{p:.3f}", word]


def counts(group):
    words = [verdict(p_value(index(name))) for name in group]
    return f"{words.count('infected')} infected, {words.count('undecided')} undecided, {words.count('no sign')} no sign"


table = [row(name) for name in infected]
planted = [cells for cells in table if float(cells[3]) >= PLANTED]
caught = sum(cells[-1].startswith("infected") for cells in planted)
right = sum(cells[-1] == "infected, target right" for cells in planted)
head = ["data", "attack", "ACC", "ASR", "suspected", "index, %", "p", "verdict"]
markdown = "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *table])
Path("docs/inspect.md").write_text(f"""# Is this model infected?

`pbe inspect --model FILE --data DIR` asks two questions. Give it the data that the model was **trained on**: poison that isn't among the images can't be seen.

**Which training images look poisoned?** The gradient of the logit of an image's label at the inner convolutions, mean over pixels, says which channels speak for the label ([AGPD](https://openreview.net/forum?id=2EjhbB0rTj), ICLR 2025). An image is suspected where the model gives its label and this gradient has another direction than the label's other images. The label's direction is a trimmed median over images that keep their label in five views, so it stands where more images of the label are poisoned than clean. The index is the largest share of suspected images that a label has for certain (Wilson's lower bound), among the labels that the model gives to at least half of their images. It needs no trigger, no clean images and no clean model; `--output FILE` lists the images.

**Do adversarial examples share a change that sends other images to their label?** That needs no training images, and finds less: [inspect-adversarial.md](inspect-adversarial.md).

The verdict is *infected* where the index is one that at most 5 % of the benign models below have (p), or where the second test says so. It is *no sign* where p is above 0.2; else *undecided*. There is no verdict *clean*: attacks exist that leave no mark here.

## How often it errs

Made by `scripts/inspect_calibration.sh`, on the first question alone. The benign models are small: PreAct-ResNet-18 of width 6 to 10 and ResNet-18 of width 6, on 5,000 images of CIFAR-10, GTSRB and 20 classes of Tiny-ImageNet at 16x16. The infected ones have width 8 and 10,000 images at 16x16, but for those of another program, which have the full size. What was fixed before any of them was looked at: the threshold of the deviation (0.4375), the layers and the trimmed median, from measurements on other models with PyTorch.

| benign models | | verdicts | largest index |
|---|---|---|---|
| the p-value counts them | {len(calibration)} | — | {100 * max(benign):.2f} % |
| held out | {len(held_out)} | {counts(held_out)} | {100 * max(index(name) for name in held_out):.2f} % |

Of {len(planted)} infected models with an ASR of at least {PLANTED}, {caught} are found, {right} with the right target. The others learnt hardly a backdoor.

{markdown}

With {len(calibration)} benign models the smallest p is {1 / (1 + len(calibration)):.3f}. {len(held_out)} held-out ones without a false alarm would still allow a rate of {100 * (1 - 0.05 ** (1 / max(len(held_out), 1))):.0f} % (at 95 % confidence).
""")
