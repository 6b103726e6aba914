"""What examples/race.rs times, in PyTorch on a GPU: channels-last, compiled, in CUDA graphs.

Usage: torch_gpu.py PEER [--network preact-resnet18|resnet18] [--width 64] [--batch 128] [--size 32]
                    [--classes 10] [--steps 10] [--reps 9] [--precision bf16|f32]

PEER is the baseline script with the pre-activation network (torch_pbe.py); resnet18 is torchvision's, of
width 64. f32 is f32: no TF32. Images, labels and reference logits are on the device before the clock starts.
"""
import argparse
import importlib.util
import sys
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("peer")
parser.add_argument("--network", default="preact-resnet18")
for name, default in (("width", 64), ("batch", 128), ("size", 32), ("classes", 10), ("steps", 10), ("reps", 9)):
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--precision", default="bf16")
a = parser.parse_args()

torch.manual_seed(0)
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.benchmark = True


def network():
    if a.network == "resnet18":
        import torchvision
        return torchvision.models.resnet18(num_classes=a.classes)
    spec = importlib.util.spec_from_file_location("peer", a.peer)
    # The compiler looks for the module by its name.
    peer = sys.modules["peer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    return peer.PreActResNet18(a.classes, a.width)


def place(tensor):
    return tensor.cuda().to(memory_format=torch.channels_last)


amp = lambda: torch.autocast("cuda", torch.bfloat16, enabled=a.precision == "bf16")
x = place(torch.rand(a.batch, 3, a.size, a.size))
y = torch.randint(0, a.classes, (a.batch,)).cuda()
reference = torch.randn(a.batch, a.classes).cuda()
trained, frozen = (network().cuda().to(memory_format=torch.channels_last) for _ in range(2))
trained.train()
frozen.eval().requires_grad_(False)
optimizer = torch.optim.SGD(trained.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, fused=True)
epsilon, alpha = 8 / 255, 2 / 255


@torch.compile(mode="reduce-overhead")
def loss_of_frozen(images):
    with amp():
        return F.cross_entropy(frozen(images), y)


@torch.compile(mode="reduce-overhead")
def loss_of_trained(images):
    with amp():
        return F.cross_entropy(trained(images), y)


@torch.compile
def project(images, gradient):
    moved = images + alpha * gradient.sign()
    return torch.clamp(x + torch.clamp(moved - x, -epsilon, epsilon), 0, 1)


@torch.compile(mode="reduce-overhead")
@torch.no_grad()
def scores():
    with amp():
        logits = frozen(x)
    return F.cosine_similarity(logits.float(), reference)


def attack():
    images = x
    for _ in range(a.steps):
        torch.compiler.cudagraph_mark_step_begin()
        images = images.detach().clone().requires_grad_(True)
        gradient, = torch.autograd.grad(loss_of_frozen(images), images)
        images = project(images.detach(), gradient)


def train():
    torch.compiler.cudagraph_mark_step_begin()
    optimizer.zero_grad(set_to_none=True)
    loss_of_trained(x).backward()
    optimizer.step()


def score():
    torch.compiler.cudagraph_mark_step_begin()
    scores()


def median_seconds(call):
    for _ in range(5):
        call()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(a.reps):
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[len(seconds) // 2]


print(f"torch {torch.__version__} {torch.cuda.get_device_name()} {a.network} width={a.width} batch={a.batch} "
      f"size={a.size} {a.precision} channels-last compiled")
for name, call, times in (("pgd_step", attack, a.steps), ("train_step", train, 1), ("score", score, 1)):
    seconds = median_seconds(call) / times
    print(f"{name:11s} {a.batch / seconds:9.1f} img/s  {seconds * 1e3:8.3f} ms", flush=True)
