"""The commands `spikewise data`: data sets."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from ..progress import MinuteLines, say_on_stderr
from ..wording import count
from .options import DataFolder, DataRoot, DatasetName, Json, Picture, require_folders

if TYPE_CHECKING:
    from ..data import Dataset

KINDS = {  # of a `Finding`, as they are counted
    "empty": "empty file",
    "damaged": "damaged file",
    "unclear": "unclear unit",
    "sensor": "other sensor",
    "mislabelled": "mislabelled file",
    "duplicate": "duplicate",
    "size": "unusual size",
    "class": "incomplete class",
    "split": "missing split",
    "stray": "stray file",
}
MAX_CLASSES = 50  # shown; a picture of a thousand takes minutes and 100 MB


def download(name: DatasetName, data_root: DataFolder = None) -> None:
    """Fetch a data set from its public source; interrupted, it continues.

    Args:
        name: a data set with a public source: fashion-mnist, cifar10 and so on
    """
    from ..data.fetch.download import download as fetch
    from ..data.files import data_root as data_folder

    for path in fetch(name, data_folder(data_root), log=say_on_stderr):
        print(path)


def prepare(
    name: DatasetName,
    source: Annotated[Path, arg(metavar="FILES")],
    data_root: DataFolder = None,
    partial: bool = False,
) -> None:
    """Make the folder that runs read from the files as published.

    Interrupted, the same command continues.

    Args:
        name: a data set that needs preparing: nmnist, dvs-gesture and so on
        source: the archive, or the folder of archives or files, as published
        partial: accept fewer recordings than were published
    """
    from ..data.dataset import MANIFEST
    from ..data.fetch.prepare import prepare as prepare_dataset
    from ..data.files import data_root as data_folder

    folder = prepare_dataset(name, source, data_folder(data_root), partial=partial, log=say_on_stderr)
    marker = json.loads((folder / MANIFEST).read_text())
    counts = ", ".join(f"{count:,} {split}" for split, count in marker["counts"].items())
    whole = "" if marker["complete"] else ", not all that was published"
    print(f"{folder}: {counts}{whole}; {count(marker['files'], 'file')}, sha256 {marker['sha256'][:16]}")


def track_files(items: Iterable[Any], total: int) -> Iterator[Any]:
    """Pass the items on, with a progress bar on standard error, or a line there once a minute where that is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    lines = MinuteLines(None if console.is_terminal else say_on_stderr, total)
    tracked = track(items, "reading", total, console=console, transient=True, disable=not console.is_terminal)
    for number, item in enumerate(tracked, start=1):
        yield item
        lines.at(number, partial("read {:,} of {}".format, number, count(total, "file")))


def check(source: Annotated[Positional[Path], arg(metavar="FOLDER")], as_json: Json = False) -> None:
    """Read every file of a folder once and list what is wrong; exit status 1 where something is.

    Args:
        source: images or recordings by class, or shards
    """
    from ..data.check import check_folder

    report = check_folder(source, track_files, processes=os.cpu_count() or 1)
    kinds = Counter(finding.kind for finding in report.findings)
    if as_json:
        findings = [finding._asdict() for finding in report.findings]
        print(json.dumps({"folder": str(source)} | vars(report) | {"findings": findings}))
    else:
        for finding in report.findings:
            print(f"{finding.kind:<12} {finding.text}")
        read = ", ".join(f"{number:,} {split}".strip() for split, number in report.samples.items())
        print(f"{source} ({report.dataset}): read {read or 'nothing'}; {count(len(report.classes), 'class')}")
        if report.skipped:
            print(f"skipped: {report.skipped}")
        print(f"found: {', '.join(count(number, KINDS[kind]) for kind, number in kinds.items()) or 'nothing wrong'}")
    if report.findings:
        raise SystemExit(1)


def shard(
    source: Annotated[Positional[Path], arg(metavar="FOLDER")],
    out: Annotated[Positional[Path], arg(metavar="OUT")],
    megabytes: int = 256,
    class_order: Literal["natural", "text"] = "natural",
) -> None:
    """Pack a folder of images by class into tar files of WebDataset's layout.

    Args:
        source: the folder with train/CLASS and val/CLASS
        out: folder of train-000000.tar and so on, and shards.json
        megabytes: approximate size of each
        class_order: of classes that are all numbers: by number, or as text
    """
    from ..data.datasets.image_shards import write_shards

    processes = os.cpu_count() or 1
    print(write_shards(source, out, megabytes=megabytes, class_order=class_order, track=track_files, processes=processes))


def windows_of(data: "Dataset") -> dict[str, Any] | None:
    """What is known of a data set's windows, where its files are cut from longer recordings."""
    from ..data.events.cut import summarize_windows
    from ..data.files import PathArray

    files = getattr(data, "files", None)
    return summarize_windows(files.root, [files.name(i) for i in range(len(files))]) if isinstance(files, PathArray) else None


def info(
    name: DatasetName,
    data_root: DataRoot = None,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Samples, shape and classes of a data set, with a picture of each class.

    Args:
        name: a data set of `spikewise list datasets`
        picture: draw a sample of every class, of the first 50, into this PNG
    """
    from ..data import find_dataset

    require_folders(picture)
    entry = find_dataset(name)
    splits = {split: entry.load(split, data_root) for split in ("train", "test")}
    train = splits["train"]
    sample = train.sample(0)
    facts: dict[str, Any] = {
        "name": name,
        "description": entry.description,
        "samples": {split: len(data.labels) for split, data in splits.items()},
        "shape": list(sample.shape),
        "classes": {
            class_name: {split: Counter(data.labels.tolist())[label] for split, data in splits.items()}
            for label, class_name in enumerate(train.class_names)
        },
        "split_variants": list(entry.split_variants),
    }
    if entry.events:
        facts["events_per_frame"] = round(float(sample.sum()) / len(sample), 1)
        facts["windows"] = {split: windows_of(data) for split, data in splits.items()}
    if picture is not None:
        from ..data.events.plot import contact_sheet

        first = [int((train.labels == label).argmax()) for label in sorted(set(train.labels.tolist()))[:MAX_CLASSES]]
        contact_sheet([train.sample(i) for i in first], [train.class_names[int(train.labels[i])] for i in first], picture)
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{name}: {facts['description']}")
    print(f"samples      {', '.join(f'{count:,} {split}' for split, count in facts['samples'].items())}")
    print(f"shape        {' x '.join(map(str, sample.shape))}{' (T, polarity, height, width)' if sample.ndim == 4 else ''}")
    if entry.events:
        print(f"first sample {facts['events_per_frame']:,} events per frame")
    for split, cut in facts.get("windows", {}).items():
        if cut is not None:
            seconds = "" if cut["seconds"] is None else f", {cut['seconds']:,.6g} s"
            print(f"{split:<12} {count(cut['windows'], 'window')} of {count(cut['recordings'], 'recording')}{seconds}")
    if facts["split_variants"]:
        print(f"data.split_variant  {', '.join(facts['split_variants'])}")
    print(f"{'class':<32} {'train':>9} {'test':>9}")
    for class_name, counts in list(facts["classes"].items())[:MAX_CLASSES]:
        print(f"{class_name:<32} {counts['train']:>9,} {counts['test']:>9,}")
    if len(facts["classes"]) > MAX_CLASSES:
        print(f"and {len(facts['classes']) - MAX_CLASSES} more")
    if picture is not None:
        print(picture)
