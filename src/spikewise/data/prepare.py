"""What a data set's source delivers, turned into the folder that a run reads: resumable, counted, whole or not there."""

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from .. import disk
from . import cifar10dvs, dvsgesture
from .images import CIFAR10
from .unpack import size_of, unpack

MARKER = "prepared.json"  # in a folder that is whole
Advance = Callable[[int], None]


class Way(NamedTuple):
    """How one data set is prepared.

    needs:   a function of the source: the bytes that will be written
    fill:    writes the folder; again and again, it leaves what is there. A function of (source, folder, advance, partial)
    counts:  recordings per split, or what else is counted, as published
    tally:   a function of the folder: the same, counted
    bring:   what the source is
    """

    needs: Callable[[Path], int]
    fill: Callable[[Path, Path, Advance, bool], None]
    counts: dict[str, int]
    tally: Callable[[Path], dict[str, int]]
    bring: str


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
        return target
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is there and was not made by `data prepare`; move it away, or choose another --root")
    if not source.exists():
        raise FileNotFoundError(f"no {source}; --source is {way.bring}")
    work = target.with_name(f".{name}.preparing")
    work.mkdir(parents=True, exist_ok=True)
    require_same_source(work, source, partial)
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


def require_same_source(work: Path, source: Path, partial: bool) -> None:
    """Refuse to go on with what another source began."""
    file = work / ".source.json"
    mine = json.dumps({"source": str(source.resolve()), "partial": partial})
    if not file.is_file():
        disk.replace(file, mine.encode())
    elif file.read_text() != mine:
        raise ValueError(f"{work} was begun with {file.read_text()}, not with {mine}; give those, or remove it")


def finish(work: Path, way: Way, partial: bool) -> None:
    """Count, take the checksum, and say so in the folder."""
    counts = way.tally(work)
    if counts != way.counts and not partial:
        raise ValueError(
            f"{work} holds {counted(counts)}, where {counted(way.counts)} were published; or take it as it is: --partial"
        )
    digest, files, size = hashlib.sha256(), 0, 0
    for path in sorted(path for path in work.rglob("*") if path.is_file() and path.name[0] != "." and path != work / MARKER):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        digest.update(f"{path.relative_to(work).as_posix()}\0{content.hexdigest()}\n".encode())
        files, size = files + 1, size + path.stat().st_size
    about = {"counts": counts, "published": way.counts, "complete": counts == way.counts}
    about |= {"files": files, "bytes": size, "sha256": digest.hexdigest()}
    disk.replace(work / MARKER, (json.dumps(about, indent=2) + "\n").encode())
    disk.remove(work / ".source.json")


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


# The data sets -----------------------------------------------------------------------------------------------------------


def plain_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.name[0] != ".")


def copy(source: Path, place: Callable[[str], Path | None], advance: Advance) -> None:
    """Copy the wanted files of a folder, each whole or not at all."""
    for path in plain_files(source):
        target = place(path.relative_to(source).as_posix())
        if target is None:
            continue
        if not (target.is_file() and target.stat().st_size == path.stat().st_size):
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as file:
                disk.stream(target, iter(lambda file=file: file.read(2**20), b""))  # type: ignore[misc]
        advance(path.stat().st_size)


def archives_in(source: Path, names: tuple[str, ...]) -> list[Path]:
    """Those archives that are in a folder; none of them: it holds the files themselves."""
    return [source / name for name in names if (source / name).is_file()]


def needs_of(names: tuple[str, ...]) -> Callable[[Path], int]:
    def needs(source: Path) -> int:
        found = archives_in(source, names)
        return sum(map(size_of, found)) if found else sum(path.stat().st_size for path in plain_files(source))

    return needs


def fill_from(
    names: tuple[str, ...], place_in: Callable[[Path, str], Path | None]
) -> Callable[[Path, Path, Advance, bool], None]:
    """Fill a folder from these archives in the source, or from the source's own files."""

    def fill(source: Path, work: Path, advance: Advance, partial: bool) -> None:
        if not source.is_dir():
            raise ValueError(f"{source} is no folder; --source is the folder with {', '.join(names[:2])} and so on")
        found = archives_in(source, names)
        missing = [name for name in names if source / name not in found]
        if found and missing and not partial:
            raise ValueError(f"{source} has no {missing[0]} ({len(missing)} of {len(names)} archives are missing)")
        for archive in found:
            unpack(archive, lambda name: place_in(work, name), advance)
        if not found:
            copy(source, lambda name: place_in(work, name), advance)

    return fill


NMNIST_ZIPS = ("Train.zip", "Test.zip")


def nmnist_place(work: Path, name: str) -> Path | None:
    """Train/0/00002.bin, wherever an archive has it."""
    parts = PurePosixPath(name).parts[-3:]
    wanted = len(parts) == 3 and parts[0] in ("Train", "Test") and parts[1] in tuple("0123456789") and name.endswith(".bin")
    return work.joinpath(*parts) if wanted and parts[2][0] != "." else None


def nmnist_count(work: Path) -> dict[str, int]:
    return {split: sum(1 for _ in (work / split.capitalize()).glob("*/*.bin")) for split in ("train", "test")}


CIFAR_ZIPS = tuple(f"{name}.zip" for name in sorted(CIFAR10))


def cifar_place(work: Path, name: str) -> Path | None:
    """airplane/cifar10_airplane_0.aedat; the class is in the file's own name."""
    file = PurePosixPath(name).name
    kind = next((kind for kind in CIFAR10 if file.startswith(f"cifar10_{kind}_")), None)
    return work / kind / file if kind and file.endswith(".aedat") else None


def cifar_count(work: Path) -> dict[str, int]:
    return {kind: sum(1 for _ in (work / kind).glob("*.aedat")) for kind in sorted(CIFAR10)}


def gesture_needs(source: Path) -> int:
    if source.is_dir():
        return sum(path.stat().st_size for path in source.rglob("*.aedat"))
    return 2 * size_of(source)


def gesture_fill(source: Path, work: Path, advance: Advance, partial: bool) -> None:
    base = source
    if source.is_file():
        base = work / ".source"

        def place(name: str) -> Path | None:
            return base / PurePosixPath(name).name if name.endswith((".aedat", ".csv", ".txt")) else None

        unpack(source, place, advance)
    if not (base / dvsgesture.LISTS["train"]).is_file():  # a folder that holds the folder
        inside = sorted(base.glob(f"*/{dvsgesture.LISTS['train']}"))
        base = inside[0].parent if inside else base
    dvsgesture.cut(base, work, advance, incomplete=partial)
    disk.remove(work / ".source")


def gesture_count(work: Path) -> dict[str, int]:
    return {split: sum(1 for _ in (work / split).glob("*/*.npz")) for split in dvsgesture.COUNTS}


WAYS: dict[str, Way] = {
    "nmnist": Way(
        needs_of(NMNIST_ZIPS),
        fill_from(NMNIST_ZIPS, nmnist_place),
        {"train": 60_000, "test": 10_000},
        nmnist_count,
        "the folder with N-MNIST's Train.zip and Test.zip",
    ),
    "dvs-gesture": Way(
        gesture_needs, gesture_fill, dvsgesture.COUNTS, gesture_count, "IBM's DvsGesture.tar.gz, or the folder that is in it"
    ),
    "cifar10-dvs": Way(
        needs_of(CIFAR_ZIPS),
        fill_from(CIFAR_ZIPS, cifar_place),
        dict.fromkeys(sorted(CIFAR10), cifar10dvs.PER_CLASS),
        cifar_count,
        "the folder with CIFAR10-DVS's airplane.zip to truck.zip",
    ),
}
