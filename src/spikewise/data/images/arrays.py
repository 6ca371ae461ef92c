"""Still images with labels."""

import tarfile
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from ..dataset import find_folder, require_labels, require_split
from .idx import read_idx


@dataclass(frozen=True)
class Images:
    """A split of an image data set, in memory.

    images:  [N, C, H, W] uint8; a network sees them as float32, divided by `white`
    labels:  [N] int64
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    white: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_channels(self) -> int:
        return self.images.shape[1]

    def sample(self, index: int) -> np.ndarray:
        """One image [C, H, W] as a network sees it: float32, 0 to 1."""
        return self.images[index].astype(np.float32) / self.white


def digits(split: str, root: str | Path | None = None) -> Images:
    """The embedded 8 x 8 digits: 1,438 train and 359 test images, a fixed stratified split (digits.md)."""
    require_split(split, "digits")
    with resources.as_file(resources.files(__package__) / "digits.npz") as path, np.load(path) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[2::5]] = True
    chosen = is_test if split == "test" else ~is_test
    return Images("digits", images[chosen][:, None], labels[chosen], tuple("0123456789"), white=16.0)


FASHION = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion_mnist(split: str, root: str | Path | None = None) -> Images:
    """Fashion-MNIST: 28 x 28 grey images, 60,000 train and 10,000 test (Xiao et al. 2017), from its four idx files."""
    require_split(split, "fashion-mnist")
    prefix = "t10k" if split == "test" else "train"
    bring = "fetch it with `spikewise data download fashion-mnist`"
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    folder = find_folder(root, "fashion-mnist", names[0], bring, "fashion_mnist")
    images, labels = read_idx(folder / names[0]), read_idx(folder / names[1])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"{folder}: images {list(images.shape)} and labels {list(labels.shape)} of {prefix} do not fit together"
        )
    require_labels(labels, 10, folder / names[1])
    return Images("fashion-mnist", images[:, None], labels.astype(np.int64), FASHION, white=255.0)


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FILES = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR100_FILES = {"train": ["train.bin"], "test": ["test.bin"]}
CIFAR_PIXELS = 3 * 32 * 32


def cifar10(split: str, root: str | Path | None = None) -> Images:
    """CIFAR-10 in its binary version: 32 x 32 colour images, 50,000 train and 10,000 test (Krizhevsky 2009)."""
    require_split(split, "cifar10")
    bring = "fetch it with `spikewise data download cifar10`"
    folder = find_folder(
        root, "cifar10", CIFAR10_FILES[split][0], bring, "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"
    )
    return read_cifar("cifar10", [folder / name for name in CIFAR10_FILES[split]], 1, CIFAR10)


def cifar100(split: str, root: str | Path | None = None) -> Images:
    """CIFAR-100 in its binary version, with its 100 fine classes."""
    require_split(split, "cifar100")
    bring = "fetch it with `spikewise data download cifar100`"
    folder = find_folder(root, "cifar100", CIFAR100_FILES[split][0], bring, "cifar-100-binary", "cifar100/cifar-100-binary")
    names_file = folder / "fine_label_names.txt"
    names = tuple(names_file.read_text().split()) if names_file.is_file() else tuple(str(k) for k in range(100))
    return read_cifar("cifar100", [folder / name for name in CIFAR100_FILES[split]], 2, names)


def read_cifar(name: str, files: list[Path], label_bytes: int, class_names: tuple[str, ...]) -> Images:
    """Images and labels of CIFAR's binary files: per image `label_bytes` bytes, the last is the label, and 3,072 of pixels."""
    images, labels = [], []
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no {file}; the binary version of {name} has {', '.join(f.name for f in files)}")
        raw = np.fromfile(file, dtype=np.uint8)
        record = label_bytes + CIFAR_PIXELS
        if len(raw) == 0 or len(raw) % record:
            whole = len(raw) // record * record
            raise ValueError(f"{file} holds {len(raw):,} bytes, no multiple of {record:,}: it was cut behind byte {whole:,}")
        rows = raw.reshape(-1, record)
        require_labels(rows[:, label_bytes - 1], len(class_names), file)
        labels.append(rows[:, label_bytes - 1].astype(np.int64))
        images.append(rows[:, label_bytes:].reshape(-1, 3, 32, 32))
    return Images(name, np.concatenate(images), np.concatenate(labels), class_names, white=255.0)


def unpack_cifar(archive: Path) -> Path:
    """Unpack the archive of a binary CIFAR beside itself; its folder. Nothing is written outside of it."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(archive.parent, filter="data")
            return archive.parent / tar.getnames()[0].split("/")[0]
    except (tarfile.TarError, EOFError, zlib.error, IndexError) as error:
        raise ValueError(f"{archive} is no archive that can be unpacked: {error}; download it again") from None
