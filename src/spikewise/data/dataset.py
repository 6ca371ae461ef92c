"""The dataset interface, and the entry with which a data set's file ends."""

import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "prepared.json"  # in a folder that `data prepare` completed: counts, number of files, checksum
ProgressCallback = Callable[[int], None]  # is called with the number of bytes done since the last call


class Dataset(Protocol):
    """A split of a data set: labels in memory, samples one at a time."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def labels(self) -> np.ndarray:
        """The class index of every sample, int64 [N]."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by class index."""

    @property
    def in_channels(self) -> int:
        """Channels of a sample."""

    def sample(self, index: int) -> np.ndarray:
        """One sample as the network's input, float32: an image [C, H, W] or frames [T, C, H, W]."""


class MapStyleDataset(ABC):
    """What PyTorch's DataLoader asks of a data set, made of its `labels` and `sample`."""

    labels: np.ndarray

    @abstractmethod
    def sample(self, index: int) -> np.ndarray:
        """One sample, float32."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple["Tensor", int]:
        """Sample `index` as evaluation sees it, without augmentation, and its class; a negative index counts from the end.

        Shapes:  images [C, H, W], frames [T, C, H, W], float32
        Raises:  IndexError beyond the end; what `sample` raises
        """
        from torch import from_numpy  # here, so that data can be looked at without waiting for torch

        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"sample {place} of {len(self):,}; use {-len(self)} to {len(self) - 1}")
        place %= len(self)
        return from_numpy(self.sample(place)), int(self.labels[place])


class DatasetInfo(NamedTuple):
    """What is known of a published data set without its files.

    num_train:    samples of the training split
    shape:        (C, H, W) of an image or of a frame
    split_sizes:  (split variant, samples of its training split), for those that differ from the published one
    num_test:     samples of the test split; needed only where cross-validation folds mix train and test
    """

    num_train: int
    num_classes: int
    shape: tuple[int, int, int]
    split_sizes: tuple[tuple[str, int], ...] = ()
    num_test: int = 0


class PrepareSpec(NamedTuple):
    """How `spikewise data prepare` turns what the source delivers into the folder that training reads.

    source_hint:      what `--source` should be, for help and errors
    required_bytes:   a function of the source: bytes that will be written
    write_files:      a function of (source, folder, progress, allow_partial) that writes the folder; called again, it
                      keeps what is already there
    expected_counts:  number of recordings or images, per split or per class, as published
    count_files:      a function of the folder that counts the same
    hash_contents:    whether the checksum covers file contents; False: names and sizes only, where contents take hours
    """

    source_hint: str
    required_bytes: Callable[[Path], int]
    write_files: Callable[[Path, Path, ProgressCallback, bool], None]
    expected_counts: dict[str, int]
    count_files: Callable[[Path], dict[str, int]]
    hash_contents: bool = True


class DatasetEntry(NamedTuple):
    """Everything the library needs to know of a data set: a row of the table DATASETS.

    load:            a function of (split, root) that returns a Dataset; event recordings also take T, split_by and
                     cache, and where the config says more of frames, further fields of `events.frames.FrameSpec`;
                     images of variable size take the fields of `images.photographs.View`
    description:     a line for `spikewise list datasets`
    info:            what is known without the files; None for folders of the user's own data
    events:          whether samples are event recordings, binned into T frames
    variable_size:   whether images are of any size, and cropped
    class_order:     whether `load` takes class_order: folders of the user's own classes
    takes_sensor:    whether `load` takes sensor, (height, width) of the sensor that all recordings share
    takes_columns:   whether `load` takes time_unit and columns, for recordings that do not say them
    require_root:    a quick look at the folder, before anything slow: a function of it that raises where it can't be the data
                     set's; None: `load` alone looks
    split_variants:  names of the ways to split it into train and test, the published one first; () where there is one
    shares_index:    whether `load` takes share, by which several processes read the index together
    has_folds:       whether `load` takes fold and folds, for cross-validation
    downloads:       files of a public source: name -> (URL, MD5 checksum); None where there is no such source
    prepare:         how its folder is made from what the source delivers; None where nothing needs to be prepared
    """

    load: Callable[..., Dataset]
    description: str
    info: DatasetInfo | None = None
    events: bool = False
    variable_size: bool = False
    class_order: bool = False
    takes_sensor: bool = False
    takes_columns: bool = False
    require_root: Callable[[str | Path | None], object] | None = None
    split_variants: tuple[str, ...] = ()
    shares_index: bool = False
    has_folds: bool = False
    downloads: dict[str, tuple[str, str]] | None = None
    prepare: PrepareSpec | None = None

    @property
    def open(self) -> Callable[..., Dataset]:
        """The older name of `load`."""
        return self.load


class PlaceholderDataset(MapStyleDataset):
    """The training split of a published data set without its files: as many samples, all zeros, all of class 0.

    T:     frames of a recording; 0 for images
    size:  of samples in pixels: the side of a square, or (height, width); None: as published
    """

    def __init__(
        self,
        name: str,
        info: DatasetInfo,
        *,
        T: int = 0,
        size: int | tuple[int, int] | None = None,
        split_variant: str = "published",
        fold: int | None = None,
        folds: int = 5,
    ):
        channels, height, width = info.shape
        image_size = (size, size) if isinstance(size, int) else size or (height, width)
        self.sensor = (height, width)
        num_samples = dict(info.split_sizes).get(split_variant, info.num_train)
        if fold is not None:  # off by a few samples: each class is divided into folds by itself
            num_samples = (info.num_train + info.num_test) * (folds - 1) // folds
        self.name, self.in_channels = name, channels
        self.shape = (T, channels, *image_size) if T else (channels, *image_size)
        self.labels = np.zeros(num_samples, dtype=np.int64)
        self.class_names = tuple(map(str, range(info.num_classes)))

    def sample(self, index: int) -> np.ndarray:
        return np.zeros(self.shape, dtype=np.float32)


def require_split(split: str, dataset: str) -> None:
    """Refuse a split that is neither train nor test."""
    if split not in ("train", "test"):
        hint = "; a folder called val is the split 'test'" if str(split).startswith("val") else ""
        raise ValueError(f"{dataset} has no split {split!r}; use 'train' or 'test'{hint}")


def require_labels(labels: np.ndarray, num_classes: int, source: object) -> None:
    """Refuse labels that are not in 0 to num_classes - 1."""
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{source}: label {int(labels[first])} of sample {first:,} is out of range; there are {num_classes} classes"
        )


def is_partial(folder: Path) -> bool:
    """Whether `data prepare --partial` made this folder from less than the whole data set."""
    manifest = folder / MANIFEST
    return manifest.is_file() and not json.loads(manifest.read_text())["complete"]
