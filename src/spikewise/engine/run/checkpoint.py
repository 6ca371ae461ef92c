"""Checkpoints: the state of a run, written so that a checkpoint is complete or absent, never torn.

A checkpoint is a folder `step-NNNNNNNN` of three files: model.safetensors (the network that is evaluated, with the spec that
builds it), training.safetensors (what else training needs), state.json (scalars, and a hash over everything).
"""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn, optim

from ... import disk
from ...models import Network
from ...models.tensor_file import serialize
from ...models.weights import WEIGHTS_FILE, serialize_pretrained
from .folder import encode_json

TRAINING_FILE, STATE_FILE = "training.safetensors", "state.json"
FORMAT_VERSION = 1
FOLDER_PATTERN = re.compile(r"step-(\d{8,})")


@dataclass
class CheckpointState:
    """What a checkpoint holds besides tensors; the field names are the keys of state.json.

    step:           steps done
    meter:          sums over the current epoch
    metrics_bytes:  size of metrics.jsonl at this step; timing_bytes and probe_bytes: of timing.jsonl and probe.jsonl
    run:            fingerprint of the config and the training data
    scaler:         state of the loss scaler, where there is one
    """

    step: int
    meter: dict[str, float]
    metrics_bytes: int
    timing_bytes: int
    run: dict[str, Any]
    scaler: dict[str, Any] | None = None
    probe_bytes: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint will hold, in host memory: training may go on before it is written."""

    files: dict[str, memoryview]
    content: dict[str, Any]  # of state.json, but the hash

    @property
    def step(self) -> int:
        return self.content["step"]


def snapshot(eval_net: Network, net: Network, optimizer: optim.Optimizer, state: CheckpointState) -> Snapshot:
    """A copy of what training needs to go on from here.

    eval_net:  the network that is evaluated: `net` itself, or the moving average of its weights
    """
    tensors, scalars = optimizer_state(net, optimizer)
    if eval_net is not net:
        tensors |= {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    files = {WEIGHTS_FILE: serialize_pretrained(eval_net), TRAINING_FILE: serialize(tensors)}
    return Snapshot(files, copy.deepcopy({"format_version": FORMAT_VERSION, **vars(state), "optimizer": scalars}))


def write(folder: Path, saved: Snapshot) -> Path:
    """Write a checkpoint into `folder`, and return its path; nothing where the same one is there already."""
    path = path_of_step(folder, saved.step)
    with ThreadPoolExecutor(1) as beside:  # the disk is waited for meanwhile
        content_hash = beside.submit(hash_content, saved.files, saved.content)
        if path.is_dir() and find_corruption(path) is None and read_state(path)["hash"] == content_hash.result():
            return path
        temporary = disk.temporary_path(path)
        disk.ensure_folder(folder)
        disk.remove_tree(temporary)
        disk.ensure_folder(temporary)
        try:
            for name, file_content in saved.files.items():
                disk.write(temporary / name, file_content)
            disk.write(temporary / STATE_FILE, encode_json(saved.content | {"hash": content_hash.result()}))
            disk.sync_folder(temporary)
            disk.remove_tree(path)  # an earlier, corrupt one
            disk.rename(temporary, path)
        except OSError:
            disk.remove_tree(temporary)  # frees a full disk again
            raise
    return path


def optimizer_state(net: nn.Module, optimizer: optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's tensors and its scalars, by parameter name."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for parameter, buffers in optimizer.state.items():
        for key, value in buffers.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{names[parameter]}/{key}"] = value
            elif value is not None:
                scalars[f"{names[parameter]}/{key}"] = value
    return tensors, scalars


def hash_content(files: Mapping[str, bytes | memoryview], content: dict[str, Any]) -> str:
    """A hash over the tensor files and everything in state.json except the hash itself."""
    total = hashlib.sha256(json.dumps({k: v for k, v in content.items() if k != "hash"}, sort_keys=True).encode())
    with ThreadPoolExecutor(2) as beside:
        for digest in beside.map(lambda name: hashlib.sha256(files[name]).digest(), (WEIGHTS_FILE, TRAINING_FILE)):
            total.update(digest)
    return total.hexdigest()


def latest_valid(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest intact checkpoint in `folder`, if any, and what is wrong with each newer one.

    Raises:  ValueError for one written by a newer version: resuming an older one would lose what it holds
    """
    skipped: dict[Path, str] = {}
    for path in reversed(list_checkpoints(folder)):
        corruption = find_corruption(path)
        if corruption is None:
            return path, skipped
        skipped[path] = corruption
    return None, skipped


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    paths = [path for path in folder.iterdir() if FOLDER_PATTERN.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(paths, key=step_number)


def path_of_step(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


def step_number(path: Path) -> int:
    """The steps that had been done when a checkpoint was written."""
    return int(path.name.removeprefix("step-"))


def find_corruption(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if it is intact."""
    try:
        content = read_state(path)
        files = {name: (path / name).read_bytes() for name in (WEIGHTS_FILE, TRAINING_FILE)}
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError) as error:
        # no other OSError: a file that can't be read now is not lost
        return f"unreadable ({error})"
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, newer than {FORMAT_VERSION}; update spikewise")
    return None if content.get("hash") == hash_content(files, content) else "wrong hash: incomplete or changed"


def load(path: Path, eval_net: Network, net: Network, optimizer: optim.Optimizer) -> CheckpointState:
    """Load an intact checkpoint into networks and an optimiser built from the same config, and return its state.

    Values are copied into the existing tensors, so that memory layouts stay those of a new run.
    Raises:  ValueError for a checkpoint of another network
    """
    content = read_state(path)
    try:
        training = safetensors.torch.load((path / TRAINING_FILE).read_bytes())
        weights = safetensors.torch.load((path / WEIGHTS_FILE).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    try:
        copy_tensors(eval_net, weights)
        if eval_net is not net:
            copy_tensors(net, {name.removeprefix("net/"): t for name, t in training.items() if name.startswith("net/")})
        restore_optimizer(net, optimizer, training, content["optimizer"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is a checkpoint of another network or optimiser: {error}") from None
    fields = [field.name for field in dataclasses.fields(CheckpointState)]
    return CheckpointState(**{name: content[name] for name in fields if name in content})


def read_state(path: Path) -> dict[str, Any]:
    """The content of a checkpoint's state.json.

    Raises:  OSError, ValueError, RecursionError
    """
    content = json.loads((path / STATE_FILE).read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{STATE_FILE} is no JSON object")
    return content


@torch.no_grad()
def copy_tensors(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the network's state; ValueError unless names, shapes and dtypes are the same."""
    state = net.state_dict()
    if set(state) != set(tensors):
        raise ValueError(f"tensors differ, among them {min(set(state) ^ set(tensors))!r}")
    for name, tensor in state.items():
        if tensor.shape != tensors[name].shape or tensor.dtype != tensors[name].dtype:
            raise ValueError(f"{name!r} is {list(tensors[name].shape)} {tensors[name].dtype} there")
        tensor.copy_(tensors[name])


def restore_optimizer(net: nn.Module, optimizer: optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    """The inverse of `optimizer_state`."""
    parameters = dict(net.named_parameters())
    optimizer.state.clear()
    for name, tensor in tensors.items():
        if not name.startswith("optimizer/"):
            continue
        _, parameter_name, key = name.split("/")
        parameter = parameters[parameter_name]
        is_scalar = tensor.shape != parameter.shape  # such as Adam's step; other tensors take the parameter's memory layout
        buffer = tensor if is_scalar else torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        optimizer.state[parameter][key] = buffer.requires_grad_(False)
    for name, value in scalars.items():
        parameter_name, key = name.split("/")
        optimizer.state[parameters[parameter_name]][key] = value


def prune(folder: Path, keep: set[Path]) -> None:
    """Remove all checkpoints except those in `keep`, and the remains of interrupted writes."""
    for path in [*list_checkpoints(folder), *folder.glob(".step-*.new")]:
        if path not in keep:
            disk.remove_tree(path)
