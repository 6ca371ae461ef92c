"""File system changes that survive a crash. Every change goes through here, one system call at a time."""

import errno
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = 4096  # bytes: what goes past the file cache begins at a multiple of it in memory, and is a multiple of it long
LARGE = 2**20  # bytes, from which on that is worth it


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a new file and wait until it is on the disk.

    Large content that begins at a `PAGE` in memory goes past the file cache, where the system has a way: it is not copied
    there, and does not drive out the training data (docs/decisions.md).
    """
    _write_synced(path, os.O_TRUNC, [content])


def append(path: Path, content: bytes) -> None:
    """Append to a file and wait until it is on the disk."""
    _write_synced(path, os.O_APPEND, [content])


def write_stream(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file chunk by chunk: afterwards the whole new file is there, or, after a crash, what was there before."""
    temporary = temporary_path(path)
    try:
        _write_synced(temporary, os.O_TRUNC, chunks, shown=path)
    except Exception:
        remove_tree(temporary)
        raise
    rename(temporary, path)


def atomic_write(path: Path, content: bytes) -> None:
    """Replace a file's content: at any time either the old or the new content is there."""
    write_stream(path, [content])


def temporary_path(path: Path) -> Path:
    """Where something is written before it takes the place of `path`: a hidden entry of the same folder."""
    return path.with_name(f".{path.name}.new")


def _write_synced(path: Path, flag: int, chunks: Iterable[bytes | memoryview], shown: Path | None = None) -> None:
    """Write the chunks and wait until they are on the disk; a full disk is reported as that of the path `shown`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o644)
    try:
        for chunk in chunks:
            _write_all(descriptor, chunk, shown or path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes | memoryview, path: Path) -> None:
    try:
        rest = memoryview(content)
        if len(rest) >= LARGE:
            rest = rest[_write_past_cache(descriptor, rest[: len(rest) // PAGE * PAGE]) :]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        message = f"no space left for {path}; free some, then give the same command again (a run: `spikewise train --resume`)"
        raise OSError(errno.ENOSPC, message) from None


def _write_past_cache(descriptor: int, content: memoryview) -> int:
    """Write whole pages straight from memory to the disk; how many bytes: none where file system or memory do not allow it."""
    if not hasattr(os, "O_DIRECT"):  # macOS
        return 0
    flags, done = fcntl.fcntl(descriptor, fcntl.F_GETFL), 0
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while done < len(content) and done % PAGE == 0:
            done += os.write(descriptor, content[done:])
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return done


def read_json_lines(path: Path, remedy: str) -> list[Any]:
    """The records of a file of JSON lines, without a last line that was not written whole; none where there is no file.

    remedy:  what a user can do where the file is damaged
    Raises:  ValueError for a damaged one
    """
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy}") from None


def rename(old: Path, new: Path) -> None:
    """Rename, and wait until the new name is on the disk."""
    os.replace(old, new)
    sync_folder(new.parent)


def atomic_symlink(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, replacing one that is there."""
    temporary = temporary_path(path)
    if temporary.is_symlink():
        os.unlink(temporary)
    os.symlink(target, temporary)
    rename(temporary, path)


NOT_SUPPORTED = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}  # of a file system, not a mistake


def point(path: Path, target: str) -> bool:
    """Make `path` lead to `target`, its neighbour: a symbolic link or, where the file system has none, a file that holds the
    name. `follow` reads both.

    Returns:  whether it is a link
    """
    try:
        atomic_symlink(path, target)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        atomic_write(path, f"{target}\n".encode())
        return False
    return True


def follow(path: Path) -> Path:
    """Where a path made by `point` leads; another path as it is."""
    if path.is_symlink() or not path.is_file():
        return path
    name = path.read_bytes()[:256].decode(errors="replace").strip()
    return path.parent / Path(name).name if name else path


def truncate(path: Path, length: int) -> None:
    """Truncate a file to its first `length` bytes; a missing file counts as empty.

    Raises:  ValueError for a file that is shorter: some of its content was lost
    """
    size = path.stat().st_size if path.exists() else 0
    if size < length:
        raise ValueError(
            f"{path} has {size} bytes, but had {length} when the checkpoint was written: restore the file, or begin a new run"
        )
    if size == length:
        return
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_folder_of(path: Path) -> None:
    """Refuse a path whose folder does not exist, before work is done that would be lost.

    Raises:  FileNotFoundError
    """
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.absolute().parent}; make it first")


def ensure_folder(path: Path) -> None:
    """Make a folder, unless it exists; its parent must exist."""
    if not path.is_dir():
        os.mkdir(path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder with all its content, or a file, or a link; nothing if it doesn't exist."""
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            remove_tree(entry)
        os.rmdir(path)
    elif path.exists() or path.is_symlink():
        os.unlink(path)
