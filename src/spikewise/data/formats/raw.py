"""The bytes of a recording's file, and the sentence that refuses one."""

import stat
from pathlib import Path

import numpy as np

from ..events import Events

MAPPED_FROM = 1 << 22  # bytes; below, reading costs less than mapping
HEADER = 1 << 24  # bytes; jAER's headers, with all its preferences, have a few hundred thousand


def refusal(path: Path, at: int, what: str) -> ValueError:
    """Why a file is refused, in one line.

    at:    the byte where it went wrong
    what:  what was found there, what is allowed, what to do
    """
    return ValueError(f"{shown(path)}: byte {at:,}: {what}")


def shown(path: Path) -> str:
    """A path in one line, whatever its name has in it."""
    return str(path) if str(path).isprintable() else repr(str(path))


def file_size(path: Path) -> int:
    """Bytes of a file.

    Raises:  FileNotFoundError; OSError for what is no file (a folder, a pipe)
    """
    try:
        about = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"no recording {shown(path)}; check the path") from None
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{shown(path)} is no file; name a recording's file")
    return about.st_size


def raw_bytes(path: Path) -> np.ndarray:
    """A file's bytes, uint8 [n]: read, or where they are many, mapped.

    Raises:  as `file_size`
    """
    if file_size(path) < MAPPED_FROM:
        return np.fromfile(path, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def text_header(path: Path, mark: bytes, end: bytes = b"") -> tuple[list[bytes], int]:
    """The lines at the start of a file that begin with `mark`, without their ends, and the byte behind them.

    end:     a line that ends the header, whatever follows it; empty: there is none
    Raises:  ValueError for a header without an end
    """
    lines: list[bytes] = []
    at = 0
    with path.open("rb") as file:
        while (line := file.readline(HEADER)).startswith(mark):
            if not line.endswith(b"\n") or at > HEADER:
                raise refusal(path, at, "a header line has no end; the file was cut or damaged, bring it again")
            at += len(line)
            lines.append(line.rstrip(b"\r\n"))
            if lines[-1] == end:
                break
    return lines, at


def require_inside(events: Events, path: Path) -> Events:
    """The events, if all lie on the sensor.

    Raises:  ValueError that names the first one outside
    """
    height, width = events.size
    if len(events) and (int(events.x.max()) >= width or int(events.y.max()) >= height):
        first = int(np.argmax((events.x >= width) | (events.y >= height)))
        raise ValueError(
            f"{shown(path)}: event {first} lies at x={events.x[first]}, y={events.y[first]}, outside the sensor of "
            f"{width} x {height} pixels; give the camera's size, or the file is damaged"
        )
    return events
