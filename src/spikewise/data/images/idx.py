"""The idx files of MNIST and similar data sets, plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes of any number of dimensions, from `path` or from `path`.gz.

    Raises:  FileNotFoundError; ValueError for a damaged file
    """
    packed = path.with_name(path.name + ".gz")
    file = path if path.is_file() else packed
    if not file.is_file():
        raise FileNotFoundError(f"neither {path} nor {packed.name} beside it exists")
    with file.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(file) if is_packed else file.open("rb") as stream:
            start = stream.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] != UNSIGNED_BYTE or not start[3]:
                raise ValueError(f"{file} is no idx file of unsigned bytes: it begins with {start.hex(' ') or 'nothing'}")
            header = stream.read(4 * start[3])
            if len(header) < 4 * start[3]:
                raise ValueError(f"{file} ends within its header, after {4 + len(header)} bytes; download it again")
            shape = [int(n) for n in np.frombuffer(header, dtype=">u4")]
            # one byte more than promised, so that a file that is too long is noticed without reading it all
            content = stream.read(min(math.prod(shape), 2000 * file.stat().st_size) + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{file} is damaged: {error}; download it again") from None
    if len(content) != math.prod(shape):
        found = "more" if len(content) > math.prod(shape) else f"{len(content):,}"
        raise ValueError(f"{file} holds {found} of the {math.prod(shape):,} bytes that its header promises; download it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
