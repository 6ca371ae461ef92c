"""Any folder of images by class."""

import os
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..dataset import DatasetEntry, require_split
from ..files import PathArray, find_folder
from ..images.photographs import DEFAULT_SIZE, SUFFIXES, ImageFiles

SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}  # the first that is there


def image_folder(split: str, root: str | Path | None = None, *, size: int = DEFAULT_SIZE) -> ImageFiles:
    """Any folder of images by class: train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/...), sorted by name.

    The order and the class indices are those of torchvision's ImageFolder; names that begin with a dot are skipped.

    split:   "train", or "test", which is the folder val, or else test
    size:    side of the square that images are cropped to, in pixels
    Raises:  FileNotFoundError or ValueError for a folder that is missing or empty, images without a class, or a test split
             whose classes differ from those of train
    """
    require_split(split, "image-folder")
    hint = "make the folders train/CLASS and val/CLASS there"
    return load_split("image-folder", split, find_folder(root, "image-folder", "train", hint), size)


def load_split(name: str, split: str, folder: Path, size: int = DEFAULT_SIZE) -> ImageFiles:
    """A split of the data set in a folder that has train/CLASS and val/CLASS."""
    part = next((part for part in SPLIT_FOLDERS[split] if (folder / part).is_dir()), None)
    if part is None:
        raise FileNotFoundError(f"no folder {' or '.join(SPLIT_FOLDERS[split])} in {folder} for the {split} split")
    classes = list_classes(folder / part)
    expected = classes if split == "train" else list_classes(folder / "train")
    if differing := sorted(set(classes) ^ set(expected)):
        has, lacks = ("train", part) if differing[0] in expected else (part, "train")
        raise ValueError(f"{folder}: {has} has the class {differing[0]!r}, {lacks} has not; both must have the same classes")
    images = [find_images(folder, f"{part}/{label}") for label in classes]
    return ImageFiles(
        name=name,
        files=PathArray(folder, chain.from_iterable(images)),
        labels=np.repeat(np.arange(len(classes)), [len(of_class) for of_class in images]),
        class_names=tuple(classes),
        open=open_file,
        size=size,
    )


def list_classes(folder: Path) -> list[str]:
    """The folders in the folder of a split, sorted by name.

    Raises:  FileNotFoundError; ValueError where there are no folders, or images beside them
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    classes = sorted(path.name for path in entries if path.is_dir())
    images = sorted(path.name for path in entries if path.name.lower().endswith(SUFFIXES) and path.name not in classes)
    if images:
        raise ValueError(
            f"{folder} holds {len(images):,} images that are in no class, such as {images[0]}; move each into a folder of its "
            "class (for ImageNet's, use `spikewise data prepare imagenet`)"
        )
    if not classes:
        raise ValueError(f"{folder} holds no folders; it must hold one for each class")
    return classes


def find_images(folder: Path, below: str) -> list[str]:
    """Images in folder/below and the folders in it, as names relative to `folder`.

    Raises:  ValueError where there are none; OSError
    """
    found, skip = [], len(f"{folder}/")
    for place, _, names in sorted(os.walk(f"{folder}/{below}", onerror=raise_error)):
        if "/." not in place[skip:]:
            images = sorted(name for name in names if name.lower().endswith(SUFFIXES) and name[0] != ".")
            found += [f"{place[skip:]}/{image}" for image in images]
    if not found:
        raise ValueError(f"{folder / below} holds no image ({', '.join(SUFFIXES)}); fill it, or remove it")
    return found


def raise_error(error: OSError) -> None:
    raise error


def open_file(file: Path) -> BinaryIO:
    return file.open("rb")


ENTRY = DatasetEntry(image_folder, "any folder of images: train/CLASS/*.jpg, val/CLASS/*.jpg", variable_size=True)
