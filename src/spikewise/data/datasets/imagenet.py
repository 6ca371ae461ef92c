"""ImageNet (ILSVRC2012): 1.3 million photographs of 1,000 classes (Russakovsky et al. 2015)."""

from importlib import resources
from pathlib import Path
from typing import Unpack

from ... import disk
from ..dataset import DatasetEntry, DatasetInfo, PrepareSpec, ProgressCallback, is_partial, require_split
from ..fetch.unpack import unpack
from ..files import find_folder
from ..images.decode import decode_as_published
from ..images.photographs import ImageFiles, View
from .image_folder import list_classes, load_split

NUM_IMAGES = {"train": 1_281_167, "val": 50_000}
TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
SYNSET_LABELS = "imagenet_2012_validation_synset_labels.txt"  # a class per line, in the order of the images
VAL_SOLUTION = "LOC_val_solution.csv"  # ImageId, then a class and boxes


def imagenet(split: str, root: str | Path | None = None, **view: Unpack[View]) -> ImageFiles:
    """ImageNet from its folders train and val, each with the 1,000 folders n01440764 to n15075141.

    Images are decoded as torchvision did for the published networks: the EXIF orientation, which a few have, is ignored.

    split:   "train", or "test", which is the folder val
    view:    size, crop_scale, mean, std of `ImageFiles`
    Raises:  FileNotFoundError or ValueError as `image_folder` does, and for classes that are not ImageNet's
    """
    require_split(split, "imagenet")
    hint = "get it with `spikewise data prepare imagenet --source FOLDER`"
    folder = find_folder(root, "imagenet", "train", hint, "ILSVRC2012", "ILSVRC/Data/CLS-LOC")
    require_imagenet_classes(folder / "train", allow_partial=is_partial(folder))
    return load_split("imagenet", split, folder, "text", decode_as_published, **view)


def imagenet_classes() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes, by class index."""
    return tuple((resources.files(__package__) / "imagenet.txt").read_text().split())


def require_imagenet_classes(folder: Path, *, allow_partial: bool) -> None:
    """Refuse a folder of classes that are not ImageNet's, or, unless `allow_partial`, fewer than all of them."""
    found, classes = list_classes(folder), imagenet_classes()
    if unknown := sorted(set(found) - set(classes)):
        raise ValueError(
            f"{folder} holds {unknown[0]!r}, which is none of ImageNet's 1,000 classes (n01440764 ... n15075141); "
            "for other classes use the data set image-folder"
        )
    if len(found) < len(classes) and not allow_partial:
        raise ValueError(
            f"{folder} holds {len(found)} of ImageNet's 1,000 classes, {min(set(classes) - set(found))} is the first that is "
            "missing; unpack it again, or, to use a part of it, choose the data set image-folder"
        )


def count_images(folder: Path) -> dict[str, int]:
    """Images in ImageNet's folders train and val, whether or not they are complete.

    Raises:  ValueError or FileNotFoundError for a folder that is missing or is not ImageNet's
    """
    require_imagenet_classes(folder / "train", allow_partial=True)
    splits = {"train": "train", "val": "test"}
    return {part: len(load_split("imagenet", split, folder, "text", decode_as_published)) for part, split in splits.items()}


def required_bytes(source: Path) -> int:
    return sum((source / name).stat().st_size for name in (TRAIN_TAR, VAL_TAR) if (source / name).is_file())


def write_files(source: Path, work: Path, advance: ProgressCallback, allow_partial: bool) -> None:
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
    """The class of every validation image, by file name.

    Raises:  ValueError where neither of the two files that list them is there
    """
    if (source / SYNSET_LABELS).is_file():
        names = (source / SYNSET_LABELS).read_text().split()
        return {f"ILSVRC2012_val_{i:08}.JPEG": name for i, name in enumerate(names, start=1)}
    if (source / VAL_SOLUTION).is_file():
        rows = [line.split(",", 1) for line in (source / VAL_SOLUTION).read_text().splitlines()[1:] if "," in line]
        return {f"{image}.JPEG": boxes.split()[0] for image, boxes in rows if boxes.split()}
    raise ValueError(
        f"{source} has neither {SYNSET_LABELS} nor {VAL_SOLUTION}, which list the classes of the validation images"
    )


ENTRY = DatasetEntry(
    imagenet,
    "1.3 million photographs, 1,000 classes; spikewise data prepare imagenet",
    DatasetInfo(num_train=1_281_167, num_classes=1000, shape=(3, 224, 224)),
    variable_size=True,
    prepare=PrepareSpec(
        f"the folder with ImageNet's folders train and val, or with {TRAIN_TAR} and {VAL_TAR}",
        required_bytes,
        write_files,
        NUM_IMAGES,
        count_images,
        hash_contents=False,
    ),
)
