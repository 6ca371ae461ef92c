"""Files behind addresses that fsspec knows (https://, hf://, s3://, ...): read where they lie, or fetched once and kept."""

import fcntl
import functools
import hashlib
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec

from .. import disk
from ..progress import MinuteLines, say_on_stderr
from .messages import notice, one_line

REMOTE_URL = re.compile(r"[a-z0-9+]+://")
CHUNK_BYTES = 4 << 20  # fetched at once: what breaks off is lost for so many
HASH = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)


@functools.cache
def filesystem(protocol: str) -> Any:
    """The file system of a protocol, once per process.

    Raises:  ValueError for a protocol that fsspec does not know, or whose package is not installed, with its name
    """
    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        advice = "; pip install 'spikewise[remote]'" if protocol in ("http", "https") else ""
        raise ValueError(f"{protocol}:// needs another package: {one_line(error)}{advice}") from None
    except ValueError as error:
        raise ValueError(f"{protocol}:// is no address that fsspec knows: {one_line(error)}") from None


def resolve_url(url: str) -> tuple[Any, str]:
    """The file system of a URL or a local path, and the path in it."""
    system = filesystem(url.partition("://")[0] if REMOTE_URL.match(url) else "file")
    return system, system._strip_protocol(url)


def file_version(system: Any, path: str) -> str:
    """What changes when a file does: its size, and its time or what a server calls its version."""
    return version_of(system.info(path))


def version_of(info: dict[str, Any]) -> str:
    return "|".join(str(info.get(key, "")) for key in ("size", "mtime", "ETag", "etag", "last_modified", "created"))


def user_cache() -> Path:
    """$SPIKEWISE_CACHE, or the user's cache."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikewise"
    return Path(os.environ.get("SPIKEWISE_CACHE") or folder)


def fetch(address: str, in_folder: str = "") -> Path:
    """The file behind an address, kept in the user's cache; one that broke off is continued.

    address:    with #sha256=HEX behind it, the content is checked, and a copy that is there is taken without asking the server;
                without, the server is asked whether it has another file now
    in_folder:  the file that is meant where the address is a folder's
    Raises:     ValueError for a hash that is none, another content than the hash says, and a protocol without its package;
                OSError in one line for what can't be read, or broke off
    """
    location, sharp, fragment = address.partition("#")
    wanted = HASH.fullmatch(fragment)
    if sharp and not wanted:
        raise ValueError(f"{address}: {fragment!r} is no hash; write #sha256= and 64 digits (0-9, a-f) behind the address")
    digest = wanted[1].lower() if wanted else ""
    name = PurePosixPath(urlsplit(location).path).name
    name = "file" if name in ("", "..") else name
    kept = user_cache() / "weights" / hashlib.sha256(f"{location}#{digest}".encode()).hexdigest()[:32]
    if digest and (found := next(kept.glob("whole/*"), None)):
        return found
    system, path = resolve_url(location)
    info = ask(location, system.info, path)
    if info.get("type") == "directory" and in_folder:
        path, name = f"{path}/{in_folder}", in_folder
        info = ask(f"{location}/{in_folder}", system.info, path)
    if not digest:
        kept /= hashlib.sha256(version_of(info).encode()).hexdigest()[:32]
    file = kept / "whole" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one fetches
        if not file.is_file():
            part = kept / "part"
            transfer(location, partial(system.cat_file, path), info.get("size"), part)
            check_hash(address, part, digest)
            disk.rename(part, file)
    return file


def ask(address: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a remote file system; its errors in one line."""
    try:
        return call(*args, **kwargs)
    except Exception as error:  # each protocol has its own
        cause = error.__cause__ or error
        reason = "there is no such file" if isinstance(cause, FileNotFoundError) else one_line(cause)
        raise OSError(f"{address} can't be read: {reason}") from None


def transfer(address: str, read: Callable[..., bytes], size: int | None, part: Path) -> None:
    """Fetch what of a file is not yet in `part`.

    read:    bytes from start to end
    size:    of the whole, in bytes; None: the server does not say, and it is fetched at once
    Raises:  OSError for what broke off
    """
    if size is None:
        part.write_bytes(ask(address, read))
        return
    begin = part.stat().st_size if part.exists() else 0
    lines = MinuteLines(say_on_stderr, size, begin)
    with part.open("ab") as file:
        while (start := file.tell()) < size:
            end = min(start + CHUNK_BYTES, size)
            try:
                content = ask(address, read, start=start, end=end)
            except OSError as error:
                raise OSError(f"{error}; {start:,} of {size:,} bytes are there: try again to continue") from None
            if len(content) > end - start:  # a server that ignores ranges sends the whole file
                content = content[start:]
            if len(content) == 0:
                raise OSError(f"{address} broke off at {start:,} of {size:,} bytes; try again to continue")
            file.write(content)
            lines.at(file.tell(), partial("{}: {:,.1f} of {:,.1f} MB".format, address, file.tell() / 1e6, size / 1e6))


def check_hash(address: str, part: Path, digest: str) -> None:
    """Refuse a file, and remove it, that is not the one that the address names; say the hash where the address has none."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if digest and found != digest:
        part.unlink()
        raise ValueError(f"{address} holds another file: its sha256 is {found}; it was removed again")
    if not digest:
        notice(f"{address} has no hash; to have this very file always, give {address}#sha256={found}")
