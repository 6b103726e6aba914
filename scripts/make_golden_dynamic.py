#!/usr/bin/env python3
"""Golden values for the dynamic attack from PyTorch: writes tests/golden/dynamic/*.safetensors.

    .venv/bin/python scripts/make_golden_dynamic.py      # the environment of make_golden.py

One step of classifier and pattern network together, the mask network in evaluation mode, in
float64. tests/golden/README.md describes every tensor.
"""

from pathlib import Path

import torch
from make_golden import NORMALISATION, make_network, nhwc
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

SEED, IMAGES, SIDE, CLASSES, WIDTH, STEPS = 3, 8, 8, 5, 2, 3
SHUFFLE, POISON_NOISE = 2, 10  # `Purpose` in src/rng.rs
POISONED, CROSS, TARGET = [0, 3, 6], [1, 2, 5], 1


def philox(counter, key):
    """Philox4x32-10 (Salmon et al., SC'11)."""
    mask = 0xFFFFFFFF
    for round in range(10):
        if round:
            key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b & mask, (a >> 32) ^ counter[3] ^ key[1], a & mask]
    return counter


def permutation(n, purpose, epoch=0):
    """As the program shuffles: element i decides position i."""
    order = list(range(n))
    for i in reversed(range(1, n)):
        j = (philox([i, 0, epoch, purpose], [SEED, 0])[0] * (i + 1)) >> 32
        order[i], order[j] = order[j], order[i]
    return order


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.batch_norm = nn.BatchNorm2d(outputs, momentum=0.05)

    def forward(self, x):
        return self.batch_norm(self.conv2d(x))


def squash(x):
    return torch.tanh(x) / (2 + 1e-7) + 0.5


class Generator(nn.Module):
    """An image network on pixels in [0, 1], normalised inside."""

    def __init__(self, outputs):
        super().__init__()
        inputs = 3
        for step in range(STEPS):
            width = WIDTH << step
            setattr(self, f"convblock_down_{2 * step}", Block(inputs, width))
            setattr(self, f"convblock_down_{2 * step + 1}", Block(width, width))
            inputs = width
        self.convblock_middle = Block(inputs, inputs)
        for step in range(STEPS):
            setattr(self, f"convblock_up_{2 * step}", Block(inputs, inputs))
            last = outputs if step == STEPS - 1 else inputs // 2
            setattr(self, f"convblock_up_{2 * step + 1}", Block(inputs, last))
            inputs = last
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in NORMALISATION[3])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x):
        x = (x - self.mean) / self.std
        for step in range(STEPS):
            x = F.relu(getattr(self, f"convblock_down_{2 * step}")(x))
            x = F.relu(getattr(self, f"convblock_down_{2 * step + 1}")(x))
            x = F.max_pool2d(x, 2)
        x = F.relu(self.convblock_middle(x))
        for step in range(STEPS):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.relu(getattr(self, f"convblock_up_{2 * step}")(x))
            x = getattr(self, f"convblock_up_{2 * step + 1}")(x)
            x = x if step == STEPS - 1 else F.relu(x)
        return squash(x)


def shake(net):
    """Scales and statistics that differ from the initial ones."""
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.copy_(1 + 0.3 * torch.randn_like(norm.weight))
            norm.bias.copy_(0.3 * torch.randn_like(norm.bias))
            norm.running_mean.copy_(0.2 * torch.randn_like(norm.running_mean))
            norm.running_var.copy_(torch.exp(0.3 * torch.randn_like(norm.running_var)))
    return net


def distance(a, b):
    return (a - b).square().mean((1, 2, 3)).sqrt()


def main():
    torch.set_num_threads(1)
    torch.manual_seed(26)
    images = torch.randint(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (IMAGES,))
    case = dict(model_width=2, classes=CLASSES, channels=3)
    classifier = make_network("dynamic", case, images.float())
    pattern, mask = shake(Generator(3)), shake(Generator(1))
    with torch.no_grad():
        # Masks of every shade: else no gradient passes them.
        mask.train()
        for _ in range(100):
            mask(images / 255)
        last = getattr(mask, f"convblock_up_{2 * STEPS - 1}").batch_norm
        last.weight.fill_(0.2)
        last.bias.fill_(0.02)
    files = {}
    parts = {"pattern": pattern, "mask": mask}
    tensors = {
        f"{part}.{name}": value
        for part, net in parts.items()
        for name, value in net.state_dict().items()
        if "num_batches" not in name
    }
    mean, std = (",".join(map(str, v)) for v in NORMALISATION[3])
    about = {"pbe.mean": mean, "pbe.std": std, "pbe.input": f"{SIDE}x{SIDE}"}
    files["model"] = ({k: v.clone() for k, v in classifier.state_dict().items()}, about)
    generators = {k: v.clone() for k, v in tensors.items()}
    files["dynamic"] = (generators, about | {"pbe.generator-width": str(WIDTH)})

    classifier, pattern, mask = (net.double() for net in (classifier, pattern, mask))
    x = images.double() / 255
    order, partners = permutation(IMAGES, SHUFFLE), permutation(IMAGES, POISON_NOISE)
    own = [row for row, image in enumerate(order) if image in POISONED]
    other = [row for row, image in enumerate(order) if image in CROSS]
    sources = [order[row] for row in own] + [partners[row] for row in other]
    classifier.train()
    pattern.train()
    mask.eval()
    made = pattern(x[sources])
    with torch.no_grad():
        place = squash(20 * mask(x[sources]) - 10)
    batch = x[order].clone()
    rows = own + other
    batch[rows] = batch[rows] + (made - batch[rows]) * place
    wanted = labels[order].clone()
    wanted[own] = TARGET
    entropy = F.cross_entropy(classifier(batch), wanted)
    half = len(own)
    between = distance(x[sources[:half]], x[sources[half:]])
    diversity = (between / (distance(made[:half], made[half:]) + 1e-7)).mean()
    (entropy + diversity).backward()
    optimiser = torch.optim.Adam(pattern.parameters(), lr=0.01, betas=(0.5, 0.9))
    expected = {
        "images": nhwc(images),
        "labels": labels.to(torch.int32),
        "loss": entropy.detach(),
        "diversity": diversity.detach(),
        "patterns": nhwc(made).detach().float(),
        "masks": nhwc(place).float(),
    }
    expected |= {f"gradient.{name}": p.grad.float() for name, p in pattern.named_parameters()}
    optimiser.step()
    expected |= {f"after.{k}": v.float() for k, v in pattern.state_dict().items() if "num_batches" not in k}
    files["expected"] = (expected, {"torch": torch.__version__})
    folder = Path(__file__).resolve().parent.parent / "tests/golden/dynamic"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (values, metadata) in files.items():
        path = folder / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in values.items()}, path, metadata)
        path.chmod(0o644)
    print(f"loss {entropy.item():.6f}, diversity {diversity.item():.6f}, masks {place.min():.2e} to {place.max():.4f}, mean {place.mean():.2f}")


main()
