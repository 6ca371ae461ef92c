"""What a data set's source delivers, turned into the folder that a run reads: resumable, counted, whole or not there."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ... import disk
from .sources import WAYS, Advance, Way

MARKER = "prepared.json"  # in a folder that is whole


def prepare(
    name: str, source: str | Path, root: str | Path, *, partial: bool = False, say: Callable[[str], None] | None = None
) -> Path:
    """Make ROOT/NAME from what `source` delivers; the folder appears under its name when all of it was checked.

    partial:  fewer recordings than were published are taken, too, and the folder says so
    say:      is told what is to be done, and progress is shown to a person; None: silence
    Raises:   ValueError or OSError in words; what is done stays, and the same command goes on
    """
    if name not in WAYS:
        raise ValueError(f"`data prepare` knows {', '.join(WAYS)}; given {name!r}")
    way, source, target = WAYS[name], Path(source), Path(root) / name
    if (target / MARKER).is_file():
        require_unchanged(target, way, partial, say)
        return target
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is there and was not made by `data prepare`; move it away, or choose another --root")
    if not source.exists():
        raise FileNotFoundError(f"no {source}; --source is {way.bring}")
    work = target.with_name(f".{name}.preparing")
    work.mkdir(parents=True, exist_ok=True)
    with alone(work):
        require_same_source(work, source)
        needed, free = way.needs(source), shutil.disk_usage(work).free
        done = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
        if say:
            say(f"{name}: about {in_words(needed)} to write into {target}, {in_words(free)} free")
        if needed - done > free:
            raise OSError(
                f"{name} needs about {in_words(needed - done)} more in {Path(root)}, {in_words(free)} are free; make room"
            )
        with bar(name, needed, quiet=say is None) as advance:
            way.fill(source, work, advance, partial)
        for left in work.rglob(".*.new"):
            left.unlink()
        finish(work, way, partial)
        if target.exists():
            target.rmdir()
        disk.rename(work, target)
    return target


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:  BlockingIOError while another process prepares there: the two would write into each other's files
    """
    descriptor = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another process is preparing {work}; wait for it, or choose another --root") from None
        yield
    finally:
        os.close(descriptor)


def require_same_source(work: Path, source: Path) -> None:
    """Refuse to go on with what another source began, unless it left nothing."""
    file = work / ".source.json"
    mine = json.dumps({"source": str(source.resolve())})
    if file.is_file() and file.read_text() == mine:
        return
    if file.is_file() and any(path.is_file() for path in work.rglob("*") if path != file):
        raise ValueError(f"{work} was begun with {file.read_text()}, not with {mine}; give that, or remove the folder")
    disk.atomic_write(file, mine.encode())


def require_unchanged(folder: Path, way: Way, partial: bool, say: Callable[[str], None] | None) -> None:
    """Compare what was prepared with what it says of itself.

    Raises:  ValueError where a file was lost, changed or added since, or where it is a part and all is asked for
    """
    about = json.loads((folder / MARKER).read_text())
    if not about["complete"] and not partial:
        raise ValueError(
            f"{folder} was prepared from less than was published: {counted(about['counts'])}; remove it to prepare it from "
            "all, or take it as it is: --partial"
        )
    if say:
        say(f"{folder} is there; its {about['files']:,} files are compared with {MARKER}")
    if (now := measured(folder, way)) != {name: about[name] for name in now}:
        raise ValueError(
            f"{folder} has changed since it was prepared: {now['files']:,} files of {in_words(now['bytes'])}, "
            f"{about['files']:,} of {in_words(about['bytes'])} were; remove it, and give the same command again"
        )


def finish(work: Path, way: Way, partial: bool) -> None:
    """Count, take the checksum, and say so in the folder."""
    counts = way.tally(work)
    if partial and (empty := [name for name, count in counts.items() if not count]):
        raise ValueError(f"{work} holds nothing of {', '.join(empty)}, too little to be a part; --source is {way.bring}")
    if counts != way.counts and not partial:
        raise ValueError(
            f"{work} holds {counted(counts)}, where {counted(way.counts)} were published; or take it as it is: --partial"
        )
    about = {"counts": counts, "published": way.counts, "complete": counts == way.counts} | measured(work, way)
    disk.atomic_write(work / MARKER, (json.dumps(about, indent=2) + "\n").encode())
    disk.remove_tree(work / ".source.json")


def measured(folder: Path, way: Way) -> dict[str, Any]:
    """Number and bytes of a folder's files, and the checksum of all."""
    digest, files, size = hashlib.sha256(), 0, 0
    for path in sorted(path for path in all_files(folder) if path != folder / MARKER):
        content = f"{path.stat().st_size}"
        if way.digest:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
        files, size = files + 1, size + path.stat().st_size
    return {"files": files, "bytes": size, "sha256": digest.hexdigest()}


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing"


def in_words(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if size >= 10 or unit == "bytes" else f"{size:.1f} {unit}"


@contextlib.contextmanager
def bar(name: str, total: int, *, quiet: bool) -> Iterator[Advance]:
    """A progress bar of bytes, where a person looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total)
        yield lambda size: progress.update(task, advance=size)


def all_files(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, also behind links to folders."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (Path(place, name) for name in names if name[0] != ".")
