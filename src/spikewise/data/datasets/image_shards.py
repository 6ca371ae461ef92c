"""Images in tar files, in WebDataset's layout, local or remote."""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Unpack

import numpy as np

from ... import disk
from ..dataset import DatasetEntry, require_labels, require_split
from ..files import find_folder
from ..images.photographs import ImageFiles, View
from ..images.shards import ShardEntries, Share, load_shard_index, open_entry, read_all, read_bytes
from ..inspection import Track, require_readable
from ..remote import REMOTE_URL
from ..sampler import rng_from
from .image_folder import SPLIT_FOLDERS, image_folder

SHARD_LIST = "shards.json"  # names of the tar files of each split, and of the classes


def image_shards(split: str, root: str | Path | None = None, *, share: Share = read_all, **view: Unpack[View]) -> ImageFiles:
    """Images in tar files: ROOT/shards.json has {"train": ["train-{000000..000146}.tar"], "val": [...], "classes": [...]}.

    Images are read upright and on black, as those of `image_folder`; ImageNet's, too, of which a few are turned.

    root:    a folder, or a URL that fsspec reads, such as https://example.org/imagenet; the names are relative to it
    split:   "train", or "test", which is "val" or "test" in the list
    share:   how several processes read the index together, so that each opens a part of the tar files
    view:    size, crop_scale, mean, std of `ImageFiles`
    Raises:  FileNotFoundError, OSError; ValueError for a list or a tar file that is damaged or hostile, with the byte offset
    """
    require_split(split, "image-shards")
    base = str(root or "")
    if not REMOTE_URL.match(base):
        hint = f"write {SHARD_LIST}, or make shards with `spikewise data shard`"
        base = str(find_folder(root, "image-shards", SHARD_LIST, hint))
    shard_lists = read_shard_list(base)
    part = next((part for part in SPLIT_FOLDERS[split] if part in shard_lists), None)
    if part is None:
        raise ValueError(f"{base}/{SHARD_LIST} names no shards for the {split} split")
    shards = list_shards(base, shard_lists[part])
    indexes = share(shards, load_shard_index)
    labels = np.concatenate([index["label"] for index in indexes])
    classes = shard_lists.get("classes") or list(map(str, range(count_classes(base, shard_lists, share))))
    require_labels(labels, len(classes), base)
    files = ShardEntries(
        tuple(shards),
        np.repeat(np.arange(len(shards), dtype=np.int32), [len(index["label"]) for index in indexes]),
        np.concatenate([index["offset"] for index in indexes]),
        np.concatenate([index["size"] for index in indexes]),
    )
    return ImageFiles("image-shards", files, labels, tuple(classes), open_entry, **view)


def count_classes(base: str, shard_lists: dict[str, list[str]], share: Share) -> int:
    """One more than the largest label of the train split."""
    labels = [index["label"] for index in share(list_shards(base, shard_lists.get("train", [])), load_shard_index)]
    return 1 + max((int(found.max(initial=-1)) for found in labels), default=-1)


def read_shard_list(base: str) -> dict[str, list[str]]:
    """The content of BASE/shards.json.

    Raises:  ValueError for anything but lists of names by split; OSError
    """
    location = f"{base}/{SHARD_LIST}"
    try:
        shard_lists = json.loads(read_bytes(location))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{location} is no JSON: {error}") from None
    lists = shard_lists.values() if isinstance(shard_lists, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError(f'{location} should be {{"train": [names], "val": [names], "classes": [names]}}')
    for name in (name for part, names in shard_lists.items() if part != "classes" for name in names):
        if name.startswith(("/", "..")) or "/.." in name or REMOTE_URL.match(name):
            raise ValueError(f"{location}: {name!r} leads elsewhere; names are relative to the list")
    return shard_lists


def list_shards(base: str, patterns: list[str]) -> list[str]:
    return [f"{base}/{name}" for pattern in patterns for name in expand_braces(pattern)]


def expand_braces(pattern: str) -> list[str]:
    """All names of a pattern: a-{000..002}.tar is a-000.tar, a-001.tar, a-002.tar."""
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not braces:
        return [pattern]
    first, last, width = int(braces[1]), int(braces[2]), len(braces[1])
    if not 0 <= last - first < 1_000_000:
        raise ValueError(f"{pattern!r} names {last - first + 1:,} shards; give 1 to 1,000,000, the first number first")
    return [f"{pattern[: braces.start()]}{i:0{width}}{pattern[braces.end() :]}" for i in range(first, last + 1)]


def write_shards(
    source: str | Path,
    folder: str | Path,
    *,
    megabytes: int = 256,
    class_order: str = "natural",
    track: Track = lambda facts, total: facts,
    processes: int = 1,
) -> Path:
    """Shards of a folder of images by class: every image once, its bytes unchanged, in an order drawn with a fixed seed.

    All images are read before anything is written.

    megabytes:    approximate size of a shard, 1 to 100,000
    class_order:  as of `image_folder`; shards.json keeps it
    track:        as of `check_folder`, for each split when it is read and when it is written; processes, too
    Returns:      the path of shards.json, which is written last
    Raises:       ValueError for another size, or an image that training would refuse; what `image_folder` raises; OSError
    """
    if not 1 <= megabytes <= 100_000:
        raise ValueError(f"megabytes={megabytes}; use 1 to 100,000")
    folder, shard_lists = Path(folder), {}
    splits = {
        part: image_folder(split, source, class_order=class_order) for part, split in (("train", "train"), ("val", "test"))
    }
    for data in splits.values():
        require_readable(data.files, track, processes)
    folder.mkdir(parents=True, exist_ok=True)
    for split, data in splits.items():
        order = rng_from(0, f"shards/{split}").permutation(len(data))
        sizes = np.array([data.files[i].stat().st_size + 2048 for i in order])
        shard_numbers, begins = np.unique(np.cumsum(sizes) // (megabytes * 10**6), return_index=True)
        shard_lists[split] = [f"{split}-{shard:06}.tar" for shard in range(len(shard_numbers))]
        samples = iter(track(enumerate(order), len(order)))
        for name, begin, end in zip(shard_lists[split], begins, [*begins[1:], len(order)], strict=True):
            disk.write_stream(folder / name, iter_tar_bytes(data, islice(samples, end - begin)))
        next(samples, None)  # ends the progress that is shown
    shard_lists["classes"] = list(data.class_names)
    disk.atomic_write(folder / SHARD_LIST, (json.dumps(shard_lists, indent=1) + "\n").encode())
    return folder / SHARD_LIST


def iter_tar_bytes(data: ImageFiles, samples: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of a tar file of samples (key, index), one at a time: the same on every machine."""
    for key, i in samples:
        file = data.files[i]
        for suffix, content in ((file.suffix.lower(), file.read_bytes()), (".cls", str(int(data.labels[i])).encode())):
            info = tarfile.TarInfo(f"{key:09}{suffix}")
            info.size = len(content)
            yield info.tobuf(tarfile.USTAR_FORMAT) + content + b"\0" * (-len(content) % 512)
    yield b"\0" * 1024


ENTRY = DatasetEntry(
    image_shards,
    "images in tar files, local or remote: shards.json; spikewise data shard",
    variable_size=True,
    shares_index=True,
)
