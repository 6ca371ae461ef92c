"""A zip file that was cut, so that the directory at its end is missing: what its members' own headers tell."""

import contextlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .reading import map_file

# signature, version, flags, method, time, date, checksum, bytes packed and unpacked, bytes of the name and of what follows it
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ZIP_MAGIC, DESCRIPTOR_MAGIC = b"PK\x03\x04", b"PK\x07\x08"
IS_ENCRYPTED, HAS_DESCRIPTOR, IS_UTF8 = 0x1, 0x8, 0x800  # flags
ZIP64_EXTRA, IN_EXTRA = 1, 0xFFFFFFFF  # where sizes of 4 GiB and more are
MAX_DESCRIPTOR = 24  # bytes
BLOCK = 2**20
MAX_MEMBERS = 1000


class Member(NamedTuple):
    """A member's header: `end` of its bytes is None where only unpacking tells; `checksum` where it stands elsewhere."""

    name: str
    method: int
    flags: int
    begin: int
    end: int | None
    checksum: int | None


@contextlib.contextmanager
def unpack_members(path: Path, allowed: int) -> Iterator[dict[str, Path]]:
    """The members of a zip file that was cut, by name, as temporary files; the last one as far as it goes.

    A member that is there to its end, but is not what its checksum says, is left out: nobody knows where it is damaged.

    allowed:  bytes that they may take
    Raises:   ValueError for members that take more, or are too many
    """
    raw, at = map_file(path).data, 0
    with tempfile.TemporaryDirectory(prefix="spikewise-") as folder:
        members: dict[str, Path] = {}
        for number in range(MAX_MEMBERS):
            if (member := read_header(raw, at)) is None:
                break
            file = Path(folder, str(number))
            with file.open("wb") as out:
                for block in (written := Unpacking(raw, member)):
                    if (allowed := allowed - len(block)) < 0:
                        raise ValueError("its members take far more than it has")
                    out.write(block)
            checksum, at = member.checksum, written.end if member.end is None else member.end
            if member.flags & HAS_DESCRIPTOR:
                checksum, at = read_descriptor(raw, at)
            if written.is_cut or checksum in (None, written.checksum):
                members.setdefault(member.name, file)
        yield members


class Unpacking:
    """The bytes of a member, in blocks; afterwards where they end, their checksum, and whether the file ends before them."""

    def __init__(self, raw: memoryview, member: Member):
        self.raw, self.member = raw, member
        self.end, self.checksum, self.is_cut = member.begin, 0, False

    def __iter__(self) -> Iterator[bytes]:
        blocks = self.inflate() if self.member.method == zipfile.ZIP_DEFLATED else self.copy()
        try:
            for block in blocks:
                self.checksum = zlib.crc32(block, self.checksum)
                yield block
        except zlib.error:
            self.checksum, self.end = -1, len(self.raw) if self.member.end is None else self.member.end

    def copy(self) -> Iterator[bytes]:
        last = len(self.raw) if self.member.end is None else self.member.end
        self.is_cut, self.end = self.member.end is None or last > len(self.raw), min(last, len(self.raw))
        for begin in range(self.member.begin, self.end, BLOCK):
            yield bytes(self.raw[begin : min(begin + BLOCK, self.end)])

    def inflate(self) -> Iterator[bytes]:
        inflater, rest = zlib.decompressobj(-zlib.MAX_WBITS), b""
        while not inflater.eof:
            if not rest:
                rest = bytes(self.raw[self.end : self.end + BLOCK])
                self.end += len(rest)
            block = inflater.decompress(rest, BLOCK)
            rest = inflater.unconsumed_tail
            if not block and not rest and self.end == len(self.raw) and not inflater.eof:
                self.is_cut = True
                return
            yield block
        self.end -= len(inflater.unused_data)


def read_header(raw: memoryview, at: int) -> Member | None:
    """What a member's header says; None where there is none, or what it says is of no use."""
    if len(raw) - at < LOCAL_HEADER.size or raw[at : at + 4] != ZIP_MAGIC:
        return None
    _, _, flags, method, _, _, checksum, packed, _, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(raw, at)
    named = at + LOCAL_HEADER.size
    begin = named + name_bytes + extra_bytes
    name = bytes(raw[named : named + name_bytes]).decode("utf-8" if flags & IS_UTF8 else "cp437", errors="replace")
    if packed == IN_EXTRA:
        packed = packed_bytes_of_extra(bytes(raw[named + name_bytes : begin]))
    is_told = packed > 0 or raw[begin : begin + 2] == b"PK"  # a writer that was stopped has not come back to say it
    end = begin + packed if is_told and not flags & HAS_DESCRIPTOR else None
    is_readable = method == zipfile.ZIP_DEFLATED or (method == zipfile.ZIP_STORED and not flags & HAS_DESCRIPTOR)
    if begin > len(raw) or flags & IS_ENCRYPTED or not is_readable:
        return None
    return Member(name, method, flags, begin, end, checksum if end is not None else None)


def packed_bytes_of_extra(extra: bytes) -> int:
    """The packed size of a member of 4 GiB and more, of the fields behind its name: unpacked, then packed size; else 0."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == ZIP64_EXTRA and length >= 16 and len(extra) >= 20:
            return int(struct.unpack_from("<Q", extra, 12)[0])
        extra = extra[4 + length :]
    return 0


def read_descriptor(raw: memoryview, at: int) -> tuple[int | None, int]:
    """The checksum that stands behind the bytes of a member, and where the next member or the directory begins."""
    behind = bytes(raw[at : at + MAX_DESCRIPTOR + 4])
    begin = 4 if behind.startswith(DESCRIPTOR_MAGIC) else 0
    checksum = int.from_bytes(behind[begin : begin + 4], "little") if len(behind) >= begin + 4 else None
    length = next((k for k in (begin + 12, begin + 20) if behind[k : k + 2] == b"PK"), len(behind))
    return checksum, at + length
