"""Recordings in gzip, bzip2 and zip files: unpacked into a temporary file, which the readers read."""

import bz2
import contextlib
import errno
import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...messages import one_line
from . import reading
from .cut_zip import ZIP_MAGIC, unpack_members
from .npz import MAX_EXPANSION

SNIFF_BYTES = 4096  # read to detect a format
BLOCK = 2**20
BESIDE_EVENTS = ("calib.txt", "images.txt", "imu.txt", "groundtruth.txt", "images")
FREE_BYTES = 2**20  # that any file may unpack to
PACKED_SUFFIXES = {".gz": b"\x1f\x8b", ".bz2": b"BZh"}
PACKINGS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File}
UNPACK_ERRORS = (zlib.error, EOFError, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError)


class Inside(NamedTuple):
    """What a packed file holds: how errors name it, its own name, how it is opened, and what is to be said of it."""

    shown: str
    name: str
    open: Callable[[], contextlib.AbstractContextManager[io.BufferedIOBase]]
    note: str = ""


def is_npz(head: bytes) -> bool:
    """Whether a zip file begins with an array of NumPy's."""
    length = int.from_bytes(head[26:28], "little")
    return head.startswith(ZIP_MAGIC) and head[30 : 30 + length].endswith(b".npy")


def look_inside(path: Path, stream: str | None = None, *, salvage: bool = False) -> Inside | None:
    """The recording in a packed file; None for a file that is not packed, or that is NPZ.

    stream:   which of several in a zip file
    salvage:  also look into a zip file whose directory is missing
    Raises:   ValueError for a zip file of several recordings where none is said, or of none; OSError
    """
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    for magic, opener in PACKINGS.items():
        if head.startswith(magic):
            name = path.name[: -len(path.suffix)] if path.suffix.lower() in PACKED_SUFFIXES else path.name
            return Inside(str(path), name, partial(opener, path))
    return look_inside_zip(path, stream, salvage=salvage) if head.startswith(ZIP_MAGIC) and not is_npz(head) else None


def look_inside_zip(path: Path, stream: str | None, *, salvage: bool) -> Inside:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                member.filename: member
                for member in archive.infolist()
                if not member.filename.endswith("/") and is_shown(member.filename)
            }
        for name in beside_events(members):
            del members[name]
    except UNPACK_ERRORS as error:
        if salvage:
            return look_inside_cut_zip(path, stream, one_line(error))
        raise ValueError(f"{path} is a damaged zip file: {one_line(error)}; copy it again") from None
    if not members:
        raise ValueError(f"{path} holds no file")
    member = members[reading.choose_stream(path, list(members), stream)]
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack all at once
        raise ValueError(f"{path}: {member.filename[:60]} is packed in a way that is not read; unpack it first")

    @contextlib.contextmanager
    def opened() -> Iterator[io.BufferedIOBase]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file  # type: ignore[misc]  # ZipExtFile, which is one

    return Inside(f"{path}/{member.filename[:200]}", Path(member.filename).name, opened)


def look_inside_cut_zip(path: Path, stream: str | None, reason: str) -> Inside:
    """The recording in a zip file whose directory can't be read, as far as it goes."""
    allowed = MAX_EXPANSION * path.stat().st_size + FREE_BYTES

    @contextlib.contextmanager
    def opened() -> Iterator[io.BufferedIOBase]:
        with unpack_members(path, allowed) as members, members[name].open("rb") as file:
            yield file

    with refuse_damage(path), unpack_members(path, allowed) as members:
        names = [name for name in members if not name.endswith("/") and is_shown(name)]
    if not names:
        raise ValueError(
            f"{path}: nothing can be salvaged: it is a damaged zip file ({reason}) that begins with no whole header"
        )
    name = reading.choose_stream(path, names, stream)
    note = f"the zip file was cut or is damaged ({reason}); {name[:60]!r} is read as far as it goes"
    return Inside(f"{path}/{name[:200]}", Path(name).name, opened, note)


def is_shown(name: str) -> bool:
    """Whether a file in a zip file is no hidden one, nor of those that macOS adds."""
    return Path(name).name[:1] not in (".", "") and "__MACOSX" not in Path(name).parts


def beside_events(names: Collection[str]) -> list[str]:
    """What lies beside an `events.txt` of the Event Camera Dataset: calibration, frames, movements."""
    folders = {Path(name).parent for name in names if Path(name).name == "events.txt"}
    beside = {folder / name for folder in folders for name in BESIDE_EVENTS}
    return [name for name in names if Path(name) in beside or Path(name).parent in beside]


def read_head(path: Path, inside: Inside) -> bytes:
    """The first bytes of the recording in a packed file.

    Raises:  ValueError for a damaged file
    """
    with refuse_damage(path), inside.open() as file:
        return file.read(SNIFF_BYTES)


@contextlib.contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except UNPACK_ERRORS as error:
        raise ValueError(f"{path} can't be unpacked: {one_line(error)}; copy it again") from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # of the packing: a place that no file has
            raise ValueError(f"{path} can't be unpacked: {one_line(error)}; copy it again") from None
        raise


@contextlib.contextmanager
def unpack(path: Path, inside: Inside, *, salvage: bool) -> Iterator[tuple[Path, str]]:
    """The recording as a temporary file, in the folder where the system keeps such ($TMPDIR), and what became of it.

    salvage:  take what there is before damage, and say it
    Raises:   ValueError for a damaged file, or one that unpacks to far more than it holds; OSError
    """
    allowed, note, written = MAX_EXPANSION * path.stat().st_size + FREE_BYTES, inside.note, 0
    with tempfile.TemporaryDirectory(prefix="spikewise-") as folder:
        suffix = Path(inside.name).suffix
        target = Path(folder, f"recording{suffix if suffix[1:].isalnum() else ''}")
        try:
            with target.open("wb") as file, refuse_damage(path), inside.open() as packed:
                while block := packed.read1(BLOCK):  # what is there before damage, too
                    if (written := written + len(block)) > allowed:
                        raise ValueError(f"it becomes more than {MAX_EXPANSION} times as large")
                    file.write(block)
        except ValueError as error:
            if not salvage:
                raise
            note = f"{error}; what lies before that, {written:,} bytes unpacked, is read"
        if note and not written:
            raise ValueError(f"nothing can be salvaged of {path}: no part of it can be unpacked")
        yield target, note
