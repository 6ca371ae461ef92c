"""Images in tar files, in WebDataset's layout, local or remote: any of them at any time, by an index.

A sample is a few files in a row that share a key: KEY.jpg (or .png, .webp, .bmp) and KEY.cls, its label in digits (or KEY.json
with "cls" or "label"). Nothing is unpacked: a sample is read from the bytes where the index says it lies, so that the order
stays a function of (seed, epoch), as for any other data set.
"""

import functools
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import fsspec
import numpy as np

from ... import disk
from ..dataset import find_folder, require_split
from ..images.photographs import SIZE, Photographs
from ..sampler import generator
from .image_folder import SUFFIXES, image_folder

LIST = "shards.json"  # names of the tar files of each split, and of the classes
LABELS = (".cls", ".json")
SMALL = 65_536  # bytes that a label may take
REMOTE = re.compile(r"[a-z0-9+]+://")


class Entry(NamedTuple):
    """Where an image lies."""

    shard: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}, byte {self.offset:,},"


class Entries(Sequence[Entry]):
    """The images of many shards, in three arrays."""

    def __init__(self, shards: Sequence[str], number: np.ndarray, offset: np.ndarray, size: np.ndarray):
        self.shards, self.number, self.offset, self.size = tuple(shards), number, offset, size

    def __len__(self) -> int:
        return len(self.number)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return Entry(self.shards[self.number[index]], int(self.offset[index]), int(self.size[index]))


def image_shards(split: str, root: str | Path | None = None, *, size: int = SIZE) -> Photographs:
    """Images in tar files: ROOT/shards.json has {"train": ["train-{000000..000146}.tar"], "val": [...], "classes": [...]}.

    root:    a folder, or an address that fsspec reads, such as https://example.org/imagenet; the names are relative to it
    split:   "train", or "test", which is "val" or "test" in the list
    Raises:  FileNotFoundError, OSError; ValueError for a list or a tar file that is damaged or hostile, with the byte
    """
    require_split(split, "image-shards")
    place = str(root) if root is not None else None
    if place is None or not REMOTE.match(place):
        place = str(find_folder(root, "image-shards", LIST, f"write {LIST}, or make shards with `spikewise data shard`"))
    listed = read_list(place)
    part = next((part for part in (("train",) if split == "train" else ("val", "test")) if part in listed), None)
    if part is None:
        raise ValueError(f"{place}/{LIST} names no shards for the {split} split")
    shards = [f"{place}/{name}" for pattern in listed[part] for name in expand(pattern)]
    found = [index_of(shard) for shard in shards]
    labels = np.concatenate([index["label"] for index in found])
    classes = listed.get("classes") or [str(i) for i in range(number_of_classes(place, listed))]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        at = int(np.argmax((labels < 0) | (labels >= len(classes))))
        raise ValueError(f"{place}: sample {at:,} has the label {int(labels[at])}; there are {len(classes)} classes")
    return Photographs(
        name="image-shards",
        files=Entries(
            shards,
            np.repeat(np.arange(len(shards), dtype=np.int32), [len(index["label"]) for index in found]),
            np.concatenate([index["offset"] for index in found]),
            np.concatenate([index["size"] for index in found]),
        ),
        labels=labels,
        class_names=tuple(classes),
        open=open_entry,
        size=size,
    )


def number_of_classes(place: str, listed: dict[str, list[str]]) -> int:
    """One more than the largest label of the train split."""
    labels = [index_of(f"{place}/{name}")["label"] for pattern in listed.get("train", []) for name in expand(pattern)]
    return 1 + max((int(found.max(initial=-1)) for found in labels), default=-1)


def read_list(place: str) -> dict[str, list[str]]:
    """What ROOT/shards.json says.

    Raises:  ValueError for anything but lists of names by split; OSError
    """
    where = f"{place}/{LIST}"
    try:
        listed = json.loads(read_bytes(where))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
    names = listed.values() if isinstance(listed, dict) else [None]
    if not all(isinstance(of, list) and all(isinstance(name, str) for name in of) for of in names):
        raise ValueError(f'{where} should be {{"train": [names], "val": [names], "classes": [names]}}')
    for name in (name for part, of in listed.items() if part != "classes" for name in of):
        if name.startswith(("/", "..")) or "/.." in name or REMOTE.match(name):
            raise ValueError(f"{where}: {name!r} leads elsewhere; names are relative to the list")
    return listed


