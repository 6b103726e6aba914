#!/usr/bin/env python3
"""Regenerates docs/results.md: plants backdoors, purifies those models and the two of another program, and measures
everything on the full test sets.

Usage: scripts/reproduce.py --cifar FOLDER [--fashion FOLDER] [--gtsrb FOLDER] [--tiny FOLDER] [--models FOLDER]
         [--attacks] [--out FOLDER] [--jobs N] [--deadline SECONDS] [-- OPTIONS]

--tiny is Tiny-ImageNet, 200 classes or fewer. --models holds badnets-cifar10-w16 and blend-cifar10-w16 (.safetensors,
.poison.json). --attacks adds the other attacks on CIFAR-10, and all of them all-to-all. OPTIONS go to every run of pbe:
`-- --device cuda --precision bf16`. PBE in the environment is the program, else it is built.

The most important comes first, N runs at a time (1); after --deadline none is begun. Resumable: what has its result is
not run again, what was stopped goes on from its checkpoint. A run that fails is told, and the rest goes on without it.
"""
import argparse
import concurrent.futures
import dataclasses
import math
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CIFAR = "--width 16 --epochs 10"
CIFAR_20 = "--width 16 --epochs 20"
FASHION = "--width 16 --epochs 3"
GTSRB = "--width 8 --epochs 10"
TINY = "--network resnet18 --width 16 --epochs 20"
ALL = "--label all-to-all"

# Models and how they are planted, the most important first.
MODELS = {
    "cifar-badnets": f"{CIFAR} --attack badnets --rate 0.1",
    "cifar-benign": f"{CIFAR} --attack none",
    "cifar-blend": f"{CIFAR} --attack blend --rate 0.1",
    "fashion-badnets": f"{FASHION} --attack badnets --rate 0.1",
    "fashion-benign": f"{FASHION} --attack none",
    "cifar-sig": f"{CIFAR} --attack sig --rate 0.1",
    "cifar-wanet": f"{CIFAR} --attack wanet --rate 0.1",
    "cifar-badnets-all": f"{CIFAR} --attack badnets --rate 0.1 {ALL}",
    "cifar-blend-all": f"{CIFAR} --attack blend --rate 0.1 {ALL}",
    # SIG without its label changed needs one target.
    "cifar-sig-all": f"{CIFAR} --attack sig --rate 0.1 --dirty-label {ALL}",
    "cifar-wanet-all": f"{CIFAR} --attack wanet --rate 0.1 {ALL}",
    # Class 2 is a large one. None has images for SIG at 10 % with its label as it is.
    "gtsrb-badnets": f"{GTSRB} --attack badnets --rate 0.1 --target 2",
    "gtsrb-blend": f"{GTSRB} --attack blend --rate 0.1 --target 2",
    "gtsrb-sig": f"{GTSRB} --attack sig --rate 0.1 --target 2 --dirty-label",
    "gtsrb-wanet": f"{GTSRB} --attack wanet --rate 0.1 --target 2",
    "gtsrb-benign": f"{GTSRB} --attack none",
    # The patch of 32x32, resized: 6x6.
    "tiny-badnets": f"{TINY} --attack badnets --rate 0.1"
    " --mask {out}/cifar-badnets/badnets-mask.png --pattern {out}/cifar-badnets/badnets-pattern.png",
    "tiny-benign": f"{TINY} --attack none",
    # Their triggers are trained too: these take the longest.
    "cifar-dynamic-20": f"{CIFAR_20} --attack dynamic --rate 0.1",
    "cifar-dynamic-20-all": f"{CIFAR_20} --attack dynamic --rate 0.1 {ALL}",
    "cifar-dynamic": f"{CIFAR} --attack dynamic --rate 0.1",
    "cifar-dynamic-all": f"{CIFAR} --attack dynamic --rate 0.1 {ALL}",
    "gtsrb-dynamic": f"{GTSRB} --attack dynamic --rate 0.1 --target 2",
    "cifar-benign-20": f"{CIFAR_20} --attack none",
    "cifar-badnets-1": f"{CIFAR} --attack badnets --rate 0.01",
    "cifar-blend-1": f"{CIFAR} --attack blend --rate 0.01",
}
OWN = ["cifar-badnets", "cifar-blend", "fashion-badnets"]
FOREIGN = ["foreign-badnets", "foreign-blend"]
# These carry no metadata: their README states the normalisation.
FOREIGN_NORMALISATION = "0.4914,0.4822,0.4465/0.2470,0.2435,0.2616"


@dataclasses.dataclass
class Task:
    """A run of pbe in the folder `name`, or a measurement printed to `name`.json."""

    name: str
    command: list
    needs: set = dataclasses.field(default_factory=set)


