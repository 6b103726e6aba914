#!/usr/bin/env python3
"""Races pbe against PyTorch, in turn, and prints a Markdown table of medians: a PGD step, a training step and scoring,
batch 128.

Usage: scripts/race.py cpu|gpu PEER [TURNS]      (3 turns by default; this Python has torch, with CUDA for gpu)

PEER is the baseline script with the pre-activation network. cpu: f32 and bf16, 32x32, with each program's peak memory; it
needs a matrix unit (`pbe doctor`). gpu: bf16,
pbe against scripts/torch_gpu.py. RACE in the environment takes the place of the release build of examples/race.rs.
"""
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = ("pgd_step", "train_step", "score")
LINE = re.compile(rf"^({'|'.join(STEPS)})\s+([\d.]+) img/s")
BATCH = 128
# Network, width, side of the images, classes, precision.
GPU_CASES = [
    ("preact-resnet18", 64, 32, 10, "bf16"),
    ("preact-resnet18", 16, 32, 10, "bf16"),
    ("resnet18", 64, 224, 1000, "bf16"),
]


def run(command):
    """The first line printed; images per second by step, and the `peak` memory of the process in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    result = {}
    first = ""
    for line in process.stdout:
        first = first or line.strip()
        if match := LINE.match(line):
            result[match[1]] = float(match[2])
    _, status, usage = os.wait4(process.pid, 0)
    if status or len(result) != len(STEPS):
        sys.exit(f"race: {' '.join(map(str, command))} failed")
    return first, result | {"peak": usage.ru_maxrss / 1024}


def race(programs, options, turns):
    """Runs `programs` (commands by name) with `options`, `turns` times in turn: the medians of what `run` measures, by name."""
    results = {name: [] for name in programs}
    for turn in range(turns):
        for name, program in programs.items():
            first, result = run(program + options)
            results[name].append(result)
            print(f"turn {turn + 1}: {first}: {result}", file=sys.stderr, flush=True)
    return {name: {key: statistics.median(result[key] for result in of) for key in of[0]} for name, of in results.items()}


def gpu_options(case):
    network, width, size, classes, precision = map(str, case)
    return ["--network", network, "--width", width, "--size", size, "--classes", classes, "--precision", precision,
            "--batch", str(BATCH), "--steps", "10"]


def cpu(peer, binary, turns):
    """pbe in both precisions against the best of PyTorch's four forms, each step with its own best."""
    torch = [sys.executable, peer]
    programs = {
        "f32": torch,
        "f32 channels-last": torch + ["--channels-last"],
        "bf16": torch + ["--bf16"],
        "bf16 channels-last": torch + ["--bf16", "--channels-last"],
        "pbe f32": [binary],
        "pbe bf16": [binary, "--precision", "bf16"],
    }
    print(f"{processor()}, {turns} turns each, medians\n")
    print(f"| width | step (batch {BATCH}, 32x32) | PyTorch's best img/s | its form | pbe f32 img/s | pbe bf16 img/s "
          "| bf16 / best |\n|---|---|---|---|---|---|---|")
    for width, reps in ((64, 3), (16, 9)):
        medians = race(programs, ["--width", str(width), "--reps", str(reps)], turns)
        forms = {name: of for name, of in medians.items() if not name.startswith("pbe")}
        for step in STEPS:
            best = max(forms, key=lambda form: forms[form][step])
            row(width, step, best, forms[best], medians, step)
        # The memory of the form that trains fastest.
        best = max(forms, key=lambda form: forms[form]["train_step"])
        row(width, "peak memory, MiB", best, forms[best], medians, "peak")


def row(width, name, best, torch, medians, key):
    f32, bf16 = medians["pbe f32"][key], medians["pbe bf16"][key]
    print(f"| {width} | {name} | {torch[key]:,.0f} | {best} | {f32:,.0f} | {bf16:,.0f} | {bf16 / torch[key]:.2f} |", flush=True)


def processor():
    """Cores, and the units that convolutions may use."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    units = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{os.cpu_count()} cores, {platform.machine()}, {', '.join(units)}"


def gpu(peer, binary, turns):
    programs = {"torch": [sys.executable, ROOT / "scripts/torch_gpu.py", peer], "pbe": [binary, "--device", "cuda"]}
    print(f"| network, batch {BATCH} | | PyTorch ms | pbe ms | pbe img/s | pbe / PyTorch, speed |\n|---|---|---|---|---|---|")
    for case in GPU_CASES:
        medians = race(programs, gpu_options(case) + ["--reps", "21"], turns)
        network, width, size, _, precision = case
        for step in STEPS:
            torch, pbe = medians["torch"][step], medians["pbe"][step]
            print(f"| {network}, width {width}, {size}x{size}, {precision} | {step} | {BATCH * 1e3 / torch:.3f} "
                  f"| {BATCH * 1e3 / pbe:.3f} | {pbe:,.0f} | {pbe / torch:.2f} |", flush=True)


def program():
    if "RACE" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--quiet", "--example", "race"], cwd=ROOT, check=True)
    return os.environ.get("RACE", ROOT / "target/release/examples/race")


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("cpu", "gpu"):
        sys.exit(__doc__)
    {"cpu": cpu, "gpu": gpu}[sys.argv[1]](sys.argv[2], program(), int(sys.argv[3]) if len(sys.argv) > 3 else 3)


if __name__ == "__main__":
    main()
