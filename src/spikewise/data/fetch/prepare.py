"""From what a data set's source delivers to the folder that training reads: resumable, verified, complete or not there."""

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

from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ... import disk
from ...progress import MinuteLines
from ...wording import count, did_you_mean
from ..dataset import MANIFEST, PrepareSpec, ProgressCallback
from ..registry import DATASETS

SOURCE_FILE = ".source.json"  # in an unfinished folder: the source it is made from


def prepare(
    name: str, source: str | Path, root: str | Path, *, partial: bool = False, log: Callable[[str], None] | None = None
) -> Path:
    """Make ROOT/NAME from `source`; the folder appears under its name when everything in it was verified.

    partial:  accept fewer recordings than were published, and record that in the folder
    log:      receives messages, and a progress bar is shown in a terminal; None: neither
    Raises:   ValueError or OSError; what is done stays, and the same call resumes from there
    """
    spec = DATASETS[name].prepare if name in DATASETS else None
    if spec is None:
        known = [other for other, entry in DATASETS.items() if entry.prepare]
        raise ValueError(f"{did_you_mean(name, known)}`data prepare` knows {', '.join(known)}; given {name!r}")
    source, target = Path(source), Path(root) / name
    if (target / MANIFEST).is_file():
        verify_manifest(target, spec, partial, log)
        return target
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is there and was not made by `data prepare`; move it away, or choose another --data.root")
    if not source.exists():
        raise FileNotFoundError(f"no {source}; --source is {spec.source_hint}")
    work = target.with_name(f".{name}.preparing")
    made = [folder for folder in (work, *work.parents) if not folder.exists()]
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work), removed_if_empty(work, made):
        require_same_source(work, source)
        required, free = spec.required_bytes(source), shutil.disk_usage(work).free
        missing = required - sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
        if log:
            log(f"{name}: about {filesize.decimal(required)} to write into {target}, {filesize.decimal(free)} free")
        if missing > free:
            raise OSError(
                f"{name} needs about {filesize.decimal(missing)} more in {Path(root)}, "
                f"{filesize.decimal(free)} are free; make room"
            )
        with progress_bar(name, required, log) as advance:
            spec.write_files(source, work, advance, partial)
        for leftover in work.rglob(".*.new"):
            leftover.unlink()
        write_manifest(work, spec, partial, log)
        if target.exists():
            target.rmdir()
        disk.rename(work, target)
    return target


@contextlib.contextmanager
def removed_if_empty(work: Path, made: list[Path]) -> Iterator[None]:
    """Where preparing fails before there is a file, its folder goes again.

    made:  the folders that were made for it, `work` and those above
    """
    try:
        yield
    except Exception:
        if not any(path.is_file() and path.name != SOURCE_FILE for path in work.rglob("*")):
            disk.remove_tree(work)
            for folder in made[1:]:
                with contextlib.suppress(OSError):  # it holds something of somebody else's now
                    folder.rmdir()
        raise


@contextlib.contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; the system releases it when the process ends, however it ends.

    Raises:  BlockingIOError while another process prepares there: they would write into each other's files
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process is preparing {folder}; wait for it, or choose another --data.root"
            ) from None
        yield
    finally:
        os.close(descriptor)


def require_same_source(work: Path, source: Path) -> None:
    """Refuse to resume with another source than the folder was begun with, unless that left no files."""
    file = work / SOURCE_FILE
    current = json.dumps({"source": str(source.resolve())})
    if file.is_file() and file.read_text() == current:
        return
    if file.is_file() and any(path.is_file() for path in work.rglob("*") if path != file):
        raise ValueError(f"{work} was begun with {file.read_text()}, not with {current}; give that, or remove the folder")
    disk.atomic_write(file, current.encode())


def verify_manifest(folder: Path, spec: PrepareSpec, partial: bool, log: Callable[[str], None] | None) -> None:
    """Compare a prepared folder with its manifest.

    Raises:  ValueError where a file was lost, changed or added, or where it is partial and `partial` is false
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    if not manifest["complete"] and not partial:
        raise ValueError(
            f"{folder} was prepared from less than was published: {format_counts(manifest['counts'])}; remove it to prepare "
            "all of it, or use it as it is: --partial"
        )
    if log:
        log(f"{folder} is there; comparing its {count(manifest['files'], 'file')} with {MANIFEST}")
    if (now := folder_digest(folder, spec, log)) != {key: manifest[key] for key in now}:
        raise ValueError(
            f"{folder} has changed since it was prepared: {count(now['files'], 'file')} of {filesize.decimal(now['bytes'])}, "
            f"{manifest['files']:,} of {filesize.decimal(manifest['bytes'])} were; remove it, and give the same command again"
        )


def write_manifest(work: Path, spec: PrepareSpec, partial: bool, log: Callable[[str], None] | None) -> None:
    """Count the files, compute the checksum, and write both into the folder.

    Raises:  ValueError for counts that differ from the published ones; with `partial`, only for a count of 0
    """
    counts = spec.count_files(work)
    if partial and (empty := [name for name, count in counts.items() if not count]):
        raise ValueError(
            f"{work} holds nothing of {', '.join(empty)}, too little even with --partial; --source is {spec.source_hint}"
        )
    if counts != spec.expected_counts and not partial:
        raise ValueError(
            f"{work} holds {format_counts(counts)}, where {format_counts(spec.expected_counts)} were published; "
            "or use it as it is: --partial"
        )
    complete = counts == spec.expected_counts
    manifest = {"counts": counts, "published": spec.expected_counts, "complete": complete} | folder_digest(work, spec, log)
    disk.atomic_write(work / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    disk.remove_tree(work / SOURCE_FILE)


def folder_digest(folder: Path, spec: PrepareSpec, log: Callable[[str], None] | None) -> dict[str, Any]:
    """Number and bytes of a folder's files, and one checksum of them all; said once a minute."""
    digest, files, size = hashlib.sha256(), 0, 0
    paths = sorted(path for path in iter_files(folder) if path != folder / MANIFEST)
    lines = MinuteLines(log, len(paths))
    for path in paths:
        lines.at(files, lambda: f"{folder}: checksum of {files:,} of {count(len(paths), 'file')}")  # noqa: B023  # called at once
        content = f"{path.stat().st_size}"
        if spec.hash_contents:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
        files, size = files + 1, size + path.stat().st_size
    return {"files": files, "bytes": size, "sha256": digest.hexdigest()}


def iter_files(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, also behind links to folders."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (Path(place, name) for name in names if name[0] != ".")


def format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing"


@contextlib.contextmanager
def progress_bar(name: str, total: int, log: Callable[[str], None] | None) -> Iterator[ProgressCallback]:
    """A progress bar of bytes, in a terminal; elsewhere a line to `log` every minute."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=log is None or not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total)
        lines, done = MinuteLines(None if sys.stderr.isatty() else log, total), 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            progress.advance(task, size)
            lines.at(done, lambda: f"{name}: {filesize.decimal(done)} of about {filesize.decimal(total)}")

        yield advance
