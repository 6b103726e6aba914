"""Races pbe against PyTorch on a GPU, in turn, and prints a Markdown table of medians.

Usage: race_gpu.py PEER RACE_BINARY [TURNS]      (3 turns by default; python3 must have torch with CUDA)

PEER is the baseline script with the pre-activation network; RACE_BINARY is examples/race.rs, built.
"""
import os
import pathlib
import statistics
import sys

from race import run

CASES = [
    ("preact-resnet18", 64, 32, 10, "bf16"),
    ("preact-resnet18", 16, 32, 10, "bf16"),
    ("resnet18", 64, 224, 1000, "bf16"),
    ("preact-resnet18", 64, 32, 10, "f32"),
]
STEPS = ("pgd_step", "train_step", "score")


def main():
    peer, binary = sys.argv[1:3]
    turns = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    torch_gpu = str(pathlib.Path(__file__).with_name("torch_gpu.py"))
    print("| network | precision | step (batch 128) | PyTorch ms | pbe ms | pbe img/s | pbe / PyTorch, speed |")
    print("|---|---|---|---|---|---|---|")
    for network, width, size, classes, precision in CASES:
        options = ["--network", network, "--width", str(width), "--size", str(size), "--classes", str(classes),
                   "--precision", precision, "--steps", "10", "--reps", "21"]
        rates = {"torch": [], "pbe": []}
        for turn in range(turns):
            for name, program in (("torch", [sys.executable, torch_gpu, peer]), ("pbe", [binary, "--device", "cuda"])):
                first, result, _ = run(program + options)
                rates[name].append(result)
                print(f"turn {turn + 1}: {first}: {result}", file=sys.stderr, flush=True)
        for step in STEPS:
            torch, pbe = (statistics.median(result[step] for result in rates[name]) for name in ("torch", "pbe"))
            print(f"| {network}, width {width}, {size}x{size} | {precision} | {step} | {128e3 / torch:.3f} "
                  f"| {128e3 / pbe:.3f} | {pbe:,.0f} | {pbe / torch:.2f} |", flush=True)


if __name__ == "__main__":
    main()
