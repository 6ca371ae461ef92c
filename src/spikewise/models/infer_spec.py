"""Which network a file holds: read from tensor names and shapes, and from what a training script wrote beside them."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..kernels import CONNECT
from ..wording import option
from .key_maps import published_names, torchvision_names
from .network import Network
from .resnet import BOTTLENECK_DEPTHS, IMAGENET_DEPTHS

OWN_CLASS = "a network of your own class is built by that class, and takes them by net.load_state_dict(torch.load(FILE))"
Infer = Callable[[dict[str, Tensor], dict[str, Any], dict[str, Any]], dict[str, Any]]


def detect_layout(tensors: dict[str, Tensor]) -> tuple[Infer, Callable[[Network], dict[str, str]]]:
    """Whose names these are: how to infer the network, and how to rename its tensors."""
    if "layer1.0.conv1.module.0.weight" in tensors:
        return infer_published_resnet, published_names
    if "conv.0.0.module.0.weight" in tensors:
        return infer_published_event_net, published_names
    if "layer1.0.conv1.weight" in tensors and "bn1.weight" in tensors:
        return infer_torchvision, torchvision_names
    if {"stem.conv.weight", "stage1.widen.conv.weight", "layers.0.conv.weight", "layers.1.weight"} & set(tensors):
        return infer_native, lambda net: {name: name for name in net.state_dict()}
    raise ValueError(
        f"its tensors are those of no network that build_model makes: {summarize_names(list(tensors))}; {OWN_CLASS}"
    )


def infer_published_resnet(tensors: dict[str, Tensor], metadata: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    kind = None
    if any(".downsample.0.module." in name for name in tensors):
        kind = "sew"
    elif any(".downsample.module." in name for name in tensors):
        kind = "spiking"
    if kind is None:
        raise ValueError("no block has a shortcut of its own, so neither a SEW nor a Spiking ResNet")
    spec = {"name": f"{kind}_resnet{infer_resnet_depth(tensors, '.module.0')}", **infer_image_shapes(tensors)}
    if kind == "sew":
        spec |= infer_connect(metadata, overrides)
    steps = metadata.get("args", {}).get("T")
    return spec | ({"T": steps} if isinstance(steps, int) else {})  # else 4, build_model's default and all published ones'


def infer_published_event_net(
    tensors: dict[str, Tensor], metadata: dict[str, Any], overrides: dict[str, Any]
) -> dict[str, Any]:
    stages: list[list[int]] = []
    index = 0
    while True:
        widen = f"conv.{index}.0.module.0.weight"
        if widen in tensors:
            stages.append([tensor_shape(tensors, widen, 4)[0], 0])
            index += 1
        elif f"conv.{index}.conv.0.0.module.0.weight" in tensors:
            stages[-1][1] += 1
            index += 2
        else:
            break
    head, stem = tensor_shape(tensors, "out.weight", 2), tensor_shape(tensors, "conv.0.0.module.0.weight", 4)
    spec: dict[str, Any] = {"num_classes": head[0], "in_channels": stem[1], "stem": f"{stem[2]}x{stem[2]}"}
    arguments = metadata.get("args", {})
    if isinstance(arguments.get("T"), int):
        spec["T"] = arguments["T"]
    if not any(name.endswith(".w") for name in tensors) and "neuron" not in overrides:
        raise ValueError(
            f"its neurons have no parameters, so they are no PLIF; say which: {option('neuron', 'IF', 'LIF')}, LIF with its tau"
        )
    if stages == [[64, 4], [128, 3]]:
        return spec | {"name": "sew_wide7b"} | infer_connect(metadata, overrides)
    if len(stages) != 1 or stages[0][0] != 32 or stages[0][1] < 1:
        raise ValueError(f"no network here has stages of (channels, blocks) {[tuple(stage) for stage in stages]}")
    spec["num_blocks"] = stages[0][1]
    if any(name.endswith(".sn.w") for name in tensors) or "conv.1.conv.1.module.0.weight" in tensors:
        return spec | {"name": "spiking_7b"}
    # a Plain and a SEW network have the same names: the script's arguments or the caller must tell
    if str(arguments.get("model", "")).lower().startswith("plain") or overrides.get("name") == "plain_7b":
        return spec | {"name": "plain_7b"}
    if "name" not in overrides and not has_connect(metadata, overrides):
        either = f"{option('name', 'plain_7b')}, or of a SEW network {option('connect', *CONNECT)}"
        raise ValueError(f"a Plain and a SEW network have the same tensor names; say which: {either}")
    return spec | {"name": "sew_7b"} | infer_connect(metadata, overrides)


def infer_torchvision(tensors: dict[str, Tensor], metadata: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    spec = {"name": f"resnet{infer_resnet_depth(tensors, '')}", **infer_image_shapes(tensors)}
    return spec | (infer_connect(metadata, overrides) if str(overrides.get("name", "")).startswith("sew_") else {})


def infer_native(tensors: dict[str, Tensor], metadata: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Our own names without a header: a bare state dict."""
    if "name" not in overrides:
        raise ValueError(
            "it holds tensors alone, named as our layers are; of a network of build_model, say which: "
            f"{option('name', 'sew_resnet18')}, for example, and what else build_model was given; {OWN_CLASS}"
        )
    convolutions = [name for name in tensors if name.startswith("layers.") and tensors[name].dim() == 4]
    if convolutions:  # a chain, whose head has weights, or is a vote of ten
        votes = "fc.weight" not in tensors
        classes = tensors[convolutions[-1]].shape[0] // 10 if votes else tensor_shape(tensors, "fc.weight", 2)[0]
        return {"num_classes": classes, "in_channels": tensor_shape(tensors, convolutions[0], 4)[1]}
    stem, head = ("stem", "fc") if "stem.conv.weight" in tensors else ("stage1.widen", "out")
    classes, channels = tensor_shape(tensors, f"{head}.weight", 2)[0], tensor_shape(tensors, f"{stem}.conv.weight", 4)[1]
    return {"num_classes": classes, "in_channels": channels}


