"""Saved states of a run: weights that say which network they are, and what training needs to go on."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from ..models import Network
from ..models.weights import save_pretrained

FORMAT_VERSION = 1


def save(folder: Path, net: Network, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write a checkpoint beside `folder` and put it in its place when it is whole."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    save_pretrained(net, beside)
    torch.save(optimizer.state_dict(), beside / "optimizer.pt")
    (beside / "progress.json").write_text(json.dumps({"format_version": FORMAT_VERSION, **progress}) + "\n")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    beside.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
