"""Prints docs/bf16.md from what scripts/emulated_bf16.sh leaves.

Usage: bf16_table.py OUT
"""
import csv
import json
import pathlib
import sys

OUT = pathlib.Path(sys.argv[1])


def rows(name):
    with open(OUT / name) as file:
        return list(csv.DictReader(file))


def result(folder):
    return json.loads((OUT / folder / "result.json").read_text())


def figures(measured):
    return f"{measured['clean_accuracy']:.2f} / {measured['asr']:.2f}"


def demo(place, when):
    """ACC / ASR of the demo's table."""
    lines = (OUT / f"{place}.demo.txt").read_text().splitlines()
    row = next(line.split() for line in reversed(lines) if line.startswith(f"{when} "))
    return " / ".join(row[1:3])


def top_half(place):
    ranked = sorted(rows(f"{place}.ranking.csv"), key=lambda row: -float(row["score"]))
    return {row["file"] for row in ranked[: len(ranked) // 2]}


def main():
    processor, emulator = result("processor.purified"), result("emulator.purified")
    print(f"""# bf16 beside f32

Made by `scripts/emulated_bf16.sh`, commit {emulator["commit"]}. Devices: {processor["device"]}; {emulator["device"]}.

A cut of CIFAR-10 (600 training and 400 test images) and an infected model of width 16 (`pbe infect`, BadNets). `pbe purify` with 5 epochs of step 1b and 10 of step 2 and all 600 training images as the clean set.

| | f32, processor | bf16, emulated GPU |
|---|---|---|""")
    for title, part in (("infected", "before"), ("purified", "after")):
        print(f"| {title}: ACC / ASR | {figures(processor[part])} | {figures(emulator[part])} |")
    seeds = [figures(result(f"seed{seed}")["after"]) for seed in range(1, 5)]
    print(f"| purified with other seeds | {'; '.join(seeds)} | |")
    for title, when in (("infected", "before"), ("purified", "after")):
        print(f"| `pbe demo --quick`, {title} | {demo('processor', when)} | {demo('emulator', when)} |")
    pairs = list(zip(rows("processor.infected.csv"), rows("emulator.infected.csv")))
    same = sum(one["predicted"] == other["predicted"] for one, other in pairs)
    one, other = top_half("processor"), top_half("emulator")
    print(f"""
- 1.5 points are 6 of the 400 test images, 5.4 of the 360 that ASR counts.
- The demo's short form plants its own model in each of the two, on 600 images, and tests on 80, 40 of them for ASR: 1.5 points are one of the 80 images. Rounding takes planting another course, as a seed does.
- Predictions of the infected model that agree: {same} of {len(pairs)}.
- Top half of the ranking of the training images by `pbe rank`, each by the model purified there: {len(one & other)} of {len(one)} images are in both.""")

    signs = OUT / "signs.txt"
    if signs.exists():
        print(f"""
## Signs of the input gradient

What a step of L∞ PGD goes by: pixels of 100 test images, at the images themselves, whose sign differs from f32's on the processor (`scripts/signs.py`). Operands rounded to bf16, in pbe or in PyTorch, turn the signs of pixels that hardly matter; 1 % can't be had with them.

{signs.read_text().strip()}""")


main()
