"""Networks with weights drawn by name, as `published.json` was computed: facts about the published classes.

For each network: logits in evaluation and training, loss, gradient norms and firing rates, in float64. The weights are not
stored; every tensor is drawn by a generator seeded with the checksum of its published name.
"""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
NETWORKS = json.loads((HERE / "published.json").read_text())
KEYS = {file.stem: json.loads(file.read_text()) for file in sorted((HERE / "state_dict_keys").glob("*.json"))}
LISTS = {
    "sew-18": "sew_resnet18",
    "sew-50": "sew_resnet50",
    "spk-18": "spiking_resnet18",
    "spk-50": "spiking_resnet50",
    "dg-plain": "dvsgesture_PlainNet",
    "dg-spiking": "dvsgesture_SpikingResNet",
    "dg": "dvsgesture_SEWResNet",
    "c10": "cifar10dvs_SEWResNet",
}


def key_list(entry):
    """The published tensor list an entry belongs to."""
    return KEYS[LISTS[entry] if entry in LISTS else LISTS[entry.rpartition("-")[0]]]


def draw(name, shape, salt):
    """The value of a tensor, a function of its name."""
    g = np.random.Generator(np.random.PCG64(zlib.crc32(f"{salt}/{name}".encode())))
    if name.endswith("num_batches_tracked"):
        return np.array(7)
    if name.endswith("running_mean"):
        return 0.1 * g.standard_normal(shape)
    if name.endswith("running_var"):
        return g.uniform(0.5, 1.5, shape)
    if name.endswith(".w"):
        return 0.5 * g.standard_normal(shape)
    if len(shape) == 4:
        return g.standard_normal(shape) * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    if len(shape) == 2:
        return g.standard_normal(shape) / np.sqrt(shape[1])
    if name in ("fc.bias", "out.bias"):
        return 0.1 * g.standard_normal(shape)
    return g.uniform(0.8, 1.6, shape) if name.endswith(".weight") else g.uniform(-0.2, 0.6, shape)


def tensors(keys, salt="spikewise", num_classes=None):
    """A state dict under published names."""
    state = {}
    for name, shape, _ in keys:
        state[name] = torch.tensor(draw(name, resized(name, shape, num_classes), salt))
    return state


def numbered(keys, num_classes=None, dtype=torch.float16):
    """The same names and shapes, every tensor full of its own number: quick to make, and none can be taken for another."""
    shapes = {name: resized(name, shape, num_classes) for name, shape, _ in keys}
    return {
        name: torch.full(shape, number, dtype=torch.int64 if name.endswith("num_batches_tracked") else dtype)
        for number, (name, shape) in enumerate(shapes.items())
    }


def resized(name, shape, num_classes):
    """The last layer may have another number of classes."""
    return [num_classes, *shape[1:]] if num_classes and name in ("fc.weight", "fc.bias", "out.weight", "out.bias") else shape


def write_checkpoint(path, entry):
    """A checkpoint file as the authors' scripts wrote it, for an entry of NETWORKS."""
    facts = NETWORKS[entry]
    state = tensors(key_list(entry), facts["salt"], facts["num_classes"])
    connect = entry.rpartition("-")[2]
    arguments = argparse.Namespace(connect_f=connect if connect.isupper() else None, T=4, amp=True)
    arguments.model = "PlainNet" if connect == "plain" else "SEWResNet"
    if entry.startswith("c10"):  # that script kept no arguments
        torch.save({"net": state, "optimizer": {}, "lr_scheduler": {}, "epoch": 63, "max_test_acc": 0.744}, path)
    else:
        rest = {"optimizer": {"state": {}}, "lr_scheduler": {}, "epoch": 319, "args": arguments, "max_test_acc1": 63.18}
        torch.save({"model": state, **rest}, path)


def sample(entry):
    """Input and labels of an entry: images [N, 3, H, W] or frames [T, N, 2, H, W]."""
    facts = NETWORKS[entry]
    g = np.random.Generator(np.random.PCG64(zlib.crc32(f"{facts['salt']}/input".encode())))
    shape = facts["input_shape"]
    x = g.standard_normal(shape) if "normal" in facts["input"] else g.poisson(0.7, shape).astype(float)
    labels = torch.tensor(g.integers(0, facts["num_classes"], shape[0]))
    x = torch.tensor(x)
    return (x if x.dim() == 4 else x.transpose(0, 1)), labels
