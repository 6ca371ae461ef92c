"""Any folder of images by class."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Unpack

import numpy as np
from PIL import Image

from ...wording import count
from ..class_folders import describe_skipped, find_files, order_classes
from ..dataset import DatasetEntry, require_split
from ..files import PathArray, find_folder
from ..images.decode import SUFFIXES, decode
from ..images.photographs import ImageFiles, View
from ..messages import notice

SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}  # the first that is there


def image_folder(
    split: str, root: str | Path | None = None, *, class_order: str = "natural", **view: Unpack[View]
) -> ImageFiles:
    """Any folder of images by class: train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/...), sorted by name.

    The order of files, and of classes that are not all numbers, is that of torchvision's ImageFolder. How many hidden files
    and files of unknown kinds are skipped is said once.

    split:        "train", or "test", which is the folder val, or else test
    class_order:  "natural": classes that are all numbers by number (1, 2, 10); "text": always as text (1, 10, 2)
    view:         size, crop_scale, mean, std of `ImageFiles`
    Raises:       FileNotFoundError or ValueError for a folder that is missing or empty, images without a class, or a test
                  split whose classes differ from those of train
    """
    require_split(split, "image-folder")
    hint = "make the folders train/CLASS and val/CLASS there"
    folder = find_folder(root, "image-folder", "train", hint)
    return load_split("image-folder", split, folder, class_order, decode, **view)


def load_split(
    name: str,
    split: str,
    folder: Path,
    class_order: str,
    decode: Callable[[BinaryIO], Image.Image],
    **view: Unpack[View],
) -> ImageFiles:
    """A split of the data set in a folder that has train/CLASS and val/CLASS."""
    part = next((part for part in SPLIT_FOLDERS[split] if (folder / part).is_dir()), None)
    if part is None:
        raise FileNotFoundError(f"no folder {' or '.join(SPLIT_FOLDERS[split])} in {folder} for the {split} split")
    names = list_classes(folder / part)
    expected = names if split == "train" else list_classes(folder / "train")
    if differing := sorted(set(names) ^ set(expected)):
        has, lacks = ("train", part) if differing[0] in expected else (part, "train")
        raise ValueError(f"{folder}: {has} has the class {differing[0]!r}, {lacks} has not; both must have the same classes")
    classes = order_classes(names, class_order, folder)
    images = find_images(folder, part, classes)
    return ImageFiles(
        name=name,
        files=PathArray(folder, chain.from_iterable(images)),
        labels=np.repeat(np.arange(len(classes)), [len(of_class) for of_class in images]),
        class_names=tuple(classes),
        open=open_file,
        decode=decode,
        **view,
    )


def list_classes(folder: Path) -> list[str]:
    """The folders in the folder of a split, sorted by name.

    Raises:  FileNotFoundError; ValueError where there are no folders, or images beside them
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    classes = sorted(path.name for path in entries if path.is_dir())
    suffixes = tuple(SUFFIXES)
    images = sorted(path.name for path in entries if path.name.lower().endswith(suffixes) and path.name not in classes)
    if images:
        raise ValueError(
            f"{folder} holds {count(len(images), 'image')} in no class, such as {images[0]}; move each into a folder of its "
            "class (for ImageNet's, use `spikewise data prepare imagenet`)"
        )
    if not classes:
        raise ValueError(f"{folder} holds no folders; it must hold one for each class")
    return classes


def find_images(folder: Path, part: str, classes: list[str]) -> list[list[str]]:
    """The images of each class of a split, as names relative to `folder`; what is skipped is said.

    Raises:  ValueError for a class without an image; OSError
    """
    found = [find_files(folder, f"{part}/{label}", SUFFIXES) for label in classes]
    for label, of_class in zip(classes, found, strict=True):
        if not of_class.samples:
            raise ValueError(f"{folder / part / label} holds no image ({', '.join(SUFFIXES)}); fill it, or remove it")
    beside = [f"{part}/{path.name}" for path in sorted((folder / part).iterdir()) if path.name not in classes]
    hidden = [name for name in beside if "/." in name] + [name for of_class in found for name in of_class.hidden]
    unknown = [name for name in beside if "/." not in name] + [name for of_class in found for name in of_class.unknown]
    if hidden or unknown:
        notice(f"{folder}: skipped {describe_skipped(hidden, unknown)}; images end in {', '.join(SUFFIXES)}")
    if animations := sum(name.lower().endswith(".gif") for of_class in found for name in of_class.samples):
        notice(f"{folder}: {count(animations, 'GIF')} in {part}; of animations the first image is read")
    return [of_class.samples for of_class in found]


def open_file(file: Path) -> BinaryIO:
    return file.open("rb")


ENTRY = DatasetEntry(
    image_folder, "any folder of images: train/CLASS/*.jpg, val/CLASS/*.jpg", variable_size=True, class_order=True
)