def has_connect(metadata: dict[str, Any], overrides: dict[str, Any]) -> bool:
    return "connect" in overrides or isinstance(metadata.get("args", {}).get("connect_f"), str)


def infer_connect(metadata: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """g, which no tensor name tells: from the script's arguments (upper or lower case), or else from the caller."""
    if not has_connect(metadata, overrides):
        raise ValueError(f"the file doesn't tell how blocks connect; say it: {option('connect', *CONNECT)}")
    told = metadata.get("args", {}).get("connect_f")
    return {"connect": told.upper()} if isinstance(told, str) else {}


def infer_resnet_depth(tensors: dict[str, Tensor], suffix: str) -> int:
    """18 to 152, from the number of blocks in each stage and of convolutions in a block."""
    pattern = re.compile(r"layer(\d)\.(\d+)\.conv1" + re.escape(suffix) + r"\.weight")
    found = [match.groups() for name in tensors if (match := pattern.fullmatch(name))]
    stages = tuple(sum(stage == str(number) for stage, _ in found) for number in range(1, 5))
    bottleneck = f"layer1.0.conv3{suffix}.weight" in tensors
    for depth, num_blocks in IMAGENET_DEPTHS.items():
        if num_blocks == stages and bottleneck == (depth in BOTTLENECK_DEPTHS):
            return depth
    raise ValueError(f"no network here has {stages} {'bottleneck' if bottleneck else 'basic'} blocks in its stages")


def infer_image_shapes(tensors: dict[str, Tensor]) -> dict[str, Any]:
    stem, head = tensor_shape(tensors, "conv1.weight", 4), tensor_shape(tensors, "fc.weight", 2)
    return {"num_classes": head[0], "in_channels": stem[1], "stem": f"{stem[2]}x{stem[2]}"}


def tensor_shape(tensors: dict[str, Tensor], name: str, dims: int) -> torch.Size:
    if name not in tensors or tensors[name].dim() != dims:
        found = f"has shape {list(tensors[name].shape)}" if name in tensors else "is missing"
        raise ValueError(f"{name!r} {found}; a tensor of {dims} dimensions was expected")
    return tensors[name].shape


def summarize_names(words: list[str], most: int = 3) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