def expand(pattern: str) -> list[str]:
    """All names of a pattern: a-{000..002}.tar is a-000.tar, a-001.tar, a-002.tar."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    first, last, width = int(found[1]), int(found[2]), len(found[1])
    if not 0 <= last - first < 1_000_000:
        raise ValueError(f"{pattern!r} names {last - first + 1:,} shards; give 1 to 1,000,000, the first number first")
    return [f"{pattern[: found.start()]}{i:0{width}}{pattern[found.end() :]}" for i in range(first, last + 1)]


# Reading -----------------------------------------------------------------------------------------------------------------


@functools.cache
def filesystem(protocol: str) -> Any:
    """The file system behind an address, once per process."""
    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise ValueError(f"{protocol}:// needs another package: {error}; pip install 'spikewise[remote]'") from None


def split_address(address: str) -> tuple[Any, str]:
    """The file system and the path in it."""
    protocol = address.partition("://")[0] if REMOTE.match(address) else "file"
    system = filesystem(protocol)
    return system, system._strip_protocol(address)


def read_bytes(address: str, start: int | None = None, end: int | None = None) -> bytes:
    system, path = split_address(address)
    try:
        content = system.cat_file(path, start=start, end=end)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # each protocol has its own
        raise OSError(f"{address} can't be read: {' '.join(str(error).split()) or type(error).__name__}") from None
    if start is not None and end is not None and len(content) > end - start:  # of a server that sends all whatever is asked
        content = content[start:end]
    return bytes(content)


def open_entry(entry: Entry) -> BinaryIO:
    """The bytes of an image."""
    content = read_bytes(entry.shard, entry.offset, entry.offset + entry.size)
    if len(content) != entry.size:
        raise ValueError(f"{entry} has {len(content):,} of {entry.size:,} bytes; get the shard again")
    return io.BytesIO(content)


# The index ---------------------------------------------------------------------------------------------------------------


def index_of(shard: str) -> dict[str, np.ndarray]:
    """Offset, size and label of every image in a shard: kept beside it, or in the user's cache, until the shard changes."""
    stamp, kept = stamp_of(shard), place_of_index(shard)
    try:
        with np.load(kept, allow_pickle=False) as file:
            if str(file["stamp"]) == stamp:
                return {name: file[name] for name in ("offset", "size", "label")}
    except (OSError, ValueError, KeyError, EOFError):
        pass  # none yet, or a damaged one: made again
    columns = list(zip(*samples_in(shard), strict=True)) or [(), (), ()]
    index = {name: np.array(column, dtype=np.int64) for name, column in zip(("offset", "size", "label"), columns, strict=True)}
    file = io.BytesIO()
    np.savez(file, stamp=np.array(stamp), **index)  # type: ignore[arg-type]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        disk.write_stream(kept, [file.getvalue()])
    except OSError:
        pass  # a read-only place: made again next time
    return index


def stamp_of(shard: str) -> str:
    """What changes when a shard does: its size, and its time or what a server calls its version."""
    system, path = split_address(shard)
    try:
        about = system.info(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"no shard {shard}; {LIST} names it") from None
    return "|".join(str(about.get(key, "")) for key in ("size", "mtime", "ETag", "etag", "last_modified", "created"))


