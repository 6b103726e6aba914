"""Races pbe against PyTorch on a GPU, in turn, and prints a Markdown table of medians.

Usage: race_gpu.py PEER RACE_BINARY [TURNS]      (3 turns by default; python3 must have torch with CUDA)

PEER is the baseline script with the pre-activation network; RACE_BINARY is examples/race.rs, built.
"""
import pathlib
import sys

from race import STEPS, race

# Network, width, side of the images, classes, precision.
CASES = [
    ("preact-resnet18", 64, 32, 10, "bf16"),
    ("preact-resnet18", 16, 32, 10, "bf16"),
    ("resnet18", 64, 224, 1000, "bf16"),
]
BATCH = 128


def options(case):
    network, width, size, classes, precision = map(str, case)
    return ["--network", network, "--width", width, "--size", size, "--classes", classes, "--precision", precision,
            "--batch", str(BATCH), "--steps", "10"]


def main(peer, binary, turns):
    torch_gpu = str(pathlib.Path(__file__).with_name("torch_gpu.py"))
    programs = {"torch": [sys.executable, torch_gpu, peer], "pbe": [binary, "--device", "cuda"]}
    print(f"| network, batch {BATCH} | | PyTorch ms | pbe ms | pbe img/s | pbe / PyTorch, speed |\n|---|---|---|---|---|---|")
    for case in CASES:
        medians = race(programs, options(case) + ["--reps", "21"], turns)
        network, width, size, _, precision = case
        for step in STEPS:
            torch, pbe = medians["torch"][step], medians["pbe"][step]
            print(f"| {network}, width {width}, {size}x{size}, {precision} | {step} | {BATCH * 1e3 / torch:.3f} "
                  f"| {BATCH * 1e3 / pbe:.3f} | {pbe:,.0f} | {pbe / torch:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 3)
