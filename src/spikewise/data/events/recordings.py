"""Event recordings as samples: read, cut into frames when they are asked for, and kept as frames where that is wanted."""

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from .events import Events
from .frames import FRAMES

CACHE = ".frames"  # folder of kept frames, in that of the recordings


class Files(Sequence[Path]):
    """Files under one folder, in two arrays: a list of paths would be copied into every worker, object by object.

    names:   relative to the folder, or below it
    Raises:  ValueError for one that lies elsewhere
    """

    def __init__(self, root: Path, names: Iterable[str | Path]):
        self.root = root
        letters, ends = bytearray(), array("q")
        for name in names:
            letters += os.fsencode(Path(name).relative_to(root) if os.fspath(name).startswith("/") else name)
            ends.append(len(letters))
        self.ends, self.letters = np.frombuffer(ends, dtype=np.int64), np.frombuffer(letters, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, index: int) -> str:
        """The name relative to the folder."""
        index = range(len(self))[index]
        begin = self.ends[index - 1] if index else 0
        return os.fsdecode(self.letters[begin : self.ends[index]].tobytes())

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.root / self.name(index)


@dataclass(frozen=True)
class Recordings:
    """A split of a data set of event recordings.

    files:        what `read` takes, one for each recording; `Files`, where there are many or frames are kept
    labels:       [N] int64
    T:            frames per recording
    read:         a function that returns the Events of one of `files`
    rule:         how a recording is cut: "count", equally many events, or "duration", equal shares of its time
    cache:        a folder where frames are kept, in the smallest type that holds them; None: they are made anew each time
    Raises:       ValueError for another rule, or files and labels of different numbers
    """

    name: str
    files: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    T: int
    read: Callable[[Any], Events]
    rule: str = "count"
    cache: Path | None = None
    in_channels: int = 2

    def __post_init__(self):
        if self.rule not in FRAMES:
            raise ValueError(f"no rule named {self.rule!r} for frames; use {' or '.join(FRAMES)}")
        if len(self.files) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.files):,} recordings and {len(self.labels):,} labels do not fit together")

    def __len__(self) -> int:
        return len(self.files)

    def sample(self, index: int) -> np.ndarray:
        """Frames [T, 2, H, W]: counts of events, float32."""
        return self.frames(index).astype(np.float32)

    def frames(self, index: int) -> np.ndarray:
        """Frames [T, 2, H, W]: counts of events, in the smallest type of unsigned whole numbers that holds them."""
        if self.cache is None:
            return self.made(index)
        assert isinstance(self.files, Files), "frames are kept under the names of files"
        kept = self.cache / f"{self.T}-{self.rule}" / f"{self.files.name(index)}.npy"
        stamp = stamp_of(self.files[index])
        frames = kept_frames(kept, stamp)
        if frames is None:
            frames = self.made(index)
            keep(kept, frames, stamp)
        return frames

    def made(self, index: int) -> np.ndarray:
        """Frames from the recording itself."""
        file = self.files[index]
        events = self.read(file)
        try:
            counts = FRAMES[self.rule](events, self.T)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def stamp_of(file: Path) -> bytes:
    """What stands behind kept frames: 16 bytes that tell whether the recording has changed since."""
    about = file.stat()
    return np.array([about.st_size, about.st_mtime_ns], dtype="<i8").tobytes()


def kept_frames(path: Path, stamp: bytes) -> np.ndarray | None:
    """The frames that were kept, if they are whole and of this recording."""
    try:
        with path.open("rb") as file:
            frames = np.load(file)
            return frames if file.read() == stamp else None
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        return None


def keep(path: Path, frames: np.ndarray, stamp: bytes) -> None:
    """Write frames beside, then rename: whoever reads finds whole ones or none."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                np.save(file, frames)
                file.write(stamp)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(
            error.errno, f"frames can't be kept as {path}: {error.strerror}; make room, or set data.cache to False"
        ) from None
