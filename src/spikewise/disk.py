"""Changes on disk that survive a crash: every one of them goes through here, and through one call of the system."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a new file and wait until it is on the disk."""
    put(path, os.O_TRUNC, content)


def stream(path: Path, parts: Iterable[bytes]) -> None:
    """A file made of many parts: there whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for part in parts:
            write_all(descriptor, part, path)
        os.fsync(descriptor)
    except Exception:
        remove(beside)
        raise
    finally:
        os.close(descriptor)
    rename(beside, path)


def append(path: Path, content: bytes) -> None:
    """Add to a file and wait until it is on the disk."""
    put(path, os.O_APPEND, content)


def put(path: Path, how: int, content: bytes | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o644)
    try:
        write_all(descriptor, content, path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview, path: Path) -> None:
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        message = f"no space left for {path}; make room, then give the same command again (a run: `spikewise train --resume`)"
        raise OSError(errno.ENOSPC, message) from None


def replace(path: Path, content: bytes) -> None:
    """Give a file a new content: the old one or the new one is there at any time."""
    beside = path.with_name(f".{path.name}.new")
    try:
        write(beside, content)
    except OSError:
        remove(beside)
        raise
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
    """Cut a file to its first `length` bytes; one that is not there is empty.

    Raises:  ValueError for a file that is shorter: bytes that were there are lost
    """
    size = path.stat().st_size if path.exists() else 0
    if size < length:
        raise ValueError(
            f"{path} has {size} bytes where the checkpoint saw {length}: put the lost part back, or begin a new run"
        )
    if size == length:
        return
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder in a folder that is there; one that is there already stays."""
    if not path.is_dir():
        os.mkdir(path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it; a file or a link of that name, too."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            remove(path)
        os.rmdir(folder)
    elif folder.exists() or folder.is_symlink():
        os.unlink(folder)
