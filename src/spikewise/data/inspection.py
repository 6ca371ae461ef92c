"""Reading files of images or recordings once, to see whether they can be read and what they hold."""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..wording import count
from .events.formats import FORMATS, detect_format, is_named_as, read_events
from .events.formats.sensor import Size
from .events.formats.times import UnclearUnit
from .images.decode import SUFFIXES, decode, open_image
from .images.shards import ShardEntry, open_entry
from .messages import CHECK_HINT, one_line

MIN_FILES = 64  # below, starting processes takes longer than reading
CHUNK = 16  # files that a process is given at a time
Track = Callable[[Iterable[Any], int], Iterable[Any]]  # passes on what was read of files, and shows how many of all are done


class FileFacts(NamedTuple):
    """What reading a file told.

    digest:  of its bytes; "" where they can't be read
    amount:  pixels of an image, events of a recording; 0 where it can't be read
    size:    the same in words: "640 x 480 pixels"
    kind:    "": nothing is wrong; "empty", "damaged", "unclear": its unit of time has to be told, or "mislabelled": its suffix
             stands for another format
    problem: what is wrong, in words that follow the file's name
    sensor:  (height, width) of a recording, if it is told
    """

    digest: str = ""
    amount: int = 0
    size: str = ""
    kind: str = ""
    problem: str = ""
    sensor: Size | None = None


def inspect_files(
    files: Sequence[Path | ShardEntry], *, events: bool, track: Track = lambda facts, total: facts, processes: int = 1
) -> Iterator[FileFacts]:
    """The facts of each file, in their order.

    events:     whether the files are recordings
    processes:  that read them; 1: this one. A script that asks for more needs `if __name__ == "__main__":`
    """
    inspect = partial(inspect_file, events=events)
    if processes == 1 or len(files) < MIN_FILES:
        yield from track(map(inspect, files), len(files))
        return
    # spawned, as torch, which may be imported already, can't be forked safely
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from track(pool.map(inspect, files, chunksize=CHUNK), len(files))


def inspect_file(file: Path | ShardEntry, *, events: bool) -> FileFacts:
    """Read a whole file."""
    facts = FileFacts()
    try:
        with file.open("rb") if isinstance(file, Path) else open_entry(file) as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # files and BytesIO both fit
            facts = facts._replace(digest=digest)
            if not content.seek(0, os.SEEK_END):
                return facts._replace(kind="empty", problem="is empty")
            if isinstance(file, Path) and events:
                return inspect_recording(file, facts)
            image = decode(content)
            facts = facts._replace(amount=image.width * image.height, size=f"{image.width} x {image.height} pixels")
            found = {"MPO": "JPEG"}.get(known := open_image(content).format or "", known)
    except (ValueError, OSError) as error:
        text, kind = one_line(error), "unclear" if isinstance(error, UnclearUnit) else "damaged"
        return facts._replace(kind=kind, problem=text.removeprefix(str(file)).lstrip(" :,") if str(file) in text else text)
    expected = SUFFIXES[file.suffix.lower()] if isinstance(file, Path) else found
    return facts if found == expected else facts._replace(kind="mislabelled", problem=f"is {found}, not {expected}")


def inspect_recording(file: Path, facts: FileFacts) -> FileFacts:
    """Read a whole recording.

    Raises:  what `read_events` raises
    """
    name = detect_format(file)
    events = read_events(file, name)
    num_events = len(events)
    facts = facts._replace(
        amount=num_events, sensor=events.size if events.is_size_told else None, size=f"{count(num_events, 'event')}"
    )
    if not num_events:
        return facts._replace(kind="empty", problem="holds no event")
    if not is_named_as(file, name):
        return facts._replace(kind="mislabelled", problem=f"is {FORMATS[name].description}")
    return facts


def require_readable(files: Sequence[Path], track: Track = lambda facts, total: facts, processes: int = 1) -> None:
    """Refuse image files that training would refuse.

    Raises:  ValueError that names the first of them
    """
    for file, facts in zip(files, inspect_files(files, events=False, track=track, processes=processes), strict=True):
        if facts.kind in ("empty", "damaged"):
            raise ValueError(f"{file} {facts.problem}; {CHECK_HINT}")
