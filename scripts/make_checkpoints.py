"""Makes tests/golden/checkpoints: models of tests/golden as PyTorch saves models.

Needs torch, safetensors and numpy. The files are committed; the tests need no Python.
"""
import argparse
import collections
import pathlib
import zipfile

import numpy
import torch
from safetensors.torch import load_file

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden"


def main():
    state = collections.OrderedDict(load_file(GOLDEN / "one-class/model.safetensors"))
    out = GOLDEN / "checkpoints"
    out.mkdir(exist_ok=True)
    torch.save(state, out / "plain.pt")
    for name in ("resnet50", "vgg11-bn-small-head"):
        torch.save(load_file(GOLDEN / "networks" / name / "model.safetensors"), out / f"{name}.pt")
    # As DataParallel and a training script would: a prefix, other things beside, parameters.
    wrapped = collections.OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    wrapped["module.conv1.weight"] = torch.nn.Parameter(state["conv1.weight"])
    # One begins inside its storage, one has its elements in another order.
    name = "layer1.0.conv1.weight"
    shape = state[name].shape
    wrapped[f"module.{name}"] = torch.cat([torch.zeros(5), state[name].flatten()])[5:].view(shape)
    wrapped["module.linear.weight"] = state["linear.weight"].t().contiguous().t()
    wrapped["module.linear.bias"] = state["linear.bias"].double()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9).state_dict()
    torch.save({"epoch": 3, "net": wrapped, "acc": 81.5, "optimizer": optimizer}, out / "training.pth")
    # The shape of BackdoorBench's attack_result.pt.
    attack = {
        "model_name": "preactresnet18",
        "num_classes": 1,
        "model": state,
        "data_path": "data",
        "img_size": (32, 32, 3),
        "clean_data": "cifar10",
        "bd_train": {
            "bd_data_container": {"save_folder_path": "bd_train", "data_dict": {0: {"path": "0.png", "other_info": ()}}},
            "original_index_array": numpy.arange(4),
            "poison_indicator": numpy.array([0, 1, 0, 0]),
        },
        "bd_test": None,
    }
    torch.save(attack, out / "attack_result.pt")
    # As input-aware attacks' and ImageNet's scripts: tensors at the top, schedulers, and what else `torch.load` takes.
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(sgd, [10]).state_dict()
    beside = {
        "identity_grid": torch.rand(1, 4, 4, 2), "best_acc1": torch.tensor(81.9), "bytes": torch.ones(3, dtype=torch.uint8),
        "complex": torch.ones(2, dtype=torch.complex64), "number": 1 + 2j, "dtype": torch.bfloat16, "raw": bytearray(b"x"),
        "scheduler": scheduler, "optimizer": sgd.state_dict(), "opt": argparse.Namespace(lr=0.1), "names": {"a", "b"},
        "netG": {"conv1.weight": torch.rand(2)},
    }
    torch.save({**beside, "netC": state}, out / "beside.pth")
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"epoch": 9, "state_dict": other, "state_dict_ema": state}, out / "ema.pth")
    averaged = {"n_averaged": torch.tensor(3), **{f"module._orig_mod.{name}": tensor for name, tensor in state.items()}}
    torch.save(averaged, out / "averaged.pth")
    # From before PyTorch 1.6, and a zip that was packed again.
    double = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({**beside, "net": double}, out / "legacy.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(out / "plain.pt") as source, zipfile.ZipFile(out / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    # A module as it is, alone and within an object that nobody knows.
    module = torch.nn.DataParallel(module_of(state))
    torch.save(module, out / "module.pth")
    torch.save({"trainer": argparse.Namespace(model=module, epoch=3)}, out / "trainer.pth", _use_new_zipfile_serialization=False)


class Node(torch.nn.Module):
    pass


def module_of(state):
    """A module with the tensors of a state dict."""
    root = Node()
    for name, tensor in state.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, Node())
            node = node._modules[part]
        if "running" in last or "batches" in last:
            node.register_buffer(last, tensor)
        else:
            node.register_parameter(last, torch.nn.Parameter(tensor))
    return root


if __name__ == "__main__":
    main()
