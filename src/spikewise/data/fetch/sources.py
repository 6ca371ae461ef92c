"""What each data set's source delivers, and where it goes: archives unpacked, trials cut, folders linked or copied."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ... import disk
from ..datasets import cifar10_dvs as cifar10dvs
from ..datasets import dvs_gesture as dvsgesture
from ..datasets.image_folder import IMAGENET_SIZES, check_imagenet
from ..images.arrays import CIFAR10
from .unpack import size_of, unpack

Advance = Callable[[int], None]


class Way(NamedTuple):
    """How one data set is prepared.

    needs:   a function of the source: the bytes that will be written
    fill:    writes the folder; again and again, it leaves what is there. A function of (source, folder, advance, partial)
    counts:  recordings per split, or what else is counted, as published
    tally:   a function of the folder: the same, counted
    bring:   what the source is
    digest:  whether the checksum is over the files' contents; else over their names and sizes, where contents take hours
    """

    needs: Callable[[Path], int]
    fill: Callable[[Path, Path, Advance, bool], None]
    counts: dict[str, int]
    tally: Callable[[Path], dict[str, int]]
    bring: str
    digest: bool = True


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
                disk.write_stream(target, iter(lambda file=file: file.read(2**20), b""))  # type: ignore[misc]
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
    disk.remove_tree(work / ".source")


def gesture_count(work: Path) -> dict[str, int]:
    return {split: sum(1 for _ in (work / split).glob("*/*.npz")) for split in dvsgesture.COUNTS}


TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
SYNSETS = "imagenet_2012_validation_synset_labels.txt"  # a class per line, in the order of the images
SOLUTION = "LOC_val_solution.csv"  # ImageId, then a class and boxes


def imagenet_needs(source: Path) -> int:
    return sum((source / name).stat().st_size for name in (TRAIN_TAR, VAL_TAR) if (source / name).is_file())


def imagenet_fill(source: Path, work: Path, advance: Advance, partial: bool) -> None:
    """Links to folders that are there already, or the two published archives, unpacked and sorted by class."""
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; --source is the folder with train and val, or with {TRAIN_TAR} and {VAL_TAR}")
    if (source / "train").is_dir() and (source / "val").is_dir():
        for split in ("train", "val"):
            disk.atomic_symlink(work / split, str((source / split).resolve()))
        return
    for name in (TRAIN_TAR, VAL_TAR):
        if not (source / name).is_file():
            raise ValueError(f"{source} has neither the folders train and val nor {name}; get it from image-net.org")
    classes = validation_classes(source)
    unpack(source / TRAIN_TAR, lambda name: work / ".classes" / name if name.endswith(".tar") else None, lambda _size: None)
    for archive in sorted((work / ".classes").glob("*.tar")):
        folder = work / "train" / archive.stem
        unpack(archive, lambda name, folder=folder: folder / name if name.endswith(".JPEG") else None, advance)  # type: ignore[misc]
    unpack(source / VAL_TAR, lambda name: work / "val" / classes[name] / name if name in classes else None, advance)
    disk.remove_tree(work / ".classes")


def validation_classes(source: Path) -> dict[str, str]:
    """The class of every validation image, by the image's name.

    Raises:  ValueError where neither of the two files that say so is there
    """
    if (source / SYNSETS).is_file():
        lines = (source / SYNSETS).read_text().split()
        return {f"ILSVRC2012_val_{i:08}.JPEG": name for i, name in enumerate(lines, start=1)}
    if (source / SOLUTION).is_file():
        rows = [line.split(",", 1) for line in (source / SOLUTION).read_text().splitlines()[1:] if "," in line]
        return {f"{image}.JPEG": said.split()[0] for image, said in rows if said.split()}
    raise ValueError(f"{source} has neither {SYNSETS} nor {SOLUTION}, which say the classes of the validation images")


def imagenet_count(work: Path) -> dict[str, int]:
    return check_imagenet(work, partial=True)


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
    "imagenet": Way(
        imagenet_needs,
        imagenet_fill,
        IMAGENET_SIZES,
        imagenet_count,
        f"the folder with ImageNet's folders train and val, or with {TRAIN_TAR} and {VAL_TAR}",
        digest=False,
    ),
}
