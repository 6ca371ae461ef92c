"""Changes on disk that survive a crash: every one of them goes through here, and through one call of the system."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    put(path, os.O_TRUNC, content)


def append(path: Path, content: bytes) -> None:
    """Add to a file and wait until it is on the disk."""
    put(path, os.O_APPEND, content)


def put(path: Path, how: int, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Give a file a new content: the old one or the new one is there at any time."""
    beside = path.with_name(f".{path.name}.new")
    write(beside, content)
    rename(beside, path)


def rename(old: Path, new: Path) -> None:
    """Rename, and wait until the folder knows it."""
    os.replace(old, new)
    sync_folder(new.parent)


def link(path: Path, target: str) -> None:
    """Let the link `path` point to its neighbour `target`."""
    beside = path.with_name(f".{path.name}.new")
    if beside.is_symlink():
        os.unlink(beside)
    os.symlink(target, beside)
    rename(beside, path)


def cut(path: Path, length: int) -> None:
    """Cut a file to its first `length` bytes; one that is not there is empty."""
    if not path.exists():
        write(path, b"")
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder of files. What can't be removed stays: it is never taken for whole."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        os.unlink(path)
    os.rmdir(folder)
