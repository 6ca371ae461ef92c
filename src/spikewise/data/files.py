"""Where data lies, and long lists of files in little memory."""

import os
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

Item = TypeVar("Item")


def data_root(root: str | Path | None) -> Path:
    """The folder of the data: `root`, or $SPIKEWISE_DATA, or `data` in the working folder."""
    return Path(root or os.environ.get("SPIKEWISE_DATA") or "data")


def find_folder(root: str | Path | None, name: str, marker: str, hint: str, *other_names: str) -> Path:
    """The folder of a data set: the data root itself or the folder `name` in it, whichever contains `marker`.

    marker:       a file (also as .gz) or folder that the data set has
    hint:         how to get the data set, for the error message
    other_names:  further folders below the data root to look in
    Raises:       FileNotFoundError that lists where it looked and what to do
    """
    base = data_root(root)
    for folder in (base, *(base / other for other in (name, *other_names))):
        if (folder / marker).exists() or (folder / f"{marker}.gz").exists():
            return folder
    raise FileNotFoundError(
        f"no {name} data: {marker} is neither in {base} nor in {base / name}; {hint}, or say where it is "
        "(--data.root, or SPIKEWISE_DATA in the environment)"
    )


def count_matches(folder: Path, patterns: dict[str, str]) -> dict[str, int]:
    """How many files below the folder match each of the patterns, by the patterns' names."""
    return {name: sum(1 for _ in folder.glob(pattern)) for name, pattern in patterns.items()}


class LazySequence(Sequence[Item]):
    """A sequence that makes each item when it is asked for."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item at `index`, from 0 to len - 1."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        chosen = range(len(self))[index]
        return [self.item(i) for i in chosen] if isinstance(chosen, range) else self.item(chosen)


class PathArray(LazySequence[Path]):
    """Paths below one folder, in two arrays: a list of paths would be copied into every worker, object by object.

    names:   relative to the folder, or absolute paths below it
    Raises:  ValueError for a path that is not below the folder
    """

    def __init__(self, root: Path, names: Iterable[str | Path]):
        self.root = root
        buffer, ends = bytearray(), array("q")
        for name in names:
            buffer += os.fsencode(Path(name).relative_to(root) if os.fspath(name).startswith("/") else name)
            ends.append(len(buffer))
        self.ends, self.buffer = np.frombuffer(ends, dtype=np.int64), np.frombuffer(buffer, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, index: int) -> str:
        """The path relative to the folder."""
        index = range(len(self))[index]
        begin = self.ends[index - 1] if index else 0
        return os.fsdecode(self.buffer[begin : self.ends[index]].tobytes())

    def item(self, index: int) -> Path:
        return self.root / self.name(index)
