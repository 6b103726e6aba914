#!/usr/bin/env python3
"""The estimates in docs/performance.md: what the launches of a PreAct-ResNet-18 of width 64 take at best on an A100 and
an H100, by `pbe profile --estimate`. No GPU is needed. The text above them is written by hand.

Usage: scripts/estimates.py [--check]     (--check fails where they differ from what is there)

PBE in the environment takes the place of the release build.
"""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- estimates: scripts/estimates.py -->", "<!-- end of estimates -->"
CARDS = {"a100": "A100", "h100": "H100"}
MODES = {"attack": "PGD step", "train": "training step"}


def program():
    if "PBE" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "pbe"], cwd=ROOT, check=True)
    return os.environ.get("PBE", ROOT / "target/release/pbe")


def line(card, mode):
    return ["profile", "--estimate", "--card", card, "--precision", "bf16", "--mode", mode]


def column(card, document):
    mode = document["modes"][0]
    step, roofline = mode["step"] or mode["sum"], document["roofline"]
    cost, estimate = step["cost"], step["estimate"]
    best = estimate["products"] + estimate["bytes"]
    whole = best + estimate["gaps"]
    micro = lambda seconds: f"{seconds * 1e6:.0f}"
    return {
        "": f"{CARDS[card]}: {MODES[mode['mode']]}",
        "launches": str(step["launches"]),
        "launch bytes / least bytes": f"{step['launch_bytes'] / cost['bytes']:.2f}",
        "products alone, us": micro(cost["products"] / roofline["bf16"]),
        "least bytes alone, us": micro(cost["bytes"] / roofline["bytes"]),
        "launch bytes alone, us": micro(step["launch_bytes"] / roofline["bytes"]),
        "roofline by op, us": micro(step["roofline_seconds"]),
        "launches at best, us": micro(best),
        "of it bound by products / by bytes, us": f"{micro(estimate['products'])} / {micro(estimate['bytes'])}",
        "gaps, us": micro(estimate["gaps"]),
        "**step at best**, us": micro(whole),
        "images a second at most": f"{mode['images'] / whole:,.0f}",
    }


def tables(run):
    cases = [(card, mode) for card in CARDS for mode in MODES]

    def summary(*options):
        columns = [column(card, json.loads(run(*line(card, mode), "--json", *options))) for card, mode in cases]
        rows = ["| " + " | ".join([name, *(each[name] for each in columns)]) + " |" for name in columns[0]]
        return "\n".join([rows[0], "|---" * (len(columns) + 1) + "|", *rows[1:]]) + "\n"

    yield f"\nPreAct-ResNet-18 of width 64, 32x32, batch 128, bf16:\n\n{summary()}"
    yield "\nResNet-18 of width 64, 224x224, batch 128, bf16:\n\n"
    yield summary("--network", "resnet18", "--image-size", "224")
    for card, mode in cases:
        yield f"\n`pbe {' '.join(line(card, mode))}`\n```\n{run(*line(card, mode))}```\n"


def main():
    pbe = program()
    run = lambda *arguments: subprocess.run([pbe, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    new = f"{before}{BEGIN}\n{''.join(tables(run))}{END}{rest.split(END)[1]}"
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(new)
    elif new != page:
        sys.exit(f"{PAGE.relative_to(ROOT)}: run scripts/estimates.py")


if __name__ == "__main__":
    main()
