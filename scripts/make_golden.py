#!/usr/bin/env python3
"""Golden values from PyTorch, for the tests of the engine: writes tests/golden/<case>/*.safetensors.

    python3 -m venv .venv
    .venv/bin/pip install torch numpy safetensors      # the CPU build of torch will do
    .venv/bin/python scripts/make_golden.py [--output tests/golden] [CASE ...]

Every number is computed in float64, the truth to compare with, and in float32, to show how far PyTorch
itself is from it. tests/golden/README.md describes every tensor. Another machine or version of PyTorch
gives the same values but not the same bytes.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

STEPS = 10  # of SGD
PGD_STEPS = 7
DISTILL_WEIGHT, TEMPERATURE = 1.0, 2.0
CASES = {
    "square": dict(model_width=4, classes=10, channels=3, height=16, width=16, batch=8),
    "odd": dict(model_width=5, classes=7, channels=3, height=13, width=11, batch=3),
    "many-classes": dict(model_width=2, classes=200, channels=1, height=9, width=14, batch=5),
    "one-class": dict(model_width=1, classes=1, channels=3, height=17, width=10, batch=1),
    "resnet18": dict(model_width=2, classes=5, channels=3, height=37, width=33, batch=4),
    "resnet18-small-stem": dict(model_width=2, classes=3, channels=1, height=13, width=18, batch=4),
}
# Of these only logits and gradients, at several sizes (of which the larger ones are sampled).
SMALL = dict(classes=4, channels=3, height=32, width=32, batch=8)
NETWORKS = {
    "preact-resnet34": dict(model_width=2, depths=(3, 4, 6, 3)),
    "resnet34": dict(model_width=2, depths=(3, 4, 6, 3)),
    "resnet50": dict(model_width=2, depths=(3, 4, 6, 3)),
    "vgg11-bn": dict(model_width=1, depths=(1, 1, 2, 2, 2)),
    "vgg13-bn": dict(model_width=1, depths=(2, 2, 2, 2, 2)),
    "vgg16-bn": dict(model_width=1, depths=(2, 2, 3, 3, 3)),
    "vgg19-bn": dict(model_width=1, depths=(2, 2, 4, 4, 4)),
    "vgg11-bn-small-head": dict(model_width=2, depths=(1, 1, 2, 2, 2)),
    "vgg13-bn-small-head": dict(model_width=2, depths=(2, 2, 2, 2, 2)),
    "vgg16-bn-small-head": dict(model_width=2, depths=(2, 2, 3, 3, 3)),
    "vgg19-bn-small-head": dict(model_width=2, depths=(2, 2, 4, 4, 4)),
}
SIZES = (32, 64, 224)
SAMPLE = 64  # elements of a tensor
NORMALISATION = {3: ([0.4914, 0.4822, 0.4465], [0.247, 0.243, 0.261]), 1: ([0.5], [0.25])}


class Block(nn.Module):
    """Pre-activation block: conv2(relu(bn2(conv1(h)))) + shortcut, h = relu(bn1(x))."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        h = F.relu(self.bn1(x))
        side = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(F.relu(self.bn2(self.conv1(h)))) + side


class Normalised(nn.Module):
    """A network on pixels in [0, 1], normalised inside."""

    def __init__(self, channels):
        super().__init__()
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in NORMALISATION[channels])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x):
        return self.head(self.features(x))


class Network(Normalised):
    """Pre-activation ResNet, 18 layers or more."""

    def __init__(self, model_width, classes, channels, depths=(2, 2, 2, 2)):
        super().__init__(channels)
        self.conv1 = nn.Conv2d(channels, model_width, 3, 1, 1, bias=False)
        inputs = model_width
        for stage in range(4):
            outputs = model_width << stage
            first = Block(inputs, outputs, 1 if stage == 0 else 2)
            others = [Block(outputs, outputs, 1) for _ in range(depths[stage] - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, *others))
            inputs = outputs
        self.linear = nn.Linear(inputs, classes)

    def features(self, x):
        x = self.conv1((x - self.mean) / self.std)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def head(self, features):
        return self.linear(features)


class PostBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut), the shortcut a strided convolution with a norm."""

    def __init__(self, inputs, outputs, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.name = None if stride == 1 else shortcut
        if self.name:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            setattr(self, shortcut, nn.Sequential(convolution, nn.BatchNorm2d(outputs)))

    def forward(self, x):
        side = getattr(self, self.name)(x) if self.name else x
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + side)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the channels: torchvision's (v1.5)."""

    def __init__(self, inputs, channels, stride):
        super().__init__()
        outputs = 4 * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x):
        side = x if self.downsample is None else self.downsample(x)
        h = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(h)) + side)


class Vgg(Normalised):
    """VGG with batch norm: torchvision's with three linear layers (without its dropout), or kuangliu's with one."""

    def __init__(self, model_width, classes, channels, depths, small_head):
        super().__init__(channels)
        layers, inputs = [], channels
        for stage, depth in enumerate(depths):
            outputs = model_width << min(stage, 3)
            for _ in range(depth):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2))
        # The image is an argument of `features`, so that the layers have a name of their own.
        self.layers = nn.Sequential(*layers)
        self.small_head = small_head
        hidden = 64 * model_width
        self.classifier = nn.Linear(inputs, classes) if small_head else nn.Sequential(
            nn.Linear(49 * inputs, hidden), nn.ReLU(), nn.Identity(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Identity(),
            nn.Linear(hidden, classes))

    def features(self, x):
        x = self.layers((x - self.mean) / self.std)
        if self.small_head:
            return F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier[:-1](F.adaptive_avg_pool2d(x, 7).flatten(1))

    def head(self, features):
        return (self.classifier if self.small_head else self.classifier[-1])(features)


def state_dict(net):
    """The published names."""
    return {name.replace("layers.", "features.", 1): value for name, value in net.state_dict().items()}


class ResNet(Normalised):
    """torchvision's ResNets with a 7x7 stem and max pooling, or kuangliu's ResNet-18 with a 3x3 stem."""

    def __init__(self, model_width, classes, channels, small_stem, depths=(2, 2, 2, 2), bottleneck=False):
        super().__init__(channels)
        kernel, stride, shortcut = (3, 1, "shortcut") if small_stem else (7, 2, "downsample")
        self.conv1 = nn.Conv2d(channels, model_width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(model_width)
        self.pool = (lambda x: x) if small_stem else (lambda x: F.max_pool2d(x, 3, 2, 1))
        inputs = model_width
        for stage in range(4):
            outputs, stride = model_width << stage, 1 if stage == 0 else 2
            blocks = []
            for block in range(depths[stage]):
                sizes = (inputs, outputs, stride if block == 0 else 1)
                blocks.append(Bottleneck(*sizes) if bottleneck else PostBlock(*sizes, shortcut))
                inputs = 4 * outputs if bottleneck else outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.last = "linear" if small_stem else "fc"
        setattr(self, self.last, nn.Linear(inputs, classes))

    def features(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1((x - self.mean) / self.std))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def head(self, features):
        return getattr(self, self.last)(features)


def make_network(name, case, images):
    """Default initial weights; batch norm with scales of both signs and statistics near the data's."""
    sizes = (case["model_width"], case["classes"], case["channels"])
    depths = case.get("depths", (2, 2, 2, 2))
    if name.startswith("vgg"):
        net = Vgg(*sizes, depths, "small" in name)
    elif name.startswith("resnet"):
        net = ResNet(*sizes, "small" in name, depths, name == "resnet50")
    else:
        net = Network(*sizes, depths)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.copy_(1 + 0.3 * torch.randn_like(norm.weight))
            norm.weight[::3] *= -1
            norm.bias.copy_(0.3 * torch.randn_like(norm.bias))
            norm.momentum = 0.5
        net.train()
        for _ in range(6):
            net(torch.rand_like(images))
        for norm in norms:
            norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= torch.exp(0.3 * torch.randn_like(norm.running_var))
            norm.momentum = 0.1
    return net


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous()


def evaluate(net, x, y):
    """Eval mode: features, logits, each image's loss, gradient of the loss to the [0, 1] input."""
    net.eval()
    x = x.clone().requires_grad_(True)
    features = net.features(x)
    logits = net.head(features)
    loss = F.cross_entropy(logits, y, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return {"features": features, "logits": logits, "loss": loss, "input_gradient": nhwc(gradient)}


def pgd(net, x, y, epsilon, alpha, norm):
    """Untargeted, from x itself; step, projection to the ball of each image, clamp to [0, 1]."""
    net.eval()
    epsilon, alpha = (v.to(x.dtype).view(-1, 1, 1, 1) for v in (epsilon, alpha))
    length = lambda r: r.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    adversarial = x.clone()
    for _ in range(PGD_STEPS):
        adversarial.requires_grad_(True)
        loss = F.cross_entropy(net(adversarial), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        if norm == "linf":
            r = adversarial.detach() + alpha * gradient.sign() - x
            r = torch.minimum(torch.maximum(r, -epsilon), epsilon)
        else:
            r = adversarial.detach() + alpha * gradient / length(gradient).clamp_min(1e-30) - x
            r = r * (epsilon / length(r).clamp_min(1e-30)).clamp_max(1)
        adversarial = (x + r).clamp(0, 1).detach()
    return nhwc(adversarial)


def distillation(logits, y, teacher):
    t = TEMPERATURE
    kl = F.kl_div(F.log_softmax(logits / t, 1), F.softmax(teacher / t, 1), reduction="batchmean")
    return F.cross_entropy(logits, y) + DISTILL_WEIGHT * t * t * kl


def train_once(net, x, y, teacher=None):
    """One forward and backward in train mode on a copy; mean loss, no weight decay in the gradients."""
    net = copy.deepcopy(net).train()
    logits = net(x)
    loss = F.cross_entropy(logits, y) if teacher is None else distillation(logits, y, teacher)
    logits.retain_grad()
    loss.backward()
    out = {"loss": loss, "logits": logits, "logits_gradient": logits.grad}
    out |= {f"gradient.{name}": p.grad for name, p in net.named_parameters()}
    out |= {f"after.{name}": b for name, b in net.state_dict().items() if "running" in name}
    return out


def sgd(net, x, y):
    """Ten steps on the same batch; the loss before each and the network after the last."""
    net = copy.deepcopy(net).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses), net


def compute(net, images, y, budgets, dtype):
    """All values in one precision."""
    net = copy.deepcopy(net).to(dtype)
    x = images.to(dtype) / 255
    out = {f"eval.{k}": v for k, v in evaluate(net, x, y).items()}
    for name, (epsilon, alpha, norm) in budgets.items():
        out[f"{name}.adversarial"] = pgd(net, x, y, epsilon, alpha, norm)
    out |= {f"train.{k}": v for k, v in train_once(net, x, y).items()}
    losses, later = sgd(net, x, y)
    out["sgd.losses"] = losses
    out |= {f"sgd.final.{k}": v for k, v in later.state_dict().items() if "num_batches" not in k}
    later.eval()
    with torch.no_grad():
        reference = later(x)
    out["sgd.final_logits"] = reference
    out["cosine.score"] = F.cosine_similarity(out["eval.logits"].detach(), reference)
    distilled = train_once(net, x, y, teacher=reference)
    out |= {f"distill.{k}": v for k, v in distilled.items() if not k.startswith("after.")}
    return {k: v.detach() for k, v in out.items()}


def select(name, singles, doubles):
    """What is stored: the float64 result under its name (rounded to float32 where it is as large as a
    network or an image), and PyTorch's own float32 result under `float32.` where it is small."""
    out = {}
    for key, truth in doubles.items():
        if key.startswith("distill.gradient.") and name != "square":
            continue
        network = any(part in key for part in (".gradient.", ".final.", ".after."))
        image = key.endswith((".adversarial", ".input_gradient"))
        out[key] = truth.float() if network or image else truth
        if not network:
            out[f"float32.{key}"] = singles[key]
    return out


def budgets_of(batch):
    """ε and α by image, in units of [0, 1]."""
    same = lambda value: torch.full((batch,), value)
    each = torch.logspace(np.log2(4), np.log2(64), batch, base=2) / 255
    return {
        "pgd": (same(8 / 255), same(2 / 255), "linf"),
        "pgd_each": (each, each / 4, "linf"),
        "pgd_l2": (torch.linspace(0.3, 1.0, batch), torch.linspace(0.3, 1.0, batch) / 4, "l2"),
    }


def report(name, singles, doubles):
    """How far PyTorch's float32 is from float64: what an implementation can be asked for."""
    worst = {}
    for key, truth in doubles.items():
        group = ".".join(key.split(".")[:2])
        difference = singles[key].double() - truth
        error = (difference.norm() / truth.norm().clamp_min(1e-12)).item()
        if key.endswith(".adversarial"):  # the share of pixels that differ
            error = (difference.abs() > 1e-5).double().mean().item()
        worst[group] = max(worst.get(group, 0.0), error)
    print(name, *(f"  {group:24s} {error:.1e}" for group, error in worst.items()), sep="\n")


def formula_images(count, size):
    """Noise that the test can make again: count x 3 x size x size."""
    index = np.arange(count * size * size * 3, dtype=np.uint64)
    pixels = ((index * 2654435761) % 2**32 >> 11) & 255
    return torch.from_numpy(pixels.astype(np.uint8).reshape(count, size, size, 3)).permute(0, 3, 1, 2).contiguous()


def sample(x):
    """Every so many elements, SAMPLE of them at most."""
    flat = x.flatten()
    return flat[:: -(-len(flat) // SAMPLE)]


def make_network_case(name, case, folder):
    """Logits, input gradients and parameter gradients of one network at several sizes."""
    torch.manual_seed(sum(name.encode()))
    net = make_network(name, case, formula_images(8, 64).float())
    doubles, out = copy.deepcopy(net).double(), {}
    for size in SIZES:
        x = formula_images(case["batch"], size).double() / 255
        y = torch.arange(case["batch"]) % case["classes"]
        values = evaluate(doubles, x, y)
        gradients = train_once(doubles, x, y)
        out |= {f"{size}.logits": values["logits"].detach(), f"{size}.features": values["features"].detach()}
        direction = F.normalize(values["input_gradient"].flatten(1))
        out |= {f"{size}.input_direction": sample(direction).float()}
        for key, value in gradients.items():
            key = key.replace(".layers.", ".features.", 1)
            if key.startswith(("gradient.", "after.")):
                out[f"{size}.{key}"] = sample(value.detach()).float()
        out[f"{size}.loss"] = gradients["loss"].detach()
    mean, std = (",".join(map(str, v)) for v in NORMALISATION[case["channels"]])
    metadata = {"pbe.mean": mean, "pbe.std": std, "pbe.input": "32x32"}
    write(folder, {"model": (state_dict(net), metadata), "expected": (out, {"torch": torch.__version__})})
    print(name, {k: [round(v, 3) for v in out[k].flatten()[:4].tolist()] for k in out if k.endswith("logits")})


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for file, (tensors, about) in files.items():
        path = folder / f"{file}.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, about)
        path.chmod(0o644)


def make_case(name, case, folder):
    torch.manual_seed(sum(name.encode()))
    shape = (case["batch"], case["channels"], case["height"], case["width"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    y = torch.randint(0, case["classes"], (case["batch"],))
    net = make_network(name, case, images.float())
    budgets = budgets_of(case["batch"])
    singles = compute(net, images, y, budgets, torch.float32)
    doubles = compute(net, images, y, budgets, torch.float64)
    report(name, singles, doubles)
    out = {"images": nhwc(images), "labels": y.to(torch.int32)}
    for attack, (epsilon, alpha, _) in budgets.items():
        out |= {f"{attack}.epsilon": epsilon, f"{attack}.alpha": alpha}
    out |= select(name, singles, doubles)
    mean, std = (",".join(map(str, v)) for v in NORMALISATION[case["channels"]])
    metadata = {"pbe.mean": mean, "pbe.std": std, "pbe.input": f"{case['height']}x{case['width']}"}
    write(folder, {"model": (net.state_dict(), metadata), "expected": (out, {"torch": torch.__version__})})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--output", type=Path, default=root / "tests" / "golden")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="these alone")
    arguments = parser.parse_args()
    output = arguments.output
    torch.set_num_threads(1)
    for name, case in CASES.items():
        if name in arguments.cases or not arguments.cases:
            make_case(name, case, output / name)
    for name, case in NETWORKS.items():
        if name in arguments.cases or not arguments.cases:
            make_network_case(name, SMALL | case, output / "networks" / name)
    size = sum(file.stat().st_size for file in output.rglob("*.safetensors"))
    print(f"{size / 1e6:.2f} MB in {output}")


if __name__ == "__main__":
    main()
