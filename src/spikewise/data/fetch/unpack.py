"""Archives of data sets: plain files out of zip and tar files, nothing else, and nothing outside the folder."""

import contextlib
import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from ... import disk

PART = 2**20  # bytes that are unpacked at once
INFLATED = 200  # times its packed size that a member may take
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


class Member(NamedTuple):
    """A file in an archive: its name, its size in bytes, and its content, which is read once, in order."""

    name: str
    size: int
    content: IO[bytes]


def unpack(archive: Path, place: Callable[[str], Path | None], advance: Callable[[int], None]) -> None:
    """Write the files of an archive, each whole or not at all; those that are there already are left out.

    place:    where a file of this name goes; None: it is not wanted
    advance:  is told of every byte
    Raises:   ValueError for an archive that is damaged, or holds links, devices, names that lead elsewhere, the same name
              twice, or far more than its size; OSError
    """
    seen: set[Path] = set()
    for member in members(archive):
        target = place(member.name)
        if target is None:
            continue
        if target in seen:
            raise ValueError(f"{archive}: {member.name!r} is there twice; get the archive again")
        seen.add(target)
        if target.is_file() and target.stat().st_size == member.size:
            advance(member.size)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.write_stream(target, parts(archive, member, advance))


def parts(archive: Path, member: Member, advance: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    while True:  # to the end, where the archive's checksum is compared
        try:
            part = member.content.read(PART)
        except DAMAGE as error:
            raise ValueError(f"{archive}: {member.name!r} is damaged ({plain(error)}); get the archive again") from None
        if not part:
            break
        done += len(part)
        advance(len(part))
        yield part
    if done != member.size:
        raise ValueError(f"{archive}: {member.name!r} has {done:,} of {member.size:,} bytes; get the archive again")


def size_of(archive: Path) -> int:
    """Bytes that an archive will take, unpacked; of a packed tar file, which does not say, three times its size."""
    if not zipfile.is_zipfile(archive):
        return archive.stat().st_size * (3 if archive.suffix in (".gz", ".tgz") else 1)
    with zipfile.ZipFile(archive) as file:
        return sum(member.file_size for member in file.infolist())


def members(archive: Path) -> Iterator[Member]:
    """The files of an archive, in its order."""
    try:
        yield from of_zip(archive) if zipfile.is_zipfile(archive) else of_tar(archive)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{archive} is no whole archive ({plain(error)}); get it again") from None


def of_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            require_plain(archive, info.filename, kind in (0, stat.S_IFREG))
            if info.flag_bits & 1:
                raise ValueError(f"{archive}: {info.filename!r} is encrypted; get the published archive")
            require_size(archive, info.filename, info.file_size, info.compress_size)
            with file.open(info) as content:
                yield Member(info.filename, info.file_size, content)


def of_tar(archive: Path) -> Iterator[Member]:
    packed, total = archive.stat().st_size, 0
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(gzip.GzipFile(archive) if is_gzip(archive) else archive.open("rb"))
        file = stack.enter_context(tarfile.open(fileobj=stream, mode="r|" if is_gzip(archive) else "r|*"))
        for info in file:
            if info.isdir():
                continue
            require_plain(archive, info.name, info.isreg() and not info.issparse())
            total += info.size
            require_size(archive, info.name, total, packed)
            content = file.extractfile(info)
            assert content is not None, "of a plain file"
            yield Member(info.name, info.size, content)
        while stream.read(PART):
            pass  # to the end, where the checksum is compared


def is_gzip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def require_plain(archive: Path, name: str, plain_file: bool) -> None:
    path = PurePosixPath(name)
    leads_elsewhere = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if leads_elsewhere or not path.parts:
        raise ValueError(f"{archive}: the name {name!r} leads out of the folder; nothing more was unpacked")
    if not plain_file:
        raise ValueError(f"{archive}: {name!r} is a link, a device or sparse, no plain file; nothing more was unpacked")


def require_size(archive: Path, name: str, size: int, packed: int) -> None:
    if size > INFLATED * packed + PART:
        raise ValueError(f"{archive}: {name!r} would take {size:,} bytes, packed in {packed:,}; nothing more was unpacked")


def plain(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
