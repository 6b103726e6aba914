"""Writes models of pbe as other programs leave theirs, without PyTorch.

Usage: torch_files.py MODEL.safetensors MODEL.pth
           the state dict, as `torch.save` writes it: names and numbers, no word of normalisation or classes
       torch_files.py MODEL.safetensors RECORD CLEAN POISONED TRIGGERED
           BackdoorBench's record of an attack: the folder RECORD with attack_result.pt, bd_train_dataset and bd_test_dataset.
           CLEAN is the image folder without poison, POISONED what `pbe poison` made of it, TRIGGERED what it made of the
           test images of CLEAN (as train/) at a rate of 1.
"""
import collections
import io
import json
import pathlib
import pickle
import shutil
import struct
import sys
import types
import zipfile

STORAGES = {"F32": ("FloatStorage", 4), "I64": ("LongStorage", 8)}


def torch_names():
    """Stand-ins for what a pickle of PyTorch names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    sys.modules.update({"torch": torch, "torch._utils": utils})

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name, _ in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    return torch, utils


TORCH, UTILS = torch_names()


class Tensor:
    def __init__(self, kind, shape, data):
        (self.kind, self.width), self.shape, self.data = STORAGES[kind], shape, data

    def __reduce__(self):
        strides, step = [], 1
        for size in reversed(self.shape):
            strides.insert(0, step)
            step *= size
        hooks = collections.OrderedDict()
        arguments = (Storage(self), 0, tuple(self.shape), tuple(strides), False, hooks)
        return UTILS._rebuild_tensor_v2, arguments


class Storage:
    def __init__(self, tensor):
        self.tensor = tensor


class Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, 2)
        self.storages = []

    def persistent_id(self, item):
        if not isinstance(item, Storage):
            return None
        self.storages.append(item.tensor.data)
        kind, count = item.tensor.kind, len(item.tensor.data) // item.tensor.width
        return "storage", getattr(TORCH, kind), str(len(self.storages) - 1), "cpu", count


def state_dict(path):
    bytes_ = path.read_bytes()
    (length,) = struct.unpack("<Q", bytes_[:8])
    header, data = json.loads(bytes_[8 : 8 + length]), bytes_[8 + length :]
    header.pop("__metadata__", None)
    tensors = {
        name: Tensor(entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }
    return collections.OrderedDict(tensors)


def save(value, path):
    """As torch.save."""
    file = io.BytesIO()
    pickler = Pickler(file)
    pickler.dump(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", file.getvalue())
        archive.writestr(f"{path.stem}/byteorder", "little")
        for number, data in enumerate(pickler.storages):
            archive.writestr(f"{path.stem}/data/{number}", data)
        archive.writestr(f"{path.stem}/version", "3\n")


def images(part):
    """Label and file of each image of a part, as torchvision's ImageFolder lists them."""
    classes = sorted(entry for entry in part.iterdir() if entry.is_dir())
    return [(label, file) for label, folder in enumerate(classes) for file in sorted(folder.iterdir())]


def poisoned(clean, folder, part):
    """The poisoned images of `folder`, copied to the record's folder `part`, and their entries in the record. Test images
    of the target's class are left out, as BackdoorBench does."""
    truth = json.loads((folder / "poison.json").read_text())
    target, labels, entries = truth["label"]["target"], [label for label, _ in images(clean)], {}
    listed = images(folder / "train")
    for place in truth["train"]["indices"]:
        file = listed[place][1]
        index = int(file.name.split("_")[0])  # in the clean set
        if clean.name == "test" and labels[index] == target:
            continue
        to = part / str(labels[index]) / f"{index}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
        entries[index] = {"path": f"./record/attack/{'/'.join(to.parts[-3:])}", "other_info": [target, labels[index]]}
    return {"bd_data_container": {"data_dict": entries}, "getitem_all": True}


def record(model, out, clean, train, test):
    out.mkdir(parents=True)
    weights = state_dict(model)
    save(
        {
            "model_name": "preactresnet18",
            "num_classes": len({label for label, _ in images(clean / "train")}),
            "model": weights,
            "data_path": "../data/cifar10",
            "img_size": [32, 32, 3],
            "clean_data": "cifar10",
            "bd_train": poisoned(clean / "train", train, out / "bd_train_dataset"),
            "bd_test": poisoned(clean / "test", test, out / "bd_test_dataset"),
        },
        out / "attack_result.pt",
    )


def main():
    model, out, *folders = map(pathlib.Path, sys.argv[1:])
    if folders:
        record(model, out, *folders)
    else:
        save(state_dict(model), out)


main()
