"""What identifies a run, so that a checkpoint is never resumed or evaluated under another config or other data."""

import hashlib
import json
from typing import Any

import numpy as np

from ...aliases import renamed, renamed_field
from ...config import Config, from_json, to_json

MUTABLE_FIELDS = (  # may differ between a checkpoint and its run: names, places, backends, length
    "recipe",
    "imports",
    "weights",
    "format_version",
    "data.root",
    "data.cache",
    "model.backend",
    "optim.epochs",
)


def run_fingerprint(config: Config, labels: np.ndarray) -> dict[str, Any]:
    """Every field of the config under its command-line name, the number of training samples, and a hash of their labels."""
    label_hash = hashlib.sha256(labels.tobytes()).hexdigest()[:16]
    return flatten_config(config) | {"samples": len(labels), "labels": label_hash}


def flatten_config(config: Config) -> dict[str, Any]:
    """Every field of the config under its command-line name."""
    fields: dict[str, Any] = {}
    for section, value in json.loads(to_json(config)).items():
        fields |= {f"{section}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {section: value}
    return fields


def describe_changes(saved: Any, now: dict[str, Any], sections: tuple[str, ...] = ()) -> list[str]:
    """The differences between two fingerprints, as "field old -> new".

    saved:     the fingerprint in a checkpoint; fewer epochs than it says are a change, more are not
    sections:  compare these sections of the config only; (): all
    Raises:    ValueError for a checkpoint without a fingerprint
    """
    if not isinstance(saved, dict):
        raise ValueError("the checkpoint does not say which config it belongs to")
    saved = {renamed_field(name): renamed(value) for name, value in saved.items()}
    saved = flatten_config(from_json("{}")) | saved  # what a field newer than the checkpoint meant
    names = [name for name in now if name not in MUTABLE_FIELDS and not name.startswith(("retention.", "memory."))]
    if sections:
        names = [name for name in names if name.partition(".")[0] in sections]
    changes = [
        "labels changed"
        if name == "labels"
        else f"{name} {saved.get(name)!r} -> {now[name]!r}"  # a hash tells a reader nothing
        for name in names
        if saved.get(name) != now[name]
    ]
    old_epochs, epochs = saved.get("optim.epochs"), now["optim.epochs"]
    if not sections and isinstance(old_epochs, int) and old_epochs > epochs:
        changes.append(f"optim.epochs {old_epochs} -> {epochs}")
    return changes
