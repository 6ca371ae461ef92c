"""CIFAR-10 and CIFAR-100: colour images of 32 x 32 pixels, from the binary version (Krizhevsky 2009)."""

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from ... import disk
from ..dataset import DatasetEntry, DatasetInfo, PrepareSpec, ProgressCallback, require_labels, require_split
from ..fetch.unpack import archive_bytes, find_archives, iter_chunks, iter_members, regular_files
from ..files import find_folder
from ..images.arrays import ImageArrays

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FILES = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR100_FILES = {"train": ["train.bin"], "test": ["test.bin"]}
SOURCE = "https://www.cs.toronto.edu/~kriz"
PIXEL_BYTES = 3 * 32 * 32
ARCHIVES = ("train.tar.gz", "test.tar.gz")  # of those who re-packed CIFAR-10 as images by class


def cifar10(split: str, root: str | Path | None = None) -> ImageArrays:
    """CIFAR-10: 50,000 training and 10,000 test images.

    Raises:  FileNotFoundError; ValueError for a truncated file or a label out of range
    """
    folder = find_cifar("cifar10", split, root, CIFAR10_FILES, "cifar-10-batches-bin")
    return read_cifar("cifar10", [folder / name for name in CIFAR10_FILES[split]], 1, CIFAR10_CLASSES)


def cifar100(split: str, root: str | Path | None = None) -> ImageArrays:
    """CIFAR-100 with its 100 fine classes: 50,000 training and 10,000 test images.

    Raises:  as `cifar10`
    """
    folder = find_cifar("cifar100", split, root, CIFAR100_FILES, "cifar-100-binary")
    names_file = folder / "fine_label_names.txt"
    class_names = tuple(names_file.read_text().split() if names_file.is_file() else map(str, range(100)))
    return read_cifar("cifar100", [folder / name for name in CIFAR100_FILES[split]], 2, class_names)


def find_cifar(name: str, split: str, root: str | Path | None, files: dict[str, list[str]], archive_folder: str) -> Path:
    require_split(split, name)
    hint = f"get it with `spikewise data download {name}`"
    return find_folder(root, name, files[split][0], hint, archive_folder, f"{name}/{archive_folder}")


def read_cifar(name: str, files: list[Path], label_bytes: int, class_names: tuple[str, ...]) -> ImageArrays:
    """Images and labels of CIFAR's binary files: `label_bytes` bytes per image, the last is the label; then 3,072 of pixels."""
    images, labels = [], []
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no {file}; the binary version of {name} has {', '.join(f.name for f in files)}")
        raw = np.fromfile(file, dtype=np.uint8)
        record = label_bytes + PIXEL_BYTES
        if len(raw) == 0 or len(raw) % record:
            complete = len(raw) // record * record
            raise ValueError(f"{file} holds {len(raw):,} bytes, no multiple of {record:,}: it was cut after byte {complete:,}")
        rows = raw.reshape(-1, record)
        require_labels(rows[:, label_bytes - 1], len(class_names), file)
        labels.append(rows[:, label_bytes - 1].astype(np.int64))
        images.append(rows[:, label_bytes:].reshape(-1, 3, 32, 32))
    return ImageArrays(name, np.concatenate(images), np.concatenate(labels), class_names, max_pixel=255.0)


# CIFAR-10 as others re-packed it: train/CLASS/NAME.png or .jpg ---------------------------------------------------------------


def write_binary(source: Path, work: Path, advance: ProgressCallback, allow_partial: bool) -> None:
    """Write the binary version's files from images by class; each file has images of every class.

    Raises:  ValueError for an image that can't be read, or is not of 32 x 32 pixels; OSError
    """
    splits: dict[str, list[tuple[int, str, bytes]]] = {split: [] for split in CIFAR10_FILES}
    for name, content in iter_images(source, advance):
        *_, split, class_name, _ = ("", "", *PurePosixPath(name).parts)
        if split in splits and class_name in CIFAR10_CLASSES:
            splits[split].append((CIFAR10_CLASSES.index(class_name), name, read_pixels(name, content)))
    for split, images in splits.items():
        rows = [bytes([label]) + pixels for label, _, pixels in sorted(images)]
        files = CIFAR10_FILES[split]
        for number, file in enumerate(files):
            disk.atomic_write(work / file, b"".join(rows[number :: len(files)]))


def iter_images(source: Path, advance: ProgressCallback) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in the archives of the folder `source` or, where there are none, in it."""
    for archive in find_archives(source, ARCHIVES):
        for member in iter_members(archive):
            yield member.name, b"".join(iter_chunks(archive, member, advance))
    for path in () if find_archives(source, ARCHIVES) else regular_files(source):
        content = path.read_bytes()
        advance(len(content))
        yield path.relative_to(source).as_posix(), content


def read_pixels(name: str, content: bytes) -> bytes:
    """Red, green and blue of an image file, plane by plane."""
    from ..images.decode import decode  # here, so that arrays are read without Pillow

    try:
        image = decode(io.BytesIO(content))
    except ValueError as error:
        raise ValueError(f"{name} {error}; get it again") from None
    if image.size != (32, 32):
        raise ValueError(f"{name} has {image.width} x {image.height} pixels; CIFAR-10 has 32 x 32")
    return np.asarray(image).transpose(2, 0, 1).tobytes()


def count_images(folder: Path) -> dict[str, int]:
    files = {split: [folder / name for name in names] for split, names in CIFAR10_FILES.items()}
    sizes = {split: sum(file.stat().st_size for file in paths if file.is_file()) for split, paths in files.items()}
    return {split: size // (1 + PIXEL_BYTES) for split, size in sizes.items()}


ENTRIES = {
    "cifar10": DatasetEntry(
        cifar10,
        "60,000 colour images of 32 x 32 pixels, 10 classes; spikewise data download cifar10",
        DatasetInfo(num_train=50_000, num_classes=10, shape=(3, 32, 32)),
        downloads={"cifar-10-binary.tar.gz": (f"{SOURCE}/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")},
        prepare=PrepareSpec(
            "the folder with train.tar.gz and test.tar.gz, or with train/CLASS and test/CLASS, of CIFAR-10 as image files",
            lambda source: archive_bytes(source, ARCHIVES),
            write_binary,
            {"train": 50_000, "test": 10_000},
            count_images,
        ),
    ),
    "cifar100": DatasetEntry(
        cifar100,
        "the same with 100 classes; spikewise data download cifar100",
        DatasetInfo(num_train=50_000, num_classes=100, shape=(3, 32, 32)),
        downloads={"cifar-100-binary.tar.gz": (f"{SOURCE}/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")},
    ),
}
