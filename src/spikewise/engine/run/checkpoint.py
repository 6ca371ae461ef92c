"""Checkpoints: the state of a run, written so that it is there as a whole or not at all.

A checkpoint is a folder `step-NNNNNNNN` of three files: model.safetensors (the network that is evaluated; it says itself what
it is), training.safetensors (what training needs besides), state.json (scalars, and a hash over all).
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn, optim

from ... import disk
from ...models import Network
from ...models.weights import WEIGHTS_FILE, serialize_pretrained

TRAINING, STATE = "training.safetensors", "state.json"
FORMAT_VERSION = 1
NAME = re.compile(r"step-(\d{8,})")


@dataclass
class State:
    """What a checkpoint holds besides tensors.

    step:           steps done
    meter:          sums of the epoch under way
    metrics_bytes:  length of metrics.jsonl at this point; timing_bytes and probe_bytes, those of timing.jsonl and probe.jsonl
    run:            what makes it this run's: its config, and its data's fingerprint
    scaler:         the loss scaler's numbers, where there is one
    """

    step: int
    meter: dict[str, float]
    metrics_bytes: int
    timing_bytes: int
    run: dict[str, Any]
    scaler: dict[str, Any] | None = None
    probe_bytes: int = 0


def save(folder: Path, evaluated: Network, net: Network, optimizer: optim.Optimizer, state: State) -> Path:
    """Write the checkpoint of `state.step` into `folder`; its path.

    evaluated:  the network that is evaluated: `net` itself, or the average of its weights
    """
    path = folder / f"step-{state.step:08d}"
    tensors, scalars = optimizer_state(net, optimizer)
    if evaluated is not net:
        tensors |= {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    files = {WEIGHTS_FILE: serialize_pretrained(evaluated), TRAINING: safetensors.torch.save(on_disk(tensors))}
    about = {"format_version": FORMAT_VERSION, **vars(state), "optimizer": scalars}
    about["hash"] = digest(files, about)
    if path.is_dir() and find_damage(path) is None and read_state(path)["hash"] == about["hash"]:
        return path
    files[STATE] = (json.dumps(about, indent=2) + "\n").encode()
    beside = folder / f".{path.name}.new"
    disk.make_folder(folder)
    disk.remove(beside)
    disk.make_folder(beside)
    try:
        for name, content in files.items():
            disk.write(beside / name, content)
        disk.sync_folder(beside)
        disk.remove(path)  # of an earlier try that was found damaged
        disk.rename(beside, path)
    except OSError:
        disk.remove(beside)  # a full disk: make room again
        raise
    return path


def on_disk(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are stored: on the CPU, contiguous, in a fixed order."""
    return {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}


def optimizer_state(net: nn.Module, optimizer: optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's buffers and numbers, by parameter name."""
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


def digest(files: dict[str, bytes], about: dict[str, Any]) -> str:
    """A hash over the tensor files and everything in state.json but the hash itself."""
    total = hashlib.sha256(json.dumps({k: v for k, v in about.items() if k != "hash"}, sort_keys=True).encode())
    for name in (WEIGHTS_FILE, TRAINING):
        total.update(hashlib.sha256(files[name]).digest())
    return total.hexdigest()


def newest(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest whole checkpoint in `folder`, if there is one, and why each newer one was passed over.

    Raises:  ValueError for one written by a newer version: going on from an older one would lose what it holds
    """
    passed_over: dict[Path, str] = {}
    for path in reversed(steps(folder)):
        damage = find_damage(path)
        if damage is None:
            return path, passed_over
        passed_over[path] = damage
    return None, passed_over


def steps(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        about = read_state(path)
        files = {name: (path / name).read_bytes() for name in (WEIGHTS_FILE, TRAINING)}
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError) as error:
        # not every OSError: a file that can't be read now is not lost
        return f"unreadable ({error})"
    version = about.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, newer than {FORMAT_VERSION}; update spikewise")
    return None if about.get("hash") == digest(files, about) else "its hash is wrong, it was not written to the end"


def load(path: Path, evaluated: Network, net: Network, optimizer: optim.Optimizer) -> State:
    """Put a whole checkpoint into a network and an optimiser that were built from the same config; its State.

    Values are copied into the tensors that are there, so that memory layouts stay those of a fresh run.
    Raises:  ValueError for a checkpoint of another network
    """
    about = read_state(path)
    try:
        training = safetensors.torch.load((path / TRAINING).read_bytes())
        weights = safetensors.torch.load((path / WEIGHTS_FILE).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    try:
        copy_into(evaluated, weights)
        if evaluated is not net:
            copy_into(net, {name.removeprefix("net/"): t for name, t in training.items() if name.startswith("net/")})
        restore_optimizer(net, optimizer, training, about["optimizer"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is a checkpoint of another network or optimiser: {error}") from None
    return State(**{field.name: about[field.name] for field in dataclasses.fields(State) if field.name in about})


def read_state(path: Path) -> dict[str, Any]:
    """The scalars of a checkpoint; its tensors are not looked at.

    Raises:  OSError, ValueError, RecursionError
    """
    about = json.loads((path / STATE).read_bytes())
    if not isinstance(about, dict):
        raise ValueError(f"{STATE} is no JSON object")
    return about


@torch.no_grad()
def copy_into(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    ours = net.state_dict()
    if set(ours) != set(tensors):
        raise ValueError(f"tensors differ, among them {min(set(ours) ^ set(tensors))!r}")
    for name, tensor in ours.items():
        if tensor.shape != tensors[name].shape or tensor.dtype != tensors[name].dtype:
            raise ValueError(f"{name!r} is {list(tensors[name].shape)} {tensors[name].dtype} there")
        tensor.copy_(tensors[name])


def restore_optimizer(net: nn.Module, optimizer: optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    parameters = dict(net.named_parameters())
    optimizer.state.clear()
    for name, tensor in tensors.items():
        if not name.startswith("optimizer/"):
            continue
        _, parameter_name, key = name.split("/")
        parameter = parameters[parameter_name]
        if tensor.shape == parameter.shape:
            buffer = torch.empty_like(parameter, dtype=tensor.dtype)  # keeps the parameter's layout
            buffer.copy_(tensor)
        else:
            buffer = tensor  # a number, as Adam's step
        optimizer.state[parameter][key] = buffer.requires_grad_(False)
    for name, value in scalars.items():
        parameter_name, key = name.split("/")
        optimizer.state[parameters[parameter_name]][key] = value


def prune(folder: Path, keep: set[Path]) -> None:
    """Remove every checkpoint that is not to be kept, and what broken tries left behind."""
    for path in [*steps(folder), *folder.glob(".step-*.new")]:
        if path not in keep:
            disk.remove(path)
