"""A PyTorch state dict in, a purified one out: example.py MODEL.pth DATA OUTPUT.pth"""

import sys

import pbe
import torch

source, data, output = sys.argv[1:]
suspect = pbe.load_model({name: tensor.numpy() for name, tensor in torch.load(source).items()})
train, _ = pbe.load_data(data, suspect)
found = pbe.inspect(suspect, train)
print(f"{found.verdict}, {len(found.suspects)} suspects, targets {found.targets}")


def show(step, phase, done, total, loss):
    print(f"\rround {step}, {phase}: {done} of {total}", end="", file=sys.stderr)


purified = pbe.purify(suspect, train, progress=show)
torch.save({name: torch.from_numpy(array) for name, array in purified.state_dict().items()}, output)
