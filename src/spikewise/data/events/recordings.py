"""Event recordings as samples: read and binned into frames when asked for; frames are cached on disk where wanted."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...wording import count
from ..class_folders import describe_skipped
from ..dataset import MapStyleDataset
from ..files import PathArray
from ..messages import notice
from ..sampler import rng_from
from .downsample import Crop, downsample
from .events import Events
from .formats import SHOWN_SUFFIXES, may_be_recording
from .formats.sensor import Size
from .frames import FrameSpec, clip_counts, smallest_type

CACHE_FOLDER = ".frames"  # of cached frames, in the folder of the recordings
# raise it where a reader gives other events than before: 2, DVS128 upright, clocks mended; 3, DAVIS upright; 4, sorted by time
READERS_VERSION = 4
_SAID: set[tuple[str, str]] = set()  # names of data sets, and what was said of their recordings, once per process


@dataclass(frozen=True)
class EventDataset(MapStyleDataset):
    """A split of a data set of event recordings.

    files:     arguments for `read`, one per recording; a `PathArray` where there are many, or frames are cached
    labels:    [N] int64
    T:         frames per recording
    read:      a function that returns the Events of one of `files`
    split_by:  how events are divided into frames: "count", equally many in each, or "duration", equal time for each
    size:      (height, width) of the frames in pixels, or the side of a square; None: the sensor's, or the crop's
    crop:      what is kept of the sensor before: see `downsample`
    max_count: of events in a pixel of a frame; larger counts become it; 0: no limit
    cache:     a folder for cached frames, in the smallest type that holds them; None: they are computed each time
    options:   further fields of `FrameSpec`: representation, time_window, event_count, tau, filter
    reading:   what was said to `read` of recordings, by name, on which cached frames depend
    Raises:    ValueError for what `FrameSpec` refuses, or files and labels of different numbers
    """

    name: str
    files: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    T: int
    read: Callable[[Any], Events]
    split_by: str = "count"
    cache: Path | None = None
    in_channels: int = 2
    size: int | Size | None = None
    crop: Crop = "none"
    max_count: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        _ = self.frame_spec
        if len(self.files) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.files):,} recordings and {len(self.labels):,} labels do not match")

    @property
    def frame_spec(self) -> FrameSpec:
        """How recordings become frames."""
        return FrameSpec(self.T, self.split_by, **self.options)

    def sample(self, index: int) -> np.ndarray:
        """Frames [T, 2, H, W], float32."""
        return self.frames(index).astype(np.float32, copy=False)

    @property
    def sensor(self) -> Size:
        """(height, width) of the sensor in pixels, before size and crop."""
        return self.read(self.files[0]).size

    def frames(self, index: int) -> np.ndarray:
        """Frames [T, 2, H, W]: counts of events in the smallest unsigned integer type that holds them, or else float32."""
        if self.cache is None:
            return self.compute_frames(index)
        assert isinstance(self.files, PathArray), "cached frames are named after files"
        path = self.cache / self.cache_name / f"{self.files.name(index)}.npy"
        version = file_version(self.files[index])
        frames = read_cached_frames(path, version)
        if frames is None:
            frames = self.compute_frames(index)
            write_cached_frames(path, frames, version)
        return frames

    @property
    def cache_name(self) -> str:
        """Of the folder of cached frames: what they depend on."""
        said = {**self.options, **self.reading}
        options = "".join(f"-{name}={said[name]}" for name in sorted(said))
        name = f"{self.T}-{self.split_by}{options}" + (f"-{self.max_count}" if self.max_count else "")
        if self.size is None and self.crop == "none":
            return name
        crop = self.crop if isinstance(self.crop, str) else "x".join(map(str, self.crop))
        size = (self.size, self.size) if isinstance(self.size, int) else self.size or ()
        return f"{name}-{'x'.join(map(str, size)) or 'sensor'}-{crop}"

    def compute_frames(self, index: int) -> np.ndarray:
        """Frames from the recording itself."""
        file, spec = self.files[index], self.frame_spec
        try:
            events = spec.select(self.read(file))
            seen = downsample(events, self.size, self.crop)
            frames = clip_counts(spec.frames(seen), self.max_count)
        except ValueError as error:
            raise ValueError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
        say_notes_of_first(self.name, file, events.notes)
        if len(seen) < len(events) and say_once(self.name, "crop"):
            cut = f"{len(events) - len(seen):,} of {count(len(events), 'event')}"
            notice(f"{self.name}: {file}: the crop leaves out {cut} (said of the first such recording alone)")
        return smallest_type(frames)


def say_notes_of_first(name: str, source: object, notes: tuple[str, ...]) -> None:
    """Say a recording's notes, each if it is the first of its kind among those of this name."""
    if new := [note for note in notes if say_once(name, note_kind(note))]:
        notice(
            f"{name}: {source}: {'; '.join(new)} (said of the first such recording alone; "
            "`spikewise events info FILE` says it of any)"
        )


