#!/usr/bin/env python3
"""Golden values of the defences that need a clean set, from PyTorch: writes tests/golden/defenses/expected.safetensors.

    python3 -m venv .venv
    .venv/bin/pip install torch numpy safetensors      # the CPU build of torch will do
    .venv/bin/python scripts/make_golden_defenses.py [--golden tests/golden]

Model, images and labels are those of the case `square`. Every number is computed in float64. Each defence is written
here as its paper and the authors' code have it, through autograd. tests/golden/README.md describes every tensor.
"""

import argparse
import copy
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from make_golden import CASES, Network

MOMENTUM, DECAY = 0.9, 5e-4
ANP_ITERATIONS, NC_STEPS, FST_STEPS = 10, 10, 3
NC_LABEL, NC_COST = 3, 1e-3


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def sgd(net, lr, decay=DECAY):
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=decay)


def keep_statistics(net, keep):
    for norm in norms(net):
        norm.momentum = 0.0 if keep else 0.1


def state(prefix, net):
    return {f"{prefix}.{k}": v for k, v in net.state_dict().items() if "num_batches" not in k}


def ft_sam(net, x, y, rho=2.0):
    """The adaptive SAM of Kwon et al. as FT-SAM uses it: e = rho w^2 g / || |w| g ||."""
    net = copy.deepcopy(net).train()
    optimiser = sgd(net, 0.01)
    loss = F.cross_entropy(net(x), y, label_smoothing=0.1)
    loss.backward()
    with torch.no_grad():
        norm = torch.stack([(p.abs() * p.grad).norm() for p in net.parameters()]).norm()
        moves = [rho / (norm + 1e-12) * p * p * p.grad for p in net.parameters()]
        for p, move in zip(net.parameters(), moves):
            p += move
    out = {"ft_sam.loss": loss} | state("ft_sam.perturbed", copy.deepcopy(net))
    optimiser.zero_grad()
    keep_statistics(net, True)
    F.cross_entropy(net(x), y, label_smoothing=0.1).backward()
    with torch.no_grad():
        for p, move in zip(net.parameters(), moves):
            p -= move
    optimiser.step()
    return out | state("ft_sam.after", net)


def fst(net, x, y, alpha=0.1):
    net = copy.deepcopy(net).train()
    original = net.linear.weight.detach().clone()
    bound = net.linear.in_features ** -0.5
    with torch.no_grad():
        net.linear.weight.uniform_(-bound, bound)
        net.linear.bias.uniform_(-bound, bound)
    out = {"fst.head.weight": net.linear.weight.clone(), "fst.head.bias": net.linear.bias.clone()}
    optimiser = sgd(net, 0.01, 0.0)
    losses = []
    for _ in range(FST_STEPS):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), y) + alpha * (net.linear.weight * original).sum()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            net.linear.weight *= original.norm() / net.linear.weight.norm()
        losses.append(loss.detach())
    return out | {"fst.losses": torch.stack(losses)} | state("fst.after", net)


