"""Folders of images by class: any, and ImageNet's."""

import json
import os
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..dataset import find_folder, require_split
from ..events.recordings import Files
from ..images.photographs import SIZE, Photographs

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # in capitals, too
SPLITS = {"train": ("train",), "test": ("val", "test")}  # of several, the first that is there
IMAGENET_SIZES = {"train": 1_281_167, "val": 50_000}  # of ILSVRC2012
PREPARE = "bring it with `spikewise data prepare imagenet --source FOLDER`"


def image_folder(split: str, root: str | Path | None = None, *, size: int = SIZE) -> Photographs:
    """Any folder of images by class: train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/...), in the order of their names.

    The order and the classes' numbers are those of torchvision's ImageFolder; names that begin with a dot are left out.

    split:   "train", or "test", which is the folder val, or else test
    size:    side of the square that images are cut to, in pixels
    Raises:  FileNotFoundError or ValueError for a folder that is missing or empty, images without a class, or a test split of
             other classes than train's
    """
    require_split(split, "image-folder")
    bring = "make the folders train/CLASS and val/CLASS there"
    return open_folder("image-folder", split, find_folder(root, "image-folder", "train", bring), size)


def imagenet(split: str, root: str | Path | None = None, *, size: int = SIZE) -> Photographs:
    """ImageNet (ILSVRC2012) from its folders train and val, each with the 1,000 folders n01440764 to n15075141.

    split:   "train", or "test", which is the folder val
    Raises:  FileNotFoundError or ValueError as `image_folder` does, and for other classes than ImageNet's
    """
    require_split(split, "imagenet")
    folder = find_folder(root, "imagenet", "train", PREPARE, "ILSVRC2012", "ILSVRC/Data/CLS-LOC")
    require_imagenet_classes(list_classes(folder / "train"), folder / "train", partial=was_partial(folder))
    return open_folder("imagenet", split, folder, size)


def was_partial(folder: Path) -> bool:
    """Whether `data prepare --partial` made this folder of less than all."""
    marker = folder / "prepared.json"
    return marker.is_file() and not json.loads(marker.read_text())["complete"]


def check_imagenet(root: str | Path, *, partial: bool = False) -> dict[str, int]:
    """Count the images of ImageNet's folders train and val.

    partial:  whether some of the classes and of the images are enough
    Returns:  images in train and in val
    Raises:   ValueError or FileNotFoundError for what is missing, or is not ImageNet's
    """
    folder = Path(root)
    require_imagenet_classes(list_classes(folder / "train"), folder / "train", partial=partial)
    opened = {"train": open_folder("imagenet", "train", folder, SIZE), "val": open_folder("imagenet", "test", folder, SIZE)}
    counts = {split: len(data) for split, data in opened.items()}
    for split, wanted in IMAGENET_SIZES.items():
        if counts[split] != wanted and not partial:
            raise ValueError(f"{folder / split} holds {counts[split]:,} images, ImageNet's has {wanted:,}; unpack it again")
    return counts


def imagenet_classes() -> tuple[str, ...]:
    """The WordNet numbers of ImageNet's 1,000 classes, in the order of their labels."""
    return tuple((resources.files(__package__) / "imagenet.txt").read_text().split())


def require_imagenet_classes(found: list[str], folder: Path, *, partial: bool = False) -> None:
    """Refuse folders that are not ImageNet's classes, and, unless `partial`, fewer than all of them."""
    classes = imagenet_classes()
    if strange := sorted(set(found) - set(classes)):
        raise ValueError(
            f"{folder} holds {strange[0]!r}, which is none of ImageNet's 1,000 classes (n01440764 ... n15075141); "
            "for other classes use the data set image-folder"
        )
    if len(found) < len(classes) and not partial:
        first = min(set(classes) - set(found))
        raise ValueError(
            f"{folder} holds {len(found)} of ImageNet's 1,000 classes, {first} is the first that is missing; unpack it "
            "again, or, if a part is what you want, use the data set image-folder"
        )


def open_folder(name: str, split: str, folder: Path, size: int) -> Photographs:
    """A split of the data set in a folder that has train/CLASS and val/CLASS."""
    found = next((part for part in SPLITS[split] if (folder / part).is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"no folder {' or '.join(SPLITS[split])} in {folder}, which has to hold the {split} split")
    classes = list_classes(folder / found)
    expected = classes if split == "train" else list_classes(folder / "train")
    if differs := sorted(set(classes) ^ set(expected)):
        has, lacks = ("train", found) if differs[0] in expected else (found, "train")
        raise ValueError(f"{folder}: {has} has the class {differs[0]!r}, {lacks} has not; both must have the same classes")
    images = [list_images(folder, f"{found}/{label}") for label in classes]
    return Photographs(
        name=name,
        files=Files(folder, chain.from_iterable(images)),
        labels=np.repeat(np.arange(len(classes)), [len(of_class) for of_class in images]),
        class_names=tuple(classes),
        open=open_file,
        size=size,
    )


def list_classes(folder: Path) -> list[str]:
    """The folders in the folder of a split, in the order of their names.

    Raises:  ValueError where there are none, or images beside them
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    classes, images, example = [], 0, ""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                classes.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                images, example = images + 1, entry.name
    if images:
        how = (
            f"{PREPARE}, which sorts them" if example.startswith("ILSVRC2012_val_") else "move each into a folder of its class"
        )
        raise ValueError(f"{folder} holds {images:,} images that are in no class, such as {example}; {how}")
    if not classes:
        raise ValueError(f"{folder} holds no folders; it must hold one for each class")
    return sorted(classes)


def list_images(folder: Path, below: str) -> list[str]:
    """Images in folder/below and the folders in it, as names below `folder`.

    Raises:  ValueError where there are none
    """
    found, skip = [], len(f"{folder}/")
    for place, _, names in sorted(os.walk(f"{folder}/{below}", onerror=give_up)):
        if "/." not in place[skip:]:
            images = sorted(name for name in names if name.lower().endswith(SUFFIXES) and name[0] != ".")
            found += [f"{place[skip:]}/{image}" for image in images]
    if not found:
        raise ValueError(f"{folder / below} holds no image ({', '.join(SUFFIXES)}); fill it, or remove it")
    return found


def give_up(error: OSError) -> None:
    raise error


def open_file(file: Path) -> BinaryIO:
    return file.open("rb")
