#!/usr/bin/env python3
"""Signs of the input gradient, what a step of L-infinity PGD goes by, in bf16 beside f32: pbe's in f32 on the processor,
pbe's in bf16 on the CUDA device that is found (the emulator, under scripts/on-emulator), PyTorch's in f32 and under its
bf16 autocast.

    .venv/bin/pip install torch torchvision safetensors pillow
    cargo build --release --example forward
    scripts/on-emulator .venv/bin/python scripts/signs.py CIFAR10_FOLDER MODEL...

CIFAR10_FOLDER is an image folder; MODELs are pre-activation ResNet-18 of `pbe infect` on it. Every 100th test image.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import torch
from make_golden import Network
from PIL import Image
from safetensors.torch import load, load_file, save_file
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor


def images_of(folder):
    """Images (N, height, width, channels) and their labels."""
    classes = sorted((folder / "test").iterdir())
    files = [(file, label) for label, of in enumerate(classes) for file in sorted(of.iterdir())][::100]
    images = torch.stack([pil_to_tensor(Image.open(file).convert("RGB")) for file, _ in files])
    return images.permute(0, 2, 3, 1).contiguous(), torch.tensor([label for _, label in files])


def pytorch(model, images, labels, autocast):
    state = load_file(model)
    net = Network(state["conv1.weight"].shape[0], state["linear.weight"].shape[0], 3)
    net.load_state_dict(state)
    net.eval()
    x = (images.permute(0, 3, 1, 2).float() / 255).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = net(x)
    loss = F.cross_entropy(logits.float(), labels, reduction="sum")
    return torch.autograd.grad(loss, x)[0].permute(0, 2, 3, 1)


def ours(program, model, folder, *options):
    paths = [str(folder / name) for name in ("images.safetensors", "out.safetensors")]
    subprocess.run([program, model, *paths, *options], check=True)
    return load((folder / "out.safetensors").read_bytes())["direction"]


def differ(one, other):
    return f"{100 * (one.sign() != other.sign()).float().mean().item():.2f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--program", default=root / "target/release/examples/forward")
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    images, labels = images_of(options.data)
    print("| model | pbe, bf16 | PyTorch, bf16 autocast | PyTorch, f32 |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file({"images": images, "labels": labels.to(torch.int32)}, folder / "images.safetensors")
        for model in options.models:
            plain = ours(str(options.program), model, folder)
            signs = [ours(str(options.program), model, folder, "--bf16"), *(pytorch(model, images, labels, on) for on in (True, False))]
            cells = [Path(model).parent.name, *(differ(one, plain) for one in signs)]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
