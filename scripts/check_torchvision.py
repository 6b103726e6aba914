#!/usr/bin/env python3
"""torchvision's ResNet-18 against pbe's: logits and input gradient at width 64 and 224x224, and time.

    .venv/bin/pip install torch torchvision safetensors
    cargo build --release --example forward
    .venv/bin/python scripts/check_torchvision.py [--program target/release/examples/forward]

Random weights, running statistics of random images, random images; everything is made here. The truth is
torchvision's module in float64, and its float32 says how far PyTorch itself is from it. Times are of one
thread, in seconds of the processor, so that what else the machine does matters little.
"""

import argparse
import copy
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load, save_file
from torch.nn import functional as F
from torchvision.models import resnet18

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STEPS = 2


def make(size, classes):
    """A network whose norms have scales, shifts and statistics of their own."""
    torch.manual_seed(size)
    net = resnet18(num_classes=classes)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, size, size))
    return net.eval()


def normalise(images, dtype):
    mean, std = (torch.tensor(v, dtype=dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
    return lambda x: (x - mean) / std


def truth(net, images, labels, dtype):
    """Logits, and each image's input gradient (NHWC) over its length."""
    net = copy.deepcopy(net).to(dtype)
    x = (images.permute(0, 3, 1, 2).to(dtype) / 255).requires_grad_(True)
    logits = net(normalise(images, dtype)(x))
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), x)
    gradient = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return logits.detach().double(), gradient.permute(0, 2, 3, 1).double()


def distance(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


def run(program, folder, steps):
    """Runs pbe's example; its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paths = [str(folder / name) for name in ("model.safetensors", "images.safetensors", "out.safetensors")]
    subprocess.run([program, *paths, "--steps", str(steps)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime


def train_seconds(net, images, labels):
    """Processor seconds of a training step of PyTorch's, after one to warm up."""
    net = copy.deepcopy(net).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)
    x = normalise(images, torch.float32)(images.permute(0, 3, 1, 2).float() / 255)
    for step in range(STEPS + 1):
        if step == 1:
            start = time.process_time()
        optimiser.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimiser.step()
    return (time.process_time() - start) / STEPS


def check(program, size, count, classes):
    net = make(size, classes)
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)
    labels = torch.randint(0, classes, (count,))
    logits, gradient = truth(net, images, labels, torch.float64)
    singles = truth(net, images, labels, torch.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        metadata = {"pbe.mean": ",".join(map(str, MEAN)), "pbe.std": ",".join(map(str, STD))}
        save_file(net.state_dict(), folder / "model.safetensors", metadata)
        tensors = {"images": images, "labels": labels.to(torch.int32)}
        save_file(tensors, folder / "images.safetensors")
        run(program, folder, 0)
        # Read whole: the next run writes the same file.
        found = load((folder / "out.safetensors").read_bytes())
        # The first step and all that isn't training cancel out.
        ours = (run(program, folder, STEPS + 1) - run(program, folder, 1)) / STEPS
    theirs = train_seconds(net, images, labels)
    errors = [distance(found["logits"], logits), distance(found["direction"], gradient)]
    own = [distance(singles[0], logits), distance(singles[1], gradient)]
    cells = [f"{size}x{size}", str(count), *(f"{e:.1e}" for e in (errors[0], own[0], errors[1], own[1]))]
    print("|", " | ".join([*cells, f"{ours:.2f} s", f"{theirs:.2f} s"]), "|", flush=True)
    # Where one ReLU next to zero goes the other way in float32, PyTorch's own gradient is far from the truth.
    return errors[0] <= 1e-4 and errors[1] <= max(1e-3, 2 * own[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--program", default=root / "target/release/examples/forward")
    program = str(parser.parse_args().program)
    torch.set_num_threads(1)
    print("| image | images | logits: pbe | PyTorch f32 | gradient: pbe | PyTorch f32 | step: pbe | PyTorch |")
    print("|---|---|---|---|---|---|---|---|")
    fine = [check(program, size, count, 1000) for size, count in ((64, 8), (224, 2))]
    if not all(fine):
        raise SystemExit("further from torchvision than 1e-4 (logits) or 1e-3 (input gradient)")


if __name__ == "__main__":
    main()
