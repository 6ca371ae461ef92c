"""HDF5 files of others: nothing is read that lies outside the file, or that is far larger than the file."""

import contextlib
import importlib
import math
import mmap
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

GZIP_FILTER, LZF_FILTER, BLOSC_FILTER = 1, 32000, 32001  # numbers of HDF5's filters
FILTER_NAMES = {
    4: "SZIP", 307: "bzip2", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP", 32015: "Zstandard",
    32024: "SZ3", 32026: "Blosc2", 36559: "Prophesee's ECF",
}  # fmt: skip
ECF_FILTER = 36559
INSTALL_PLUGINS = "pip install hdf5plugin"
INSTALL_ECF = (
    "install Prophesee's codec (https://github.com/prophesee-ai/hdf5_ecf) and set HDF5_PLUGIN_PATH to its folder, or "
    "convert the file with Metavision (metavision_file_to_dat)"
)


def get_child(h5py: Any, node: Any, name: str) -> Any:
    """A group's member, or None; never what a link points to: it may be another file, or a pipe."""
    if not isinstance(node, h5py.Group) or name not in node.keys():  # noqa: SIM118  `in` of a group follows links
        return None
    if not isinstance(node.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} lies elsewhere: copy what it points to into the file")
    return node[name]


def read_dataset(node: Any, file_bytes: int, max_expansion: int) -> np.ndarray:
    """An HDF5 dataset in memory, unless that would take far more than the file holds.

    max_expansion:  how many times the file's bytes it may take; gzip at its best makes a thousandth
    Raises:         ValueError; ImportError for a compression that is not installed
    """
    if node.is_virtual or node.external:
        raise ValueError(f"{node.name} lies elsewhere: copy what it points to into the file")
    if node.dtype.hasobject:
        raise ValueError(f"{node.name} holds objects")
    chunk = math.prod(node.chunks) * node.dtype.itemsize if node.chunks else 0
    if (required := max(node.nbytes, chunk)) > max_expansion * max(file_bytes, 4096):
        raise ValueError(f"{node.name} would take {required:,} bytes, {required // max(file_bytes, 1)} times the file's")
    if node.chunks:
        plan = node.id.get_create_plist()
        filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
        require_filters(node.name, filters)
        require_bounded_chunks(node, filters, chunk)
    return np.asarray(node[()])


def require_filters(name: str, filters: list[int]) -> None:
    """Refuse what is packed in a way that this HDF5 can't unpack, also with the package hdf5plugin where it is installed.

    Raises:  ImportError that names the way, and says what to install
    """
    h5z = importlib.import_module("h5py").h5z

    if not all(map(h5z.filter_avail, filters)):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")
    for number in filters:
        if not h5z.filter_avail(number):
            remedy = INSTALL_ECF if number == ECF_FILTER else INSTALL_PLUGINS
            known = FILTER_NAMES.get(number, "an unknown filter")
            raise ImportError(f"{name} is packed with {known} (HDF5 filter {number}), which is not installed: {remedy}")


def require_bounded_chunks(node: Any, filters: list[int], chunk: int) -> None:
    """Refuse chunks that unpack to more than a chunk: HDF5 allocates whatever they claim."""
    compressions = [number for number in filters if number in (GZIP_FILTER, LZF_FILTER, BLOSC_FILTER)]
    if len(compressions) > 1:
        raise ValueError(f"{node.name} is packed more than once; write it with one compression")
    if not compressions or compressions == [LZF_FILTER]:  # LZF at its best makes a 90th
        return
    for k in range(node.id.get_num_chunks()):
        skipped, content = node.id.read_direct_chunk(node.id.get_chunk_info(k).chunk_offset)
        if skipped >> filters.index(compressions[0]) & 1:
            continue
        if compressions == [GZIP_FILTER]:
            unpacked = len(zlib.decompressobj().decompress(content, chunk + 1))
        else:
            unpacked = int.from_bytes(content[4:8], "little")  # Blosc's header says it
        if unpacked > chunk:
            raise ValueError(f"a chunk of {node.name} unpacks to more than its {chunk:,} bytes; it is damaged")


HEAP = b"GCOL\x01\0\0\0"  # where words are kept: a collection, its size, then objects of index, count, 0, size
HEAP_OBJECT = struct.Struct("<HHIQ")


def require_sound_heaps(path: Path) -> None:
    """Refuse a file whose words lie in a damaged heap: HDF5 would look for its end forever.

    Raises:  ValueError with the place; also for an empty file
    Source:  HDF5 File Format Specification 3.0, III.E, Global Heap
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(HEAP)
        while at >= 0:
            place, end = at + 16, at + int.from_bytes(content[at + 8 : at + 16], "little")
            while end <= len(content) and place + HEAP_OBJECT.size <= end:
                index, _, _, size = HEAP_OBJECT.unpack_from(content, place)
                step = HEAP_OBJECT.size + -(-size // 8) * 8 if index else size
                if not step or place + step > end:
                    break
                place += step
            if not place <= end <= len(content) or end - place >= HEAP_OBJECT.size:
                raise ValueError(f"its words at byte {at:,} are damaged")
            at = content.find(HEAP, at + 8)
