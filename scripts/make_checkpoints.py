"""Makes tests/golden/checkpoints: models of tests/golden as PyTorch saves models.

Needs torch, safetensors and numpy. The files are committed; the tests need no Python.
"""
import collections
import pathlib

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


if __name__ == "__main__":
    main()
