"""A data set in one file, as a contributor would write it: grey dots on the left or on the right half of an image."""

from pathlib import Path

import numpy as np

from spikewise.data.dataset import DatasetEntry, DatasetInfo, PrepareSpec, require_split
from spikewise.data.files import find_folder
from spikewise.data.images.arrays import ImageArrays


def dots(split, root=None):
    require_split(split, "dots")
    images = np.load(find_folder(root, "dots", "dots.npy", "get it with `spikewise data prepare dots`") / "dots.npy")
    chosen = images[:40] if split == "train" else images[40:]
    labels = (chosen[:, :, 4:].sum((1, 2)) > 0).astype(np.int64)
    return ImageArrays("dots", chosen[:, None], labels, ("left", "right"), max_pixel=255.0)


def write_files(source, work, advance, allow_partial):
    images = np.zeros((60, 8, 8), np.uint8)
    for i, column in enumerate(map(int, source.read_text().split())):
        images[i, 4, column] = 255
    np.save(work / "dots.npy", images)
    advance(images.nbytes)


ENTRY = DatasetEntry(
    dots,
    "60 dots",
    DatasetInfo(num_train=40, num_classes=2, shape=(1, 8, 8)),
    prepare=PrepareSpec(
        "a text file of 60 columns, 0 to 7",
        required_bytes=lambda source: 60 * 64,
        write_files=write_files,
        expected_counts={"images": 60},
        count_files=lambda work: {"images": len(np.load(Path(work) / "dots.npy"))},
    ),
)
