"""Writes docs/inspect.md and src/analysis/benign_indices.txt from what scripts/inspect_calibration.sh leaves.

Usage: inspect_table.py OUT
"""
import json
import math
import sys
from pathlib import Path

OUT = Path(sys.argv[1])
DATA = {"cifar10": "CIFAR-10", "gtsrb": "GTSRB", "tiny": "Tiny-ImageNet (20 classes)"}
ATTACKS = {"badnets": "BadNets", "badnets-a2a": "BadNets, all-to-all", "blend": "Blend", "wanet": "WaNet",
           "sig": "SIG", "blend-a2a": "Blend, all-to-all",
           "badnets-other": "BadNets, other program, width 16", "blend-other": "Blend, other program, width 16"}
# Below this attack success rate a model has hardly learnt the backdoor.
PLANTED = 50


def read(name, kind):
    path = OUT / f"{name}.{kind}.json"
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else None


def share(label):
    """As LabelSuspects::share in src/analysis/suspects.rs."""
    n, k, z = label["images"], label["suspected"], 1.645
    kept, both = label["consistent"], label["consistent_suspected"]
    if k == 0 or 2 * n < label["labelled"] or 10 * kept < n:
        return 0.0
    p = max(0.0, (k - min(k, both * (n - k) / max(kept - both, 1))) / n)
    spread = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, (p + z * z / (2 * n) - spread) / (1 + z * z / n)) if p > 0 else 0.0


def has_trigger(label):
    return label.get("probe", {}).get("rate", 0) >= 50


def targets(labels):
    shares = [share(label) for label in labels]
    marked = [at for at, value in enumerate(shares) if value >= 0.01]
    if 2 * len(marked) >= len(shares) and len(marked) > 1:
        return marked
    least = max(max(shares) / 2, 0.01 * any(map(has_trigger, labels)))
    return [at for at, value in enumerate(shares) if has_trigger(labels[at]) or value >= least > 0]


names = sorted(path.name.removesuffix(".inspect.json") for path in OUT.glob("*.inspect.json"))
found = {name: read(name, "inspect") for name in names}
for name in (name for name in names if found[name] is None or read(name, "measured") is None):
    sys.exit(f"{name}: not measured; run inspect_calibration.sh again")
part = lambda letter: [name for name in names if name.startswith(letter + "-")]
index = lambda name: max(share(label) for label in found[name]["training_images"]["labels"])
rate = lambda name: max(label.get("probe", {}).get("rate", 0) for label in found[name]["training_images"]["labels"])
largest = lambda of, group: max(map(of, group))
calibration, seen, held_out, infected = part("c"), part("v"), part("h"), part("i")

# The p-values depend on the indices of the calibration alone, so they are computed here, not by an older program.
benign = sorted(index(name) for name in calibration)
p_value = lambda value: (1 + sum(other >= value for other in benign)) / (1 + len(benign))


def verdict(name):
    """As Suspects::judge in src/analysis/suspects.rs."""
    p, labels = p_value(index(name)), found[name]["training_images"]["labels"]
    learnt = 2 * sum(label["images"] for label in labels) >= sum(label["labelled"] for label in labels)
    sign = p <= 0.05 or any(map(has_trigger, labels))
    return "infected" if sign and learnt else "no sign" if p > 0.2 else "undecided"


lines = [f"{index(name)!r},{name.removeprefix('c-')}" for name in sorted(calibration, key=index)]
Path("src/analysis/benign_indices.txt").write_text("\n".join(lines) + "\n")


def row(name):
    result, measured = found[name], read(name, "measured")
    training, truth = result["training_images"], json.loads((OUT / name / "poison.json").read_text())
    word, second = verdict(name), result["adversarial_examples"]
    wanted, labels = truth["label"].get("target"), training["labels"]
    if word == "infected":
        given = targets(labels)
        right = given == [wanted] if wanted is not None else 2 * len(given) >= len(labels)
        word += ", target right" if right else f", {len(given)} of {len(labels)} labels"
    other = second["verdict"] + (", target right" if second["target"] == wanted is not None else "")
    _, data, attack = name.split("-", 2)
    after = measured["after"]
    return [DATA[data], ATTACKS[attack], f"{after['clean_accuracy']:.1f}", f"{after['asr']:.1f}",
            f"{training['suspected']} of {training['images']}", f"{100 * index(name):.1f}", f"{rate(name):.0f}", word, other]


def counts(group):
    words = [verdict(name) for name in group]
    return f"{words.count('infected')} infected, {words.count('undecided')} undecided, {words.count('no sign')} no sign"


def accuracies(group):
    values = [read(name, "measured")["after"]["clean_accuracy"] for name in group]
    return f"{min(values):.0f}–{max(values):.0f}"


def upper_bound(events, trials):
    """The largest rate that leaves as few events a chance of 5 %."""
    rate = lambda p: sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(events + 1))
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > 0.05 else (low, middle)
    return 100 * high


