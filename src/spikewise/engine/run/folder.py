"""The folder of a run: all that passes between training and whatever comes after it."""

import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ... import disk
from ...config import Config, from_json, to_json
from ...kernels import describe_backend
from ...version import __version__

CONFIG, ENVIRONMENT = "config.json", "environment.json"
METRICS, TIMING, PROBE = "metrics.jsonl", "timing.jsonl", "probe.jsonl"
CHECKPOINTS, TENSORBOARD, LOCK = "checkpoints", "tensorboard", ".lock"
FORMAT_VERSION = 1


def require_new(path: Path) -> None:
    """Refuse a folder that holds anything, but for what a run leaves that ended before it had begun."""
    begun = {LOCK, CHECKPOINTS, ENVIRONMENT, f".{ENVIRONMENT}.new", f".{CONFIG}.new"}
    strange = path.exists() and (not path.is_dir() or any(entry.name not in begun for entry in path.iterdir()))
    if strange or any((path / CHECKPOINTS).glob("*")):
        raise FileExistsError(
            f"{path} exists and is not empty; give another folder with --out, go on with --resume {path}, or remove it first"
        )


def create(path: Path, config: Config, device: torch.device) -> None:
    """Begin a run folder: environment, a place for checkpoints, and last the config."""
    disk.replace(path / ENVIRONMENT, as_json(environment(device, config.model.backend)))
    disk.make_folder(path / CHECKPOINTS)
    disk.replace(path / CONFIG, to_json(config).encode())


_LOCKS: set[int] = set()  # descriptors; a forked data worker must not hold on to the lock of a parent that was killed


def _let_go() -> None:
    while _LOCKS:
        os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run folder for this process alone; the system lets go of it when the process ends, however it ends.

    Raises:  BlockingIOError when another process trains into it
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OSError(error.errno, f"{path} can't be written to: {error.strerror}; give another folder with --out") from None
    _LOCKS.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another process is training into {path}; wait for it, or give another folder") from None
        yield
    finally:
        _LOCKS.discard(descriptor)
        os.close(descriptor)


def read_config(path: Path) -> Config:
    """The config of a run folder."""
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no run folder: it has no {CONFIG}; give a folder that `spikewise train` made")
    try:
        return from_json(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def environment(device: torch.device, backend: str) -> dict[str, Any]:
    """What the numbers of a run may depend on besides its config."""
    return {
        "format_version": FORMAT_VERSION,
        "spikewise": __version__,
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "kernels": describe_backend(backend, torch.empty(0, device=device)),
    }


BITWISE = ("torch", "cpu", "threads", "device", "kernels")  # what must be alike for a resumed run to be the same to the bit


def note_resume(path: Path, device: torch.device, backend: str) -> list[str]:
    """Add this process's environment to the run's; what differs from where it began, in words."""
    file, now = path / ENVIRONMENT, environment(device, backend)
    try:
        before = json.loads(file.read_bytes())
    except (OSError, ValueError):
        before = {}
    before = before if isinstance(before, dict) else {}
    earlier = before.get("resumed")
    earlier = [one for one in earlier if isinstance(one, dict)] if isinstance(earlier, list) else []
    # once under other conditions is enough, also when these are the first ones again
    others = {key: [one.get(key) for one in (before, *earlier) if one.get(key) != now[key]] for key in BITWISE}
    differs = [f"{key} {found[0]!r} -> {now[key]!r}" for key, found in others.items() if found]
    disk.replace(file, as_json({**before, "resumed": [*earlier, now]}))
    return differs


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
    disk.append(path, (json.dumps({"format_version": FORMAT_VERSION, **record}) + "\n").encode())


def length(path: Path) -> int:
    """Bytes of a file; 0 where there is none yet."""
    return path.stat().st_size if path.exists() else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; a last line that was cut is left out."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; put it back as it was, or begin a new run") from None


def as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
