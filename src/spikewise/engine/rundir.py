"""The folder of a run: all that passes between training and whatever comes after it."""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..config import Config, from_json, to_json

CONFIG, ENVIRONMENT, METRICS, TIMING = "config.json", "environment.json", "metrics.jsonl", "timing.jsonl"
FORMAT_VERSION = 1


def create(path: Path, config: Config, device: torch.device) -> Path:
    """Begin a run folder: config and environment. Refuses a folder that holds anything."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not empty; give another folder with --out, or remove it first")
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / CONFIG, to_json(config))
    write_text(path / ENVIRONMENT, json.dumps(environment(device), indent=2) + "\n")
    return path


def read_config(path: Path) -> Config:
    """The config of a run folder."""
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no run folder: it has no {CONFIG}; give a folder that `spikewise train` made")
    try:
        return from_json(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers of a run may depend on besides its config."""
    return {
        "format_version": FORMAT_VERSION,
        "spikewise": metadata.version("spikewise"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
    }


def cpu_name() -> str:
    """The processor's own name where Linux tells it, and which of its instructions torch uses."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps({"format_version": FORMAT_VERSION, **record}) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none of it."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)
