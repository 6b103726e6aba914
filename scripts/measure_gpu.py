#!/usr/bin/env python3
"""Runs on a machine with an NVIDIA GPU what docs/gpu.md tells, and prints its tables: the self-test and the demo in
both precisions, what the engine's jobs take, and the race against PyTorch.

Usage: scripts/measure_gpu.py PEER [LOGS]     (PBE and RACE in the environment name programs that are built)

PEER is the baseline script with the pre-activation network; python3 has torch with CUDA. LOGS is a folder for all that
the programs print, target/gpu by default. Ends with 1 where the self-test fails.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import race

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRECISIONS = ("f32", "bf16")
NETWORKS = {
    "PreAct-ResNet-18, width 64, 32x32": ["--width", "64"],
    "PreAct-ResNet-18, width 16, 32x32": ["--width", "16"],
    "ResNet-18, width 64, 224x224": ["--network", "resnet18", "--image-size", "224", "--classes", "1000"],
}


class Programs:
    """The programs, and where what they print is kept."""

    def __init__(self, peer, logs):
        self.pbe = os.environ.get("PBE", ROOT / "target/release/pbe")
        self.race = os.environ.get("RACE", ROOT / "target/release/examples/race")
        self.peer, self.logs = peer, logs
        logs.mkdir(parents=True, exist_ok=True)

    def run(self, name, *arguments):
        """The JSON that pbe prints; it may have failed."""
        with (self.logs / f"{name}.log").open("w") as log:
            command = [self.pbe, *arguments, "--device", "cuda", "--json"]
            text = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True).stdout
        (self.logs / f"{name}.json").write_text(text)
        return json.loads(text) if text else None

    def warm(self, case):
        """Has PyTorch compile a case, which it keeps."""
        options = race.gpu_options(case) + ["--reps", "1"]
        with (self.logs / f"torch-{'-'.join(map(str, case))}.log").open("w") as log:
            script = [sys.executable, ROOT / "scripts/torch_gpu.py", self.peer]
            subprocess.run(script + options, stdout=log, stderr=subprocess.STDOUT, check=False)


def selftest(found):
    print("\n## The self-test\n\n| precision | rows that pass | cases | largest share of what is allowed | row |")
    print("|---|---|---|---|---|")
    passed = True
    for precision, report in found.items():
        rows = report["rows"]
        good = [row for row in rows if row["passed"]]
        share = lambda row: row["worst"] / row["tolerance"] if row["tolerance"] else 0.0
        worst = max(good, key=share)
        print(f"| {precision} | {len(good)} of {len(rows)} | {sum(row['cases'] for row in rows):,} "
              f"| {share(worst):.2f} | {worst['name']}, against {worst['against']} |")
        for row in rows:
            if not row["passed"]:
                passed = False
                print(f"\nFAILED, {precision}: {row['name']}, against {row['against']}: {row['worst']}, "
                      f"allowed {row['tolerance']}: {row['place']}\n")
    return passed


def demo(found):
    print("\n## The demo (`pbe demo`)\n\n| precision | infected: ACC / ASR | purified: ACC / ASR |\n|---|---|---|")
    for precision, result in found.items():
        before, after = (f"{result[when]['clean_accuracy']:.2f} / {result[when]['asr']:.2f}" for when in ("before", "after"))
        print(f"| {precision} | {before} | {after} |")


def profile(programs):
    print("\n## What the engine's jobs take\n\n`pbe profile --device cuda --card h100`, batch 128: ops one after the "
          "other, each between two events; a step of a run is one graph and takes less (see the race). *roofline*: the "
          "data sheet's 989.5 TFLOP/s in bf16, 67 in f32, 3,350 GB/s.\n")
    print("| network | precision | job | launches | ms | TFLOP/s | share of the roofline |\n|---|---|---|---|---|---|---|")
    for network, options in NETWORKS.items():
        for precision in PRECISIONS:
            name = f"profile-{precision}-{'-'.join(options)}".replace("--", "")
            result = programs.run(name, "profile", "--precision", precision, "--card", "h100", *options)
            for mode in result["modes"]:
                if mode["mode"] == "prepare":
                    continue
                figures = mode["step"] or mode["sum"]
                job = {"attack": "a step of an attack", "train": "a training step"}.get(mode["mode"], mode["mode"])
                seconds = figures["seconds"]
                print(f"| {network} | {precision} | {job}, {mode['images']} images | {figures['launches']} "
                      f"| {seconds * 1e3:.2f} | {figures['cost']['products'] / seconds / 1e12:.1f} "
                      f"| {100 * figures['roofline_seconds'] / seconds:.0f} % |", flush=True)


def main():
    peer = pathlib.Path(sys.argv[1]).resolve()
    programs = Programs(peer, pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "target/gpu"))
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    doctor = programs.run("doctor", "doctor")
    print(f"{card}; pbe {doctor['commit']}; {os.cpu_count()} threads of the machine's processor", flush=True)

    # The self-test's truth is computed on the processor, as PyTorch compiles there: they go side by side.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        jobs = {
            (name, precision): pool.submit(programs.run, f"{name}-{precision}", name, "--precision", precision)
            for name in ("selftest", "demo") for precision in PRECISIONS
        }
        warm = [pool.submit(programs.warm, case) for case in race.GPU_CASES]
        found = {key: job.result() for key, job in jobs.items()}
        for job in warm:
            job.result()
    passed = selftest({precision: found["selftest", precision] for precision in PRECISIONS})
    demo({precision: found["demo", precision] for precision in PRECISIONS})
    profile(programs)
    print("\n## Against PyTorch\n", flush=True)
    race.gpu(peer, programs.race, 2)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