def place_of_index(shard: str) -> Path:
    if not REMOTE.match(shard) and os.access(Path(shard).parent, os.W_OK):
        return Path(shard).with_name(f".{Path(shard).name}.index.npz")
    cache = Path(
        os.environ.get("SPIKEWISE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikewise"
    )
    return cache / "shards" / f"{hashlib.sha256(shard.encode()).hexdigest()[:32]}.npz"


def samples_in(shard: str) -> Iterator[tuple[int, int, int]]:
    """Offset, size and label of the images of a tar file, in its order.

    Raises:  ValueError, with the byte, for what is no plain tar file of samples
    """
    system, path = split_address(shard)
    total, known, key, image, label = system.info(path)["size"], set(), "", None, None
    with system.open(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
                    if info.isdir():
                        continue
                    require_plain(shard, info, total)
                    folder, _, name = info.name.rpartition("/")
                    stem, dot, ending = name.partition(".")
                    here = f"{folder}/{stem}"
                    if here != key:
                        if key:
                            yield whole(shard, key, image, label)
                        if here in known:
                            raise ValueError(f"{shard}, byte {info.offset:,}: the key {here!r} is there twice; keys are unique")
                        known.add(here)
                        key, image, label = here, None, None
                    ending = (dot + ending).lower()
                    if ending in SUFFIXES:
                        if image is not None:
                            raise ValueError(
                                f"{shard}, byte {info.offset:,}: {here!r} has two images; give each a key of its own"
                            )
                        image = (info.offset_data, info.size)
                    elif ending in LABELS:
                        label = read_label(shard, archive, info)
                if key:
                    yield whole(shard, key, image, label)
        except tarfile.TarError as error:
            raise ValueError(f"{shard}, byte {file.tell():,}: no whole tar file ({error}); get the shard again") from None


def require_plain(shard: str, info: tarfile.TarInfo, total: int) -> None:
    at = f"{shard}, byte {info.offset:,}: {info.name!r}"
    if not info.isreg() or info.issparse():
        raise ValueError(f"{at} is a link, a device or sparse, no plain file")
    if info.name.startswith("/") or ".." in info.name.split("/"):
        raise ValueError(f"{at} leads out of the folder")
    if info.size < 0 or info.offset_data + info.size > total:
        raise ValueError(f"{at} promises {info.size:,} bytes, more than the shard holds; get it again")


def read_label(shard: str, archive: tarfile.TarFile, info: tarfile.TarInfo) -> int:
    at = f"{shard}, byte {info.offset:,}: {info.name!r}"
    if info.size > SMALL:
        raise ValueError(f"{at} takes {info.size:,} bytes; a label takes a few")
    content = archive.extractfile(info)
    assert content is not None, "of a plain file"
    text = content.read().decode("ascii", "replace").strip()
    try:
        if info.name.lower().endswith(".json"):
            about = json.loads(text)
            label = about.get("cls", about.get("label"))
            if isinstance(label, bool) or not isinstance(label, int):
                raise ValueError
            return label
        return int(text)
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"{at} is no label: {text[:40]!r}; a whole number, or JSON with cls or label") from None


def whole(shard: str, key: str, image: tuple[int, int] | None, label: int | None) -> tuple[int, int, int]:
    if image is None or label is None:
        lacks = "image" if image is None else "label (.cls or .json)"
        raise ValueError(f"{shard}: the sample {key.lstrip('/')!r} has no {lacks}")
    return (*image, label)


# Writing -----------------------------------------------------------------------------------------------------------------


def write_shards(source: str | Path, folder: str | Path, *, megabytes: int = 256) -> Path:
    """Shards of a folder of images by class: every image once, as it is, in an order drawn once and for all.

    megabytes:  about how large a shard becomes
    Returns:    the list, shards.json, written last
    Raises:     ValueError for other sizes than 1 to 100,000; what `image_folder` raises; OSError
    """
    if not 1 <= megabytes <= 100_000:
        raise ValueError(f"megabytes={megabytes}; use 1 to 100,000")
    folder, listed = Path(folder), {}
    parts = {"train": image_folder("train", source), "val": image_folder("test", source)}  # refused before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    for part, data in parts.items():
        order = generator(0, f"shards/{part}").permutation(len(data))
        sizes = np.array([data.files[i].stat().st_size + 2048 for i in order])
        number = np.cumsum(sizes) // (megabytes * 10**6)
        listed[part] = [f"{part}-{shard:06}.tar" for shard in range(len(np.unique(number)))]
        for name, value in zip(listed[part], np.unique(number), strict=True):
            chosen = order[number == value]
            disk.write_stream(folder / name, tar_of(data, chosen, int(np.argmax(number == value))))
    disk.atomic_write(folder / LIST, (json.dumps(listed | {"classes": list(data.class_names)}, indent=1) + "\n").encode())
    return folder / LIST


def tar_of(data: Photographs, chosen: np.ndarray, first: int) -> Iterator[bytes]:
    """The bytes of a tar file, a sample at a time: the same ones on every machine."""
    for place, i in enumerate(chosen, start=first):
        file = data.files[i]
        for ending, content in ((file.suffix.lower(), file.read_bytes()), (".cls", str(int(data.labels[i])).encode())):
            info = tarfile.TarInfo(f"{place:09}{ending}")
            info.size = len(content)
            yield info.tobuf(tarfile.USTAR_FORMAT) + content + b"\0" * (-len(content) % 512)
    yield b"\0" * 1024
