"""Fashion-MNIST: grey images of clothes (Xiao et al. 2017)."""

from pathlib import Path

import numpy as np

from ..dataset import DatasetEntry, DatasetInfo, require_labels, require_split
from ..files import find_folder
from ..images.arrays import ImageArrays
from ..images.idx import read_idx

CLASS_NAMES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def fashion_mnist(split: str, root: str | Path | None = None) -> ImageArrays:
    """Fashion-MNIST from its four idx files: 28 x 28 grey images, 60,000 for training and 10,000 for testing.

    Raises:  FileNotFoundError; ValueError for damaged files, or images and labels that do not match
    """
    require_split(split, "fashion-mnist")
    prefix = "t10k" if split == "test" else "train"
    hint = "get it with `spikewise data download fashion-mnist`"
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    folder = find_folder(root, "fashion-mnist", names[0], hint, "fashion_mnist")
    images, labels = read_idx(folder / names[0]), read_idx(folder / names[1])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(f"{folder}: {prefix} images {list(images.shape)} and labels {list(labels.shape)} do not match")
    require_labels(labels, 10, folder / names[1])
    return ImageArrays("fashion-mnist", images[:, None], labels.astype(np.int64), CLASS_NAMES, max_pixel=255.0)


ENTRY = DatasetEntry(
    fashion_mnist,
    "70,000 grey images of 28 x 28 pixels; spikewise data download fashion-mnist",
    DatasetInfo(num_train=60_000, num_classes=10, shape=(1, 28, 28)),
    downloads={name: (f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}", md5) for name, md5 in MD5.items()},
)