table = [row(name) for name in infected]
planted = [cells for cells in table if float(cells[3]) >= PLANTED]
first = sum(cells[7].startswith("infected") for cells in planted)
either = sum(cells[7].startswith("infected") or cells[8].startswith("infected") for cells in planted)
right = sum("target right" in cells[7] + cells[8] for cells in planted)
false_alarms = sum(verdict(name) == "infected" for name in held_out)
second_alarms = sum(found[name]["adversarial_examples"]["verdict"] == "infected" for name in calibration + seen + held_out)
head = ["data", "attack", "ACC", "ASR", "suspected", "index, %", "trigger, %", "from the training images", "from adversarial examples"]
markdown = "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *table])
by_set = "\n".join(f"| {DATA[data]} | {accuracies(group)} | {100 * largest(index, group):.1f} % | {largest(rate, group):.0f} % |"
                   for data in DATA if (group := [name for name in calibration + seen + held_out if f"-{data}-" in name]))
Path("docs/inspect.md").write_text(f"""# Is this model infected?

`pbe inspect --model FILE --data DIR` asks three questions. Give it the data that the model was **trained on**: poison that isn't among the images can't be seen.

**Which training images look poisoned?** The gradient of the logit of an image's label at the inner convolutions, mean over pixels, says which channels speak for the label ([AGPD](https://openreview.net/forum?id=2EjhbB0rTj), ICLR 2025). An image is suspected where the model gives its label and this gradient has another direction than the label's other images. The label's direction is a trimmed median over images that keep their label in five views, so it stands where more images of the label are poisoned than clean. The index is the largest share of poisoned images that a label has for certain (Wilson's lower bound). A suspected image counts less where suspected images of its label keep the label in all views as others do: a class may look in two ways. A label that the model gives to less than half of its images, or of which less than a tenth keep it in all views, isn't judged. A model that gives less than half of all images their label has learnt too little to be called infected. It needs no trigger, no clean images and no clean model; `--output FILE` lists the images.

**Do adversarial examples share a change that sends other images to their label?** That needs no training images, and finds less: [inspect-adversarial.md](inspect-adversarial.md).

**Do they show a trigger?** Of each label with enough images the most deviating ones (the suspected ones, a third, a fifth, a tenth; at least 100) are compared with the least deviating half: what they have in common beside these, byte by byte, is put on 300 images of other labels. Where that sends at least half of them to the label, it is a trigger. In a benign model the difference is a rarer look of the class, and says nothing to images of other classes. The trigger may also be in the images that aren't suspected: put on others it works, and without it a third of them lose the label. Then most images of the label are poisoned, the deviating ones are the clean ones, and the suspicion is turned round.

The verdict is *infected* where the index is one that at most 5 % of the benign models below have (p), where there is a trigger, or where adversarial examples say so. It is *no sign* where p is above 0.2; else *undecided*. There is no verdict *clean*: attacks exist that leave no mark here.

## How often it errs

Made by `scripts/inspect_calibration.sh`. The models are small ones, each trained on 10,000 images for ten epochs, and inspected with those: PreAct-ResNet-18 of width 8 at 24x24, torchvision's ResNet-18 of width 16 and VGG-11 of width 12 at 32x32. Two are another program's, of full size. Threshold of the deviation (0.4375), layers and trimmed median were fixed before, on other models in PyTorch. How consistent images count, which labels are targets, and what is a trigger (100 images, half of the others) was chosen with these models in view, infected ones too, but not the held-out ones.

| benign models | | verdicts from the training images | largest index | most sent by a trigger |
|---|---|---|---|---|
| the p-value counts them | {len(calibration)} | {counts(calibration)} | {100 * max(benign):.1f} % | {largest(rate, calibration):.0f} % |
| seen when settings were chosen | {len(seen)} | {counts(seen)} | {100 * largest(index, seen):.1f} % | {largest(rate, seen):.0f} % |
| held out | {len(held_out)} | {counts(held_out)} | {100 * largest(index, held_out):.1f} % | {largest(rate, held_out):.0f} % |

False alarms: {false_alarms} of {len(held_out)} held-out models, so the rate is at most {upper_bound(false_alarms, len(held_out)):.0f} % (at 95 % confidence). Adversarial examples give {second_alarms} in all {len(calibration + seen + held_out)}.

| benign models on | ACC | largest index | most sent by a trigger |
|---|---|---|---|
{by_set}

Of {len(planted)} infected models with an ASR of at least {PLANTED}, the training images find {first}, together with adversarial examples {either}, with the right target {right}. The models below an ASR of {PLANTED} aren't counted.

{markdown}

The index alone misses SIG, whose poisoned images are of the target's class and keep its label in every view, and targets of which two thirds of the images are poisoned (10 % of a set with many classes), where the reference is the poison's: there the suspected images may be the clean ones. What shows no trigger: a warp, one for each image, all-to-all. The large indices of benign models are those of ResNet-18 with its 7x7 stem at 32x32, of which 1x1 pixels are left in the last stage.
""")