def note_kind(note: str) -> str:
    """A note without what differs between recordings: its numbers, their nouns' endings, and all behind the first clause."""
    return re.split(r"[:,;]", re.sub(r"s\b", "", re.sub(r"\d[\d,.]*", "#", note)))[0]


def say_once(name: str, what: str) -> bool:
    """Whether this was not said yet of a data set, in this process."""
    said = (name, what) in _SAID
    _SAID.add((name, what))
    return not said


def file_version(file: Path) -> bytes:
    """24 bytes, stored after cached frames, that change when the recording does, or what is read of it."""
    stat = file.stat()
    return np.array([stat.st_size, stat.st_mtime_ns, READERS_VERSION], dtype="<i8").tobytes()


def read_cached_frames(path: Path, version: bytes) -> np.ndarray | None:
    """The cached frames, if they are complete and of this version of the recording."""
    try:
        with path.open("rb") as file:
            frames = np.load(file)
            return frames if file.read() == version else None
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        return None


def write_cached_frames(path: Path, frames: np.ndarray, version: bytes) -> None:
    """Write to a temporary file, then rename it: readers see complete frames or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.save(file, frames)
                file.write(version)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(
            error.errno, f"frames can't be cached as {path}: {error.strerror}; make room, or set data.cache to False"
        ) from None


# Folders of recordings by class ----------------------------------------------------------------------------------------------


def recordings_by_class(folder: Path) -> dict[str, list[Path]]:
    """The recordings in each class folder, sorted by name; how many other files and folders in them are skipped is said once.

    Raises:  FileNotFoundError or ValueError for a folder that is missing, or a class without recordings
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; say where the recordings are with --data.root")
    found, unknown = {}, []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        visible = sorted(file for file in path.iterdir() if file.name[0] != ".")
        found[path.name] = [file for file in visible if file.is_file() and may_be_recording(file)]
        recordings = {*found[path.name]}
        unknown += [f"{path.name}/{file.name}" for file in visible if file not in recordings]
        if not found[path.name]:
            raise ValueError(f"the class {path} has no recording ({SHOWN_SUFFIXES}); remove it, or fill it")
    if len(found) < 2:
        raise ValueError(f"{folder} has {count(len(found), 'class')}, where there should be a folder for each of two or more")
    if unknown:
        notice(f"{folder}: skipped {describe_skipped([], unknown)}; recordings end in {SHOWN_SUFFIXES}")
    return found


def seeded_split(files: Sequence[Path], split: str, key: str, test_fraction: float) -> list[Path]:
    """The files of a class that are in a split, in their order; drawn with a seed made of `key`, the same on every machine."""
    if len(files) < 2:
        raise ValueError(f"{files[0].parent} has one recording: it can't be split; make folders `train` and `test`")
    order = rng_from(0, key).permutation(len(files))
    test = set(order[: max(1, round(len(files) * test_fraction))].tolist())
    return [file for place, file in enumerate(files) if (place in test) == (split == "test")]


def dataset_by_class(
    name: str,
    folder: Path,
    files: dict[str, list[Path]],
    *,
    T: int,
    split_by: str,
    cache: bool,
    read: Callable[[Path], Events],
    reading: Mapping[str, str] | None = None,
    **options: Any,
) -> EventDataset:
    """The data set of files below `folder`, given by class name, in the order of the class indices.

    reading:  as of `EventDataset`
    options:  further fields of `FrameSpec`
    """
    return EventDataset(
        name=name,
        files=PathArray(folder, (file.relative_to(folder) for recordings in files.values() for file in recordings)),
        labels=np.repeat(np.arange(len(files), dtype=np.int64), [len(recordings) for recordings in files.values()]),
        class_names=tuple(files),
        T=T,
        read=read,
        split_by=split_by,
        cache=folder / CACHE_FOLDER if cache else None,
        options=options,
        reading=reading or {},
    )