class Tasks:
    """What is to be done with the sets that are given, the most important first."""

    def __init__(self, args):
        self.out, self.models = args.out, args.models
        self.data = {name: getattr(args, name) for name in ("cifar", "fashion", "gtsrb", "tiny")}
        self.list = []
        planted = [name for name in MODELS if self.data[name.split("-")[0]]]
        if not args.attacks:
            planted = [name for name in planted if name in [*OWN, "cifar-benign"] or not name.startswith("cifar-")]
        infected = [name for name in planted if "-benign" not in name]
        foreign = FOREIGN if args.models else []
        # 1 % of poison isn't learned. Nothing needs these three.
        alone = [name for name in planted if name.endswith(("-1", "-benign-20"))]
        erased = foreign + [name for name in infected if name not in alone]
        own = [name for name in erased if name in OWN]

        for name in planted:
            if name not in alone:
                self.plant(name)
        self.erase(erased, "default", "none", 0)
        for name in infected:
            self.floor(name)
        for name in foreign:
            self.add(name, self.evaluate(self.model(name), name) + ["--normalisation", FOREIGN_NORMALISATION])
            self.floor(name)
        self.erase(erased, "default", "clean", 0)
        for name in alone:
            self.plant(name)
        for setting in ("none", "clean"):
            for seed in (1, 2):
                self.erase([name for name in erased if name not in FOREIGN], "default", setting, seed)
        for setting in ("clean", "none"):
            self.erase(own, "paper", setting, 0)

    def add(self, name, command, needs=()):
        # The two models of another program are there.
        self.list.append(Task(name, [str(part) for part in command], set(needs) - set(FOREIGN)))

    def folder(self, name):
        return self.data["cifar" if name in FOREIGN else name.split("-")[0]]

    def model(self, name):
        if name in FOREIGN:
            return self.models / f"{name.removeprefix('foreign-')}-cifar10-w16.safetensors"
        return self.out / name / "model.safetensors"

    def poison(self, name):
        if name in FOREIGN:
            return self.model(name).with_suffix(".poison.json")
        return self.out / name / "poison.json"

    def plant(self, name):
        options = [option.format(out=self.out) for option in MODELS[name].split()]
        needs = ["cifar-badnets"] if "--mask" in options else []
        self.add(name, ["infect", "--data", self.folder(name), "--seed", 0, *options], needs)

    def erase(self, names, recipe, setting, seed):
        for name in names:
            command = ["purify", "--model", self.model(name), "--data", self.folder(name), "--poison", self.poison(name)]
            command += ["--recipe", recipe, "--seed", seed]
            if name in FOREIGN:
                command += ["--set", f"data.normalisation={FOREIGN_NORMALISATION}"]
            if setting == "clean":
                command += ["--clean", 0.05]
            elif recipe == "paper":
                # The paper's setting without a clean set costs about 20 epochs: on a cut of the data.
                command += ["--set", "data.limit=10000"]
            self.add(f"{name}.{recipe}.{setting}.{seed}", command, [name])

    def evaluate(self, model, name):
        return ["evaluate", "--json", "--model", model, "--data", self.folder(name), "--trigger", self.poison(name)]

    def floor(self, name):
        benign = "cifar-benign" if name in FOREIGN else name.split("-")[0] + "-benign"
        self.add(f"{name}.floor", self.evaluate(self.model(benign), name), [benign, name])


class Runner:
    """Runs tasks with the program `pbe`, which leaves their results in `out`."""

    def __init__(self, pbe, options, out):
        self.pbe, self.options, self.out = pbe, options, out
        self.began = time.monotonic()

    def result(self, task):
        return self.out / (f"{task.name}.json" if task.command[0] == "evaluate" else f"{task.name}/result.json")

    def is_done(self, task):
        return self.result(task).exists()

    def run(self, task):
        """Whether it went well."""
        command, log = [self.pbe, *task.command, *self.options], self.out / f"{task.name}.log"
        if task.command[0] != "evaluate":
            command += ["--output", self.out / task.name]
            if (self.out / task.name / "config.toml").exists():
                command[command.index("--output")] = "--resume"
        printed = self.out / f"{task.name}.txt"
        began = time.monotonic()
        with printed.open("w") as stdout, log.open("w") as stderr:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr).returncode
        if code == 0 and task.command[0] == "evaluate":
            printed.rename(self.result(task))
        now, well = time.monotonic(), code == 0 and self.is_done(task)
        last = "" if well else f", FAILED ({code}): {' / '.join(log.read_text().splitlines()[-3:])}"
        print(f"{now - self.began:6.0f} s  {task.name}: {now - began:.0f} s{last}", flush=True)
        return well

    def run_all(self, tasks, jobs, deadline):
        """What is left, and of it what failed."""
        done = {task.name for task in tasks if self.is_done(task)}
        waiting = [task for task in tasks if task.name not in done]
        running, failed = {}, []
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            while True:
                try:
                    if time.monotonic() - self.began < deadline:
                        ready = [task for task in waiting if task.needs <= done]
                        for task in ready[: jobs - len(running)]:
                            waiting.remove(task)
                            running[pool.submit(self.run, task)] = task.name
                    if not running:
                        break
                    first, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in first:
                        name = running.pop(future)
                        if future.result():
                            done.add(name)
                        else:
                            failed.append(name)
                except KeyboardInterrupt:
                    # The runs were told too, and write their checkpoints.
                    deadline = 0
        return len(tasks) - len(done), failed


def there(text):
    """The full path of what has to be there."""
    path = pathlib.Path(text).resolve()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text} is not there")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cifar", "fashion", "gtsrb", "tiny", "models"):
        parser.add_argument(f"--{name}", type=there, required=name == "cifar")
    parser.add_argument("--attacks", action="store_true")
    parser.add_argument("--out", type=lambda text: pathlib.Path(text).resolve(), default=pathlib.Path("target/reproduce"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=math.inf)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    pbe = there(os.environ["PBE"]) if "PBE" in os.environ else ROOT / "target/release/pbe"
    os.chdir(ROOT)
    if "PBE" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--quiet"], check=True)
    args.out.mkdir(parents=True, exist_ok=True)

    tasks = Tasks(args).list
    left, failed = Runner(pbe, args.options, args.out).run_all(tasks, args.jobs, args.deadline)
    print(f"{len(tasks) - left} of {len(tasks)} runs are done")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if left == 0:
        table = subprocess.run([sys.executable, "scripts/results_table.py", args.out], check=True, capture_output=True)
        pathlib.Path("docs/results.md").write_bytes(table.stdout)
        print("docs/results.md written")


if __name__ == "__main__":
    main()
