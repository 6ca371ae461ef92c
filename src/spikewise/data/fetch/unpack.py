"""Archives of data sets: plain files out of zip and tar files, and nothing outside the target folder."""

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
from ...wording import count
from ..dataset import ProgressCallback
from ..messages import one_line

CHUNK_BYTES = 2**20
MAX_EXPANSION = 200  # unpacked bytes per packed byte of a file
ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)
TargetPath = Callable[[str], Path | None]  # where a file of this name goes; None: it is not wanted


class Member(NamedTuple):
    """A file in an archive: its name, its size in bytes, and its content, which is read once, in order."""

    name: str
    size: int
    content: IO[bytes]


def unpack(archive: Path, target_path: TargetPath, advance: ProgressCallback) -> None:
    """Write the wanted files of an archive, each whole or not at all; those that are there already are skipped.

    Raises:  ValueError for an archive that is damaged, or holds links, devices, names that lead elsewhere, the same file
             twice, or far more than its size; OSError
    """
    seen: set[Path] = set()
    for member in iter_members(archive):
        target = target_path(member.name)
        if target is None:
            continue
        if target in seen:
            raise ValueError(f"{archive}: {member.name!r} is there twice; get the archive again")
        seen.add(target)
        if target.is_file() and target.stat().st_size == member.size:
            advance(member.size)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.write_stream(target, iter_chunks(archive, member, advance))


def iter_chunks(archive: Path, member: Member, advance: ProgressCallback) -> Iterator[bytes]:
    done = 0
    while True:  # to the end, where the archive's checksum is compared
        try:
            chunk = member.content.read(CHUNK_BYTES)
        except ARCHIVE_ERRORS as error:
            raise ValueError(f"{archive}: {member.name!r} is damaged ({one_line(error)}); get the archive again") from None
        if not chunk:
            break
        done += len(chunk)
        advance(len(chunk))
        yield chunk
    if done != member.size:
        raise ValueError(f"{archive}: {member.name!r} has {done:,} of {member.size:,} bytes; get the archive again")


def unpacked_bytes(archive: Path) -> int:
    """The size of an archive's files; for a packed tar file, which does not store it, three times its own."""
    if not zipfile.is_zipfile(archive):
        return archive.stat().st_size * (3 if archive.suffix in (".gz", ".tgz") else 1)
    with zipfile.ZipFile(archive) as file:
        return sum(member.file_size for member in file.infolist())


def iter_members(archive: Path) -> Iterator[Member]:
    """The files of an archive, in its order."""
    try:
        yield from iter_zip(archive) if zipfile.is_zipfile(archive) else iter_tar(archive)
    except ARCHIVE_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{archive} is no whole archive ({one_line(error)}); get it again") from None


def iter_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.is_dir():
                continue
            file_type = stat.S_IFMT(info.external_attr >> 16)
            require_regular_file(archive, info.filename, file_type in (0, stat.S_IFREG))
            if info.flag_bits & 1:
                raise ValueError(f"{archive}: {info.filename!r} is encrypted; get the published archive")
            require_expansion(archive, info.filename, info.file_size, info.compress_size)
            with file.open(info) as content:
                yield Member(info.filename, info.file_size, content)


def iter_tar(archive: Path) -> Iterator[Member]:
    packed, total = archive.stat().st_size, 0
    with archive.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(gzip.GzipFile(archive) if is_gzip else archive.open("rb"))
        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|" if is_gzip else "r|*"))
        for info in tar:
            if info.isdir():
                continue
            require_regular_file(archive, info.name, info.isreg() and not info.issparse())
            total += info.size
            require_expansion(archive, info.name, total, packed)
            content = tar.extractfile(info)
            assert content is not None, "of a plain file"
            yield Member(info.name, info.size, content)
        while stream.read(CHUNK_BYTES):
            pass  # to the end, where the checksum is compared


def require_regular_file(archive: Path, name: str, is_regular: bool) -> None:
    path = PurePosixPath(name)
    leads_elsewhere = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if leads_elsewhere or not path.parts:
        raise ValueError(f"{archive}: the name {name!r} leads out of the folder; nothing more was unpacked")
    if not is_regular:
        raise ValueError(f"{archive}: {name!r} is a link, a device or sparse, not a plain file; nothing more was unpacked")


def require_expansion(archive: Path, name: str, size: int, packed: int) -> None:
    if size > MAX_EXPANSION * packed + CHUNK_BYTES:
        raise ValueError(f"{archive}: {name!r} would take {size:,} bytes, packed in {packed:,}; nothing more was unpacked")


# A source that is a folder: of archives, or of the files themselves --------------------------------------------------------


def unpack_or_copy(
    source: Path,
    work: Path,
    advance: ProgressCallback,
    allow_partial: bool,
    *,
    names: tuple[str, ...],
    target_path: Callable[[Path, str], Path | None],
) -> None:
    """Fill the folder `work` from the archives in the folder `source`, or, where there are none, from its files.

    names:        of all the archives
    target_path:  a function of (work, name): where a file goes, or None
    Raises:       ValueError for a source that is no folder or, unless `allow_partial`, lacks some of its archives; as `unpack`
    """
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; --source is the folder with {', '.join(names[:2])} and so on")
    archives = find_archives(source, names)
    missing = [name for name in names if source / name not in archives]
    if archives and missing and not allow_partial:
        raise ValueError(f"{source} has no {missing[0]} (missing: {len(missing)} of {count(len(names), 'archive')})")
    for archive in archives:
        unpack(archive, lambda name: target_path(work, name), advance)
    if not archives:
        copy_files(source, lambda name: target_path(work, name), advance)


def archive_bytes(source: Path, names: tuple[str, ...]) -> int:
    """Bytes that `unpack_or_copy` writes."""
    archives = find_archives(source, names)
    return sum(map(unpacked_bytes, archives)) if archives else sum(path.stat().st_size for path in regular_files(source))


def find_archives(source: Path, names: tuple[str, ...]) -> list[Path]:
    return [source / name for name in names if (source / name).is_file()]


def regular_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.name[0] != ".")


def copy_files(source: Path, target_path: TargetPath, advance: ProgressCallback) -> None:
    """Copy the wanted files of a folder, each whole or not at all."""
    for path in regular_files(source):
        target = target_path(path.relative_to(source).as_posix())
        if target is None:
            continue
        if not (target.is_file() and target.stat().st_size == path.stat().st_size):
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as file:
                disk.write_stream(target, iter(lambda file=file: file.read(CHUNK_BYTES), b""))  # type: ignore[misc]
        advance(path.stat().st_size)
