"""Random access to images in tar files, local or remote, by an index of byte offsets.

A sample is a few consecutive files that share a key, as in WebDataset: KEY.jpg (or .png, .webp, .bmp, .tif, .gif) and
KEY.cls, its label in digits (or KEY.json with "cls" or "label"). Nothing is unpacked: an image is read from its byte
range, so that the order of training stays a function of (seed, epoch), as for any other data set.
"""

import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ... import disk
from ...progress import told_each_minute
from ..files import LazySequence
from ..messages import one_line
from ..remote import REMOTE_URL, file_version, resolve_url, user_cache
from .decode import SUFFIXES

LABEL_SUFFIXES = (".cls", ".json")
MAX_LABEL_BYTES = 65_536
Index = dict[str, np.ndarray]  # offset, size and label of every image in a shard
Share = Callable[[list[str], Callable[[str], Index]], list[Index]]  # the function's results for a list, shared by processes


class ShardEntry(NamedTuple):
    """The byte range of an image."""

    shard: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}, byte {self.offset:,},"


class ShardEntries(LazySequence[ShardEntry]):
    """The images of many shards, in three arrays: the shard's number, the offset in it, and the size in bytes."""

    def __init__(self, shards: tuple[str, ...], number: np.ndarray, offset: np.ndarray, size: np.ndarray):
        self.shards, self.number, self.offset, self.size = shards, number, offset, size

    def __len__(self) -> int:
        return len(self.number)

    def item(self, index: int) -> ShardEntry:
        return ShardEntry(self.shards[self.number[index]], int(self.offset[index]), int(self.size[index]))


# Reading -----------------------------------------------------------------------------------------------------------------


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    system, path = resolve_url(url)
    try:
        content = system.cat_file(path, start=start, end=end)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # each protocol has its own
        raise OSError(f"{url} can't be read: {one_line(error)}") from None
    if start is not None and end is not None and len(content) > end - start:  # a server that ignores ranges
        content = content[start:end]
    return bytes(content)


def open_entry(entry: ShardEntry) -> BinaryIO:
    """The bytes of an image."""
    content = read_bytes(entry.shard, entry.offset, entry.offset + entry.size)
    if len(content) != entry.size:
        raise ValueError(f"{entry} has {len(content):,} of {entry.size:,} bytes; get the shard again")
    return io.BytesIO(content)


# The index ---------------------------------------------------------------------------------------------------------------


def read_all(shards: list[str], read: Callable[[str], Index]) -> list[Index]:
    """The index of each shard, read by this process."""
    return [read(shard) for shard in told_each_minute(shards, "image-shards: indexed {} of {} shards")]


def load_shard_index(shard: str) -> Index:
    """Offset, size and label of every image in a shard: kept beside it, or in the user's cache, until the shard changes."""
    columns = ("offset", "size", "label")
    version, path = shard_version(shard), index_path(shard)
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["stamp"]) == version:
                return {name: file[name] for name in columns}
    except (OSError, ValueError, KeyError, EOFError):
        pass  # none yet, or damaged: written again
    samples = np.array(list(scan_shard(shard)), dtype=np.int64).reshape(-1, 3)
    index = {name: samples[:, k].copy() for k, name in enumerate(columns)}
    file = io.BytesIO()
    np.savez(file, stamp=np.array(version), **index)  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_stream(path, [file.getvalue()])
    except OSError:
        pass  # a read-only place: the shard is scanned again next time
    return index


def shard_version(shard: str) -> str:
    """What changes when a shard does."""
    try:
        return file_version(*resolve_url(shard))
    except FileNotFoundError:
        raise FileNotFoundError(f"no shard {shard}, which the list of shards names") from None


def index_path(shard: str) -> Path:
    if not REMOTE_URL.match(shard) and os.access(Path(shard).parent, os.W_OK):
        return Path(shard).with_name(f".{Path(shard).name}.index.npz")
    return user_cache() / "shards" / f"{hashlib.sha256(shard.encode()).hexdigest()[:32]}.npz"


def scan_shard(shard: str) -> Iterator[tuple[int, int, int]]:
    """Offset, size and label of the images of a tar file, in its order.

    Raises:  ValueError, with the byte offset, for anything but a plain tar file of samples
    """
    system, path = resolve_url(shard)
    total, known_keys = system.info(path)["size"], set()
    with system.open(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for key, members in itertools.groupby(iter_files(shard, archive, total), key=lambda info: split_name(info)[0]):
                    if key in known_keys:
                        raise ValueError(f"{shard}: the key {key!r} is there twice; keys are unique")
                    known_keys.add(key)
                    yield read_sample(shard, archive, key, members)
        except tarfile.TarError as error:
            raise ValueError(f"{shard}, byte {file.tell():,}: no whole tar file ({error}); get the shard again") from None


def iter_files(shard: str, archive: tarfile.TarFile, total: int) -> Iterator[tarfile.TarInfo]:
    """The plain files of a tar file of `total` bytes.

    Raises:  ValueError for a link, a device, a name that leads elsewhere, or a size beyond the end
    """
    for info in archive:
        archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
        if info.isdir():
            continue
        where = f"{shard}, byte {info.offset:,}: {info.name!r}"
        if not info.isreg() or info.issparse():
            raise ValueError(f"{where} is a link, a device or sparse, not a plain file")
        if info.name.startswith("/") or ".." in info.name.split("/"):
            raise ValueError(f"{where} leads out of the folder")
        if info.size < 0 or info.offset_data + info.size > total:
            raise ValueError(f"{where} promises {info.size:,} bytes, more than the shard holds; get it again")
        yield info


def split_name(info: tarfile.TarInfo) -> tuple[str, str]:
    """The key and the suffix of a file: ("a/b", ".seg.png") of a/b.seg.png."""
    folder, _, name = info.name.rpartition("/")
    stem, dot, suffix = name.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


def read_sample(shard: str, archive: tarfile.TarFile, key: str, members: Iterable[tarfile.TarInfo]) -> tuple[int, int, int]:
    """Offset, size and label of the image in the files of one key.

    Raises:  ValueError where the image or the label is missing, or there are two images
    """
    image = label = None
    for info in members:
        suffix = split_name(info)[1]
        if suffix in SUFFIXES:
            if image is not None:
                raise ValueError(f"{shard}, byte {info.offset:,}: {key!r} has two images; give each a key of its own")
            image = (info.offset_data, info.size)
        elif suffix in LABEL_SUFFIXES:
            label = read_label(shard, archive, info)
    if image is None or label is None:
        lacks = "image" if image is None else "label (.cls or .json)"
        raise ValueError(f"{shard}: the sample {key.lstrip('/')!r} has no {lacks}")
    return (*image, label)


def read_label(shard: str, archive: tarfile.TarFile, info: tarfile.TarInfo) -> int:
    where = f"{shard}, byte {info.offset:,}: {info.name!r}"
    if info.size > MAX_LABEL_BYTES:
        raise ValueError(f"{where} takes {info.size:,} bytes; a label takes a few")
    content = archive.extractfile(info)
    assert content is not None, "of a plain file"
    text = content.read().decode("ascii", "replace").strip()
    try:
        if not info.name.lower().endswith(".json"):
            return int(text)
        fields = json.loads(text)
        label = fields.get("cls", fields.get("label"))
        if isinstance(label, bool) or not isinstance(label, int):
            raise ValueError
        return label
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"{where} is no label: {text[:40]!r}; a whole number, or JSON with cls or label") from None
