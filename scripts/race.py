"""Runs the PyTorch baseline and pbe's `race` example in turn and prints a Markdown table.

Usage: race.py TURNS TORCH_SCRIPT RACE_BINARY (scripts/race_pytorch.sh calls it)
"""
import os
import platform
import re
import statistics
import subprocess
import sys

STEPS = ("pgd_step", "train_step", "score")
LINE = re.compile(rf"^({'|'.join(STEPS)})\s+([\d.]+) img/s")


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
        sys.exit(f"race: {' '.join(command)} failed")
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


def main():
    turns, script, binary = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    programs = {"torch": [sys.executable, script], "pbe": [binary]}
    rows = []
    for width, reps in ((64, 3), (16, 9)):
        medians = race(programs, ["--width", str(width), "--reps", str(reps)], turns)
        for key, name, digits in [(step, step, 1) for step in STEPS] + [("peak", "peak memory, MiB", 0)]:
            torch, pbe = medians["torch"][key], medians["pbe"][key]
            rows.append(f"| {width} | {name} | {torch:.{digits}f} | {pbe:.{digits}f} | {pbe / torch:.2f} |")
    print(f"{os.cpu_count()} cores, {platform.machine()}, {turns} turns each, medians\n")
    print("| width | step (batch 128, 32x32) | PyTorch img/s | pbe img/s | pbe / PyTorch |")
    print("|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
