"""Prints docs/observation.md from what scripts/observation.sh leaves.

Usage: observation_table.py REPRODUCED
"""
import json
import math
import pathlib
import sys

from results_table import MODELS

OUT = pathlib.Path(sys.argv[1]) / "observed"
RADII = [4, 8, 16, 32, 64]
SURE = 3  # Standard errors between two shares that are called different.


def observed(name, radius):
    path = OUT / f"{name}.{radius}" / "result.json"
    return json.loads(path.read_text())["observation"] if path.exists() else None


def differs(seen):
    """Standard errors by which the infected model's share lies above the benign one's."""
    infected, benign = seen["target_share"], seen["target_share_benign"]
    variance = (infected * (1 - infected) + benign * (1 - benign)) / seen["images"]
    return (infected - benign) / math.sqrt(max(variance, 1e-12))


def verdict(all_seen):
    above = [radius for radius, seen in all_seen.items() if differs(seen) > SURE]
    below = [radius for radius, seen in all_seen.items() if differs(seen) < -SURE]
    words = []
    if above:
        words.append(f"holds at ε {', '.join(map(str, above))}")
    if below:
        words.append(f"the reverse at ε {', '.join(map(str, below))}")
    return "; ".join(words) or "no difference"


def shares(names):
    print("| model | " + " | ".join(f"ε {radius}" for radius in RADII) + " | |")
    print("|---|" + "---|" * (len(RADII) + 1))
    for name in names:
        seen = {radius: observed(name, radius) for radius in RADII}
        cells = [f"{100 * s['target_share']:.1f} / {100 * s['target_share_benign']:.1f}" for s in seen.values()]
        print(f"| {MODELS[name]} | " + " | ".join(cells) + f" | {verdict(seen)} |")


def distances(names, radius):
    print("| model | D_infected | D_benign | ratio | trigger alone, infected | trigger alone, benign |")
    print("|---|---|---|---|---|---|")
    for name in names:
        rows = {row[0]: row[1:] for row in observed(name, radius)["distances"]["rows"]}
        (infected, moved), (benign, still) = rows["infected"], rows["benign"]
        ratio = float(infected) / float(benign)
        print(f"| {MODELS[name]} | {infected} | {benign} | {ratio:.2f} | {moved} | {still} |")


def planted_on(names):
    """Where the models were planted, most of them first."""
    devices = {}
    for name in names:
        device = json.loads((OUT.parent / name / "result.json").read_text())["device"]
        devices.setdefault(device, []).append(MODELS[name])
    most, *others = sorted(devices.items(), key=lambda item: -len(item[1]))
    return "; ".join([f"Planted on {most[0]}"] + [f"on {device}: {', '.join(models)}" for device, models in others])


def main():
    names = [name for name in MODELS if all(observed(name, radius) for radius in RADII)]
    images = observed(names[0], 16)["images"]
    print(f"""# Does the observation hold?

The paper's observation: untargeted adversarial examples of a backdoored model land on the attacker's label, since they move features to where the trigger does. Made by `scripts/observation.sh` with `pbe observe` ({images} test images, L∞, models of `scripts/reproduce.py`). {planted_on(names)}.

## Adversarial examples that land on the attacker's label

Per cent of those of other labels, infected / benign model (all-to-all: that land on the label after their own). Holds: the infected model's share is above the benign one's by more than {SURE} standard errors.
""")
    shares(names)
    print("""
## Distances between features (the paper's Table 5)

Mean distance between the features of an image's adversarial example (ε 16) and of the same image with the trigger, in the infected and in the benign model; it is smaller in the infected model where the observation holds. The trigger alone: how far it moves an image's features.
""")
    distances(names, 16)


main()
