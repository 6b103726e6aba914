"""Runs the PyTorch baseline and pbe's `race` example in turn and prints a Markdown table.

Usage: race.py TURNS TORCH_SCRIPT RACE_BINARY (scripts/race_pytorch.sh calls it)
"""
import os
import platform
import re
import statistics
import subprocess
import sys

LINE = re.compile(r"^(pgd_step|train_step|score)\s+([\d.]+) img/s")


def run(command):
    """Images per second by step, and the peak memory of the process in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    rates = {}
    first = ""
    for line in process.stdout:
        first = first or line.strip()
        if match := LINE.match(line):
            rates[match[1]] = float(match[2])
    _, status, usage = os.wait4(process.pid, 0)
    if status or len(rates) != 3:
        sys.exit(f"race: {' '.join(command)} failed")
    return first, rates, usage.ru_maxrss / 1024


def main():
    turns, script, binary = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    rows = []
    for width in (64, 16):
        reps = "3" if width == 64 else "9"
        results = {"torch": [], "pbe": []}
        for turn in range(turns):
            for name, program in (("torch", [sys.executable, script]), ("pbe", [binary])):
                first, rates, peak = run(program + ["--width", str(width), "--reps", reps])
                results[name].append((rates, peak))
                print(f"turn {turn + 1}: {first}: {rates}, {peak:.0f} MiB", file=sys.stderr)
        middle = lambda name, pick: statistics.median(pick(result) for result in results[name])
        for step in ("pgd_step", "train_step", "score"):
            torch, pbe = (middle(name, lambda result: result[0][step]) for name in ("torch", "pbe"))
            rows.append(f"| {width} | {step} | {torch:.1f} | {pbe:.1f} | {pbe / torch:.2f} |")
        torch, pbe = (middle(name, lambda result: result[1]) for name in ("torch", "pbe"))
        rows.append(f"| {width} | peak memory, MiB | {torch:.0f} | {pbe:.0f} | {pbe / torch:.2f} |")
    print(f"{os.cpu_count()} cores, {platform.machine()}, {turns} turns each, medians\n")
    print("| width | step (batch 128, 32x32) | PyTorch img/s | pbe img/s | pbe / PyTorch |")
    print("|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
