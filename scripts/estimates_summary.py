"""Prints the summary of docs/performance.md's estimates from `pbe profile --estimate --json` on its input, one
document after another.
"""
import json
import sys

CARDS = {"A100 SXM 80 GB": "A100", "H100 SXM 80 GB": "H100"}
MODES = {"attack": "PGD step", "train": "training step"}


def documents(text):
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        yield document


def column(document):
    mode = document["modes"][0]
    step, roofline = mode["step"] or mode["sum"], document["roofline"]
    cost, estimate = step["cost"], step["estimate"]
    best = estimate["products"] + estimate["bytes"]
    whole = best + estimate["gaps"]
    micro = lambda seconds: f"{seconds * 1e6:.0f}"
    return {
        "": f"{CARDS[roofline['name']]}: {MODES[mode['mode']]}",
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


def main():
    columns = [column(document) for document in documents(sys.stdin.read())]
    for row, name in enumerate(columns[0]):
        print("| " + " | ".join([name, *(each[name] for each in columns)]) + " |")
        if row == 0:
            print("|---" * (len(columns) + 1) + "|")


main()