def scaled(net, gamma, beta):
    """The network's function with gamma (of all norms, concatenated) and beta in place of its own."""
    sizes = [norm.num_features for norm in norms(net)]
    names = [name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    changed = {}
    for name, g, b in zip(names, gamma.split(sizes), beta.split(sizes)):
        changed |= {f"{name}.weight": g, f"{name}.bias": b}
    return lambda x: torch.func.functional_call(net, changed, (x,))


def neurons(net):
    return (torch.cat([getattr(norm, part) for norm in norms(net)]) for part in ("weight", "bias"))


def noise(count, size):
    return [size * (2 * torch.rand(count, dtype=torch.float64) - 1) for _ in range(2)]


def ascend(f, delta, xi, size):
    """One sign step; says how near zero a gradient comes, whose sign float32 may not see."""
    gradients = torch.autograd.grad(f(delta, xi), (delta, xi))
    flat = torch.cat(gradients).abs()
    print(f"smallest gradient {float(flat[flat > 0].min() / flat.max()):.1e} of the largest, {int((flat == 0).sum())} zero")
    return [(v + size * g.sign()).detach() for v, g in zip((delta, xi), gradients)]


def ban(net, x, y, epsilon=0.3, weight=0.5):
    net = copy.deepcopy(net).train()
    optimiser = sgd(net, 0.005)
    gamma, beta = neurons(net)
    delta, xi = noise(len(gamma), epsilon)
    out = {"ban.delta": delta, "ban.xi": xi}

    def loss(delta, xi):
        gamma, beta = neurons(net)
        return F.cross_entropy(scaled(net, gamma * (1 + delta), beta * (1 + xi))(x), y)

    keep_statistics(net, True)
    delta, xi = ascend(loss, delta.clone().requires_grad_(), xi.clone().requires_grad_(), epsilon)
    out |= {"ban.delta_after": delta, "ban.xi_after": xi}
    noisy = loss(delta, xi)
    keep_statistics(net, False)
    total = F.cross_entropy(net(x), y) + weight * noisy
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return out | {"ban.loss": total} | state("ban.after", net)


def anp(net, x, y, epsilon=0.4, alpha=0.2, lr=0.2):
    net = copy.deepcopy(net).train()
    keep_statistics(net, True)
    gamma, beta = (v.detach() for v in neurons(net))
    mask = torch.ones_like(gamma, requires_grad=True)
    optimiser = torch.optim.SGD([mask], lr=lr, momentum=MOMENTUM)
    deltas, xis = [], []
    for _ in range(ANP_ITERATIONS):
        delta, xi = noise(len(gamma), epsilon)
        deltas.append(delta)
        xis.append(xi)
        fixed = mask.detach().clone()
        loss = lambda m: lambda d, k: F.cross_entropy(scaled(net, gamma * (m + d), beta * (1 + k))(x), y)
        delta, xi = ascend(loss(fixed), delta.clone().requires_grad_(), xi.clone().requires_grad_(), epsilon)
        zero = torch.zeros_like(gamma)
        total = alpha * loss(mask)(zero, zero) + (1 - alpha) * loss(mask)(delta, xi)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        with torch.no_grad():
            mask.clamp_(0, 1)
    return {"anp.delta": torch.stack(deltas), "anp.xi": torch.stack(xis), "anp.mask": mask.detach()}


def neural_cleanse(net, x, y):
    """Ten steps of Adam on mask and pattern towards one label, from images of the others."""
    net = copy.deepcopy(net).eval()
    x = x[y != NC_LABEL]
    h, w = x.shape[2:]
    squash = lambda v: torch.tanh(v) / (2 + 1e-7) + 0.5
    a = torch.atanh((torch.rand(1, 1, h, w, dtype=torch.float64) - 0.5) * (2 + 1e-7)).requires_grad_()
    b = torch.atanh((torch.rand(1, 3, h, w, dtype=torch.float64) - 0.5) * (2 + 1e-7)).requires_grad_()
    nhwc = lambda v: v.permute(0, 2, 3, 1).flatten().detach().clone()
    out = {"nc.a": nhwc(a), "nc.b": nhwc(b)}
    optimiser = torch.optim.Adam([a, b], lr=0.1, betas=(0.5, 0.9))
    target = torch.full((len(x),), NC_LABEL)
    losses = []
    for _ in range(NC_STEPS):
        m, p = squash(a), squash(b)
        loss = F.cross_entropy(net((1 - m) * x + m * p), target)
        optimiser.zero_grad()
        (loss + NC_COST * m.abs().sum()).backward()
        optimiser.step()
        losses.append(loss.detach())
    return out | {"nc.losses": torch.stack(losses), "nc.mask": nhwc(squash(a)), "nc.pattern": nhwc(squash(b))}


def nad(net, x, y, betas=(500, 1000, 1000)):
    """One step; the teacher is the network with a louder first layer, in eval mode."""
    teacher, net = copy.deepcopy(net).eval(), copy.deepcopy(net).train()
    with torch.no_grad():
        teacher.conv1.weight *= 1.5
    layers = ("layer2", "layer3", "layer4")

    def maps(net):
        found = []
        hooks = [getattr(net, n).register_forward_hook(lambda m, i, o: found.append(o)) for n in layers]
        logits = net(x)
        for hook in hooks:
            hook.remove()
        return logits, found

    def attention(f):
        a = f.pow(2).sum(1).flatten(1)
        return a / (a.norm(dim=1, keepdim=True) + 1e-6)

    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=MOMENTUM, weight_decay=1e-4, nesterov=True)
    (logits, own), (_, theirs) = maps(net), maps(teacher)
    distance = sum(b * F.mse_loss(attention(o), attention(t.detach())) for b, o, t in zip(betas, own, theirs))
    # At each stage's own maps, not through the stages behind it.
    gradients = []
    for beta, o, t in zip(betas, own, theirs):
        o = o.detach().requires_grad_()
        gradients += torch.autograd.grad(beta * F.mse_loss(attention(o), attention(t.detach())), o)
    total = F.cross_entropy(logits, y) + distance
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    out = {f"nad.gradient.{i}": g.permute(0, 2, 3, 1).flatten() for i, g in enumerate(gradients)}
    return out | {"nad.distance": distance, "nad.loss": total} | state("nad.after", net)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, default=Path(__file__).parent.parent / "tests/golden")
    golden = parser.parse_args().golden
    torch.manual_seed(29)
    torch.set_num_threads(1)
    case, given = CASES["square"], load_file(golden / "square/expected.safetensors")
    net = Network(case["model_width"], case["classes"], case["channels"])
    net.load_state_dict(load_file(golden / "square/model.safetensors"), strict=False)
    net = net.double()
    x, y = given["images"].permute(0, 3, 1, 2).double() / 255, given["labels"].long()
    out = {}
    for defense in (ft_sam, fst, ban, anp, neural_cleanse, nad):
        out |= defense(net, x, y)
    # Networks as float32, which is as exact as the test asks for.
    small = {k: v.detach().float() if v.numel() > 1000 else v.detach() for k, v in out.items()}
    folder = golden / "defenses"
    folder.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in small.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
