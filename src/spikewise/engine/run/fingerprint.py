"""What makes a run this run, so that a checkpoint is never continued or judged under another config."""

import hashlib
import json
from typing import Any

import numpy as np

from ...aliases import renamed_field
from ...config import Config, to_json

FREE = (
    "recipe",
    "format_version",
    "data.root",
    "data.cache",
    "model.backend",
    "optim.epochs",
)  # may differ: names, where, how, how long


def identity(config: Config, labels: np.ndarray) -> dict[str, Any]:
    """Every field of the config by its name on the command line, and a fingerprint of the training data."""
    fields = by_name(config)
    fields["samples"] = len(labels)
    fields["labels"] = hashlib.sha256(labels.tobytes()).hexdigest()[:16]
    return fields


def by_name(config: Config) -> dict[str, Any]:
    """Every field of the config by its name on the command line."""
    fields: dict[str, Any] = {}
    for name, value in json.loads(to_json(config)).items():
        fields |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return fields


def changes(then: Any, now: dict[str, Any], parts: tuple[str, ...] = ()) -> list[str]:
    """What differs, in words; of some parts of the config only, if they are named.

    then:    the identity that a checkpoint holds
    Raises:  ValueError if it holds none
    """
    if not isinstance(then, dict):
        raise ValueError("the checkpoint does not say which config it belongs to")
    then = {renamed_field(name): value for name, value in then.items()}
    then = by_name(Config()) | then  # a field that is younger than the checkpoint had no other value than its default
    names = [name for name in now if name not in FREE and not name.startswith(("retention.", "memory."))]
    chosen = [name for name in names if not parts or name.partition(".")[0] in parts]
    found = [f"{name} {then.get(name)!r} -> {now[name]!r}" for name in chosen if then.get(name) != now[name]]
    epochs = then.get("optim.epochs"), now["optim.epochs"]
    if not parts and isinstance(epochs[0], int) and epochs[0] > epochs[1]:
        found.append(f"optim.epochs {epochs[0]} -> {epochs[1]}")
    return found
