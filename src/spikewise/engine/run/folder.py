"""The run folder: file names, creation, locking, and reading and writing of its JSON files."""

import dataclasses
import fcntl
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ... import disk
from ...config import Config, from_json, to_json
from ...kernels import describe_backend
from ...native.processor import cpu_name
from ...version import __version__
from ..distributed import World

CONFIG, ENVIRONMENT = "config.json", "environment.json"
METRICS, TIMING, PROBE = "metrics.jsonl", "timing.jsonl", "probe.jsonl"
CHECKPOINTS, TENSORBOARD, LOCK, STOPPED = "checkpoints", "tensorboard", ".lock", "stopped.json"
FORMAT_VERSION = 1


def require_empty(path: Path) -> None:
    """Refuse a folder that holds anything but the remains of a run that was stopped while its folder was created."""
    remains = {
        LOCK,
        CHECKPOINTS,
        ENVIRONMENT,
        disk.temporary_path(path / ENVIRONMENT).name,
        disk.temporary_path(path / CONFIG).name,
    }
    in_use = path.exists() and (not path.is_dir() or any(entry.name not in remains for entry in path.iterdir()))
    if in_use or any((path / CHECKPOINTS).glob("*")):
        raise FileExistsError(
            f"{path} exists and is not empty; give another folder with --out, go on with --resume {path}, or remove it first"
        )


def create(path: Path, config: Config, device: torch.device, weights: dict[str, Any], world: World) -> None:
    """Create a run folder: environment, with where its first weights came from, folder of checkpoints, and last the config."""
    beginning = {"weights": weights} if weights else {}
    launch = {"launch": world.launch} if world.launch else {}
    now = environment(device, config.model.backend, world.size)
    disk.atomic_write(path / ENVIRONMENT, encode_json(now | beginning | launch))
    disk.ensure_folder(path / CHECKPOINTS)
    disk.atomic_write(path / CONFIG, to_json(config).encode())


def clear(path: Path) -> None:
    """Remove what is in a run folder."""
    for entry in path.iterdir():
        disk.remove_tree(entry)


_LOCKS: set[int] = set()  # file descriptors; a forked data worker must not keep the lock of a killed parent


def _close_locks() -> None:
    while _LOCKS:
        os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_close_locks)


@contextmanager
def locked(path: Path, say: Callable[[str], None] = print) -> Iterator[None]:
    """Lock a run folder for this process; the system releases the lock when the process ends, however it ends.

    say:     is told where the file system has no locks
    Raises:  BlockingIOError when another process is training into it
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
        except OSError as error:
            if error.errno not in disk.NOT_SUPPORTED:
                raise
            say(f"{path}: no locks here; begin no second process that trains into this folder")
        yield
    finally:
        _LOCKS.discard(descriptor)
        os.close(descriptor)


def read_config(path: Path, data_root: str | None = None) -> Config:
    """The config of a run folder.

    data_root:  where the data is now; None: where the config says
    Raises:     FileNotFoundError for a folder that is not a run; ValueError for a config that can't be read
    """
    file = path / CONFIG
    if not file.is_file():
        saved = path.suffix == ".safetensors" or (path / "model.safetensors").is_file()
        what = "holds a network without a run, and does not say which data is its" if saved else "is no run folder"
        advice = "give a folder that `spikewise train` made" + (
            ", or begin a new run: train RECIPE --weights FILE" if saved else ""
        )
        if found := run_of_checkpoint(path):
            advice = f"its run is {os.path.relpath(found[0])}"
        raise FileNotFoundError(f"{path} {what}: it has no {CONFIG}; {advice}")
    try:
        config = from_json(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if data_root is None:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=data_root))


def is_run(path: str | Path) -> bool:
    """Whether a path is that of a run; else it may be a weights file's."""
    return (Path(path) / CONFIG).is_file()


def run_of_checkpoint(path: str | Path) -> tuple[Path, str] | None:
    """The run and the name of its checkpoint, of a path RUN/checkpoints/NAME, or that of the weights in it; None of others."""
    path = Path(path)
    folder = (path.parent if path.suffix == ".safetensors" else path).absolute()
    run = folder.parent.parent
    return (run, folder.name) if folder.parent.name == CHECKPOINTS and is_run(run) else None


def environment(device: torch.device, backend: str, processes: int = 1) -> dict[str, Any]:
    """What the results of a run may depend on besides its config, and by how many processes it is computed."""
    return {
        "format_version": FORMAT_VERSION,
        "spikewise": __version__,
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "kernels": describe_backend(backend, torch.empty(0, device=device)),
    }


BITWISE_FIELDS = ("torch", "cpu", "threads", "device", "kernels")  # the same in all of them: resume is bit-identical


def record_resume(path: Path, device: torch.device, config: Config, world: World) -> tuple[list[str], int]:
    """Add the environment of these processes to the run's.

    Returns:  how it differs from the earlier ones where the last digits depend on it, as "field old -> new"; and how many
              processes there were before
    """
    file, now = path / ENVIRONMENT, environment(device, config.model.backend, world.size)
    first = read_object(file)
    resumed = first.get("resumed")
    resumed = [one for one in resumed if isinstance(one, dict)] if isinstance(resumed, list) else []
    earlier = [{"processes": 1} | one for one in (first, *resumed)]  # older files do not say
    fields = BITWISE_FIELDS if config.optim.gradient_sum == "exact" else (*BITWISE_FIELDS, "processes")
    # one resume on another setup breaks bit-identity for good, even if the first setup is back
    others = {field: [one.get(field) for one in earlier if one.get(field) != now[field]] for field in fields}
    disk.atomic_write(file, encode_json({**first, "resumed": [*resumed, now]}))
    differences = [f"{field} {values[0]!r} -> {now[field]!r}" for field, values in others.items() if values]
    return differences, earlier[-1]["processes"]


def append(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a file of JSON lines."""
    disk.append(path, (json.dumps({"format_version": FORMAT_VERSION, **record}) + "\n").encode())


def file_size(path: Path) -> int:
    """Size of a file in bytes; 0 if there is none yet."""
    return path.stat().st_size if path.exists() else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a run's file of JSON lines, without an incomplete last line."""
    return disk.read_json_lines(path, "restore the file, or begin a new run")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none, or it can't be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def encode_json(content: dict[str, Any]) -> bytes:
    """Indented JSON, as the files of a run folder are written."""
    return (json.dumps(content, indent=2) + "\n").encode()
