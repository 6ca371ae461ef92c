"""Folders of samples by class: which files are samples, what is skipped, and in which order the classes come."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .messages import notice

CLASS_ORDERS = ("natural", "text")
WINDOWS_MANIFEST = "windows.jsonl"  # beside the class folders that `events cut` wrote: no sample, and nothing that was skipped


class FolderFiles(NamedTuple):
    """The files in a folder and the folders in it: samples, and what is skipped; names relative to a folder further up."""

    samples: list[str]
    hidden: list[str]
    unknown: list[str]


def find_files(
    folder: Path, below: str, suffixes: Iterable[str], is_sample: Callable[[Path], bool] = lambda _path: True
) -> FolderFiles:
    """The files in folder/below, as names relative to `folder`, in the order of torchvision's ImageFolder.

    suffixes:   of samples, in small letters; a name that begins with a dot, or is in a folder that does, is hidden
    is_sample:  whether a file with such a name is a sample
    Raises:     OSError
    """
    found, skip, suffixes = FolderFiles([], [], []), len(f"{folder}/"), tuple(suffixes)
    for place, folders, names in sorted(os.walk(f"{folder}/{below}", onerror=raise_error)):
        links = [name for name in folders if Path(place, name).is_symlink()]  # not entered, as they may lead in a circle
        for name in (*sorted(names), *links):
            file = f"{place[skip:]}/{name}"
            if "/." in file:
                found.hidden.append(file)
            elif name.lower().endswith(suffixes) and name not in links and is_sample(Path(place, name)):
                found.samples.append(file)
            elif name != WINDOWS_MANIFEST:
                found.unknown.append(file)
    return found


def raise_error(error: OSError) -> None:
    raise error


def describe_skipped(hidden: Sequence[str], unknown: Sequence[str]) -> str:
    """How many files are no samples, with an example of each kind; "" where there are none."""
    kinds = (("hidden", hidden), ("of an unknown kind", unknown))
    return ", ".join(f"{len(files):,} {kind} (such as {files[0]})" for kind, files in kinds if files)


def order_classes(names: Iterable[str], class_order: str, where: object) -> list[str]:
    """The class folders in the order of the class indices.

    class_order:  "natural": by number where all names are numbers (1, 2, 10), else as text; "text": as text always, as
                  torchvision's ImageFolder does (1, 10, 2)
    where:        the folder, for the notice that the two differ
    Raises:       ValueError for another class_order
    """
    if class_order not in CLASS_ORDERS:
        raise ValueError(f"class_order={class_order!r} is unknown; use {' or '.join(CLASS_ORDERS)}")
    by_text = sorted(names)
    by_number = sorted(by_text, key=int) if all(name.isdecimal() for name in by_text) else by_text
    if by_number == by_text:
        return by_text
    chosen, other, others = (by_number, "text", by_text) if class_order == "natural" else (by_text, "natural", by_number)
    first = next(index for index, name in enumerate(chosen) if name != others[index])
    notice(
        f"{where}: class {first} is {chosen[first]!r}, in {class_order} order; with data.class_order={other} it would be "
        f"{others[first]!r} (text is torchvision's order)"
    )
    return chosen
