"""What is wrong with a folder of samples, found before hours are spent on it."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .class_folders import WINDOWS_MANIFEST, describe_skipped, find_files
from .datasets.image_folder import SPLIT_FOLDERS
from .datasets.image_shards import SHARD_LIST, image_shards, read_shard_list
from .events.formats import SUFFIXES as RECORDING_SUFFIXES
from .events.formats import may_be_recording
from .events.formats.sensor import Size
from .images.decode import SUFFIXES as IMAGE_SUFFIXES
from .images.shards import ShardEntry
from .inspection import FileFacts, Track, inspect_files

OWN_FILES = (WINDOWS_MANIFEST,)  # that commands of ours leave beside samples
SIZE_FACTOR = 16  # a file this many times larger or smaller than the median is far from the rest


class Sample(NamedTuple):
    """A file, and where it belongs."""

    split: str
    label: str
    name: str
    file: Path | ShardEntry


class Finding(NamedTuple):
    """Something wrong.

    kind:   empty, damaged, unclear (its unit has to be told), mislabelled, duplicate, size, sensor (another than most), class
            (missing on one side, or empty), split, stray
    files:  that it is about
    """

    kind: str
    text: str
    files: tuple[str, ...] = ()


@dataclass
class FolderReport:
    """What was read, and what is wrong.

    dataset:   the data set that reads such a folder
    samples:   files read, by split; "" where there are no splits
    classes:   names of all classes
    skipped:   how many files are no samples, with examples; "" for none
    """

    dataset: str
    samples: dict[str, int]
    classes: list[str]
    findings: list[Finding]
    skipped: str = ""


def check_folder(folder: Path, track: Track = lambda facts, total: facts, processes: int = 1) -> FolderReport:
    """Read every sample of a folder once and list what is wrong.

    Files that are damaged, empty, truncated, named as another format, of the same bytes as another one, or more than
    SIZE_FACTOR times larger or smaller than the median (in pixels, or events); classes that are empty, or in one split only.

    folder:     as image-folder, image-shards or event-folder read it; which one, its files tell
    track:      a function that passes the facts of files on, and shows progress
    processes:  that read files; 1: this one
    Raises:     FileNotFoundError; ValueError for a folder without samples, or shards whose list or tar files are damaged
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; give one with train/CLASS and val/CLASS")
    if (folder / SHARD_LIST).is_file():
        report, samples = FolderReport("image-shards", {}, [], []), list(samples_of_shards(folder))
    else:
        report, samples = scan_class_folders(folder)
    files, events = [one.file for one in samples], report.dataset == "event-folder"
    facts = list(inspect_files(files, events=events, track=track, processes=processes))
    report.samples = {
        split: sum(one.split == split for one in samples) for split in dict.fromkeys(one.split for one in samples)
    }
    report.classes = sorted({one.label for one in samples})
    unreadable = [
        Finding(fact.kind, f"{one.name} {fact.problem}", (one.name,))
        for one, fact in zip(samples, facts, strict=True)
        if fact.kind
    ]
    report.findings += [
        *unreadable,
        *find_duplicates(samples, facts),
        *find_outliers(samples, facts),
        *find_sensors(samples, facts),
    ]
    return report


def samples_of_shards(folder: Path) -> Iterator[Sample]:
    listed = read_shard_list(str(folder))
    for split in (split for split, parts in SPLIT_FOLDERS.items() if any(part in listed for part in parts)):
        data = image_shards(split, folder)
        part = next(part for part in SPLIT_FOLDERS[split] if part in listed)
        for file, label in zip(data.files, data.labels, strict=True):
            yield Sample(part, data.class_names[label], str(file).removeprefix(f"{folder}/").rstrip(","), file)


@dataclass
class Scan:
    """What the names in class folders tell, before a file is read."""

    samples: list[Sample] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)  # by split
    findings: list[Finding] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def add_split(self, folder: Path, split: str, suffixes: tuple[str, ...], *, flat: bool) -> None:
        """The class folders of a split; `flat`: samples lie in them directly, as event-folder wants it."""
        entries = sorted(path for path in (folder / split).iterdir() if path.name[0] != ".")
        self.classes[split] = [path.name for path in entries if path.is_dir()]
        for name in (path.relative_to(folder).as_posix() for path in entries if not path.is_dir()):
            if name.lower().endswith(suffixes) and is_sample(folder / name):
                self.findings.append(Finding("stray", f"{name} is in no class", (name,)))
            else:
                self.unknown.append(name)
        for label in self.classes[split]:
            where = Path(split, label).as_posix()
            found = find_files(folder, where, suffixes, is_sample)
            inside = [name for name in found.samples if not flat or name.count("/") == where.count("/") + 1]
            if not inside:
                self.findings.append(Finding("class", f"{where} is empty", (where,)))
            self.samples += [Sample(split, label, name, folder / name) for name in inside]
            self.hidden += found.hidden
            self.unknown += [*found.unknown, *sorted({*found.samples} - {*inside})]


def is_sample(path: Path) -> bool:
    """Whether a file whose name is that of an image or recording is one: text may be anything."""
    return path.suffix.lower() in IMAGE_SUFFIXES or may_be_recording(path)


def scan_class_folders(folder: Path) -> tuple[FolderReport, list[Sample]]:
    """The samples in the class folders of each split, and what their names alone show to be wrong.

    Raises:  ValueError for a folder without samples
    """
    everything = find_files(folder, ".", (*IMAGE_SUFFIXES, *RECORDING_SUFFIXES), is_sample).samples
    if not everything:
        raise ValueError(f"{folder} holds neither images ({', '.join(IMAGE_SUFFIXES)}) nor recordings; give another folder")
    events = sum(name.lower().endswith(tuple(RECORDING_SUFFIXES)) for name in everything) > len(everything) / 2
    suffixes, scan = tuple(RECORDING_SUFFIXES if events else IMAGE_SUFFIXES), Scan()
    wanted = (("train",), ("test",) if events else SPLIT_FOLDERS["test"])
    splits = [next((part for part in parts if (folder / part).is_dir()), None) for parts in wanted]
    if events and splits[0] is None:  # event-folder divides each class by itself
        scan.add_split(folder, "", suffixes, flat=True)
    for split, parts in zip(splits, wanted, strict=True):
        if split is not None:
            scan.add_split(folder, split, suffixes, flat=events)
        elif not events or splits[0]:
            scan.findings.append(Finding("split", f"there is no folder {' or '.join(parts)} in {folder}; training needs one"))
    unknown = [name for name in scan.unknown if Path(name).name not in OWN_FILES]
    name, skipped = "event-folder" if events else "image-folder", describe_skipped(scan.hidden, unknown)
    return FolderReport(name, {}, [], scan.findings + find_lone_classes(scan.classes), skipped), scan.samples


def find_lone_classes(classes: dict[str, list[str]]) -> list[Finding]:
    """Classes that some splits have and others have not."""
    return [
        Finding("class", f"{label} is a class in {', '.join(split for split in classes if label in classes[split])} only")
        for label in sorted(set().union(*classes.values()))
        if not all(label in names for names in classes.values())
    ]


def find_duplicates(samples: Sequence[Sample], facts: Iterable[FileFacts]) -> list[Finding]:
    """Files of the same bytes, and whether they are in other classes or splits."""
    groups = defaultdict(list)
    for one, fact in zip(samples, facts, strict=True):
        if fact.digest and fact.kind != "empty":
            groups[fact.digest].append(one)
    return [
        Finding(
            "duplicate",
            f"{', '.join(one.name for one in group)}: the same bytes, {describe_place(group)}",
            tuple(one.name for one in group),
        )
        for group in groups.values()
        if len(group) > 1
    ]


def describe_place(group: Sequence[Sample]) -> str:
    """Which splits and classes hold these files."""
    splits, labels = sorted({one.split for one in group}), sorted({one.label for one in group})
    across = f"in {' and '.join(splits)}, " if len(splits) > 1 else ""
    return across + (f"in the classes {' and '.join(labels)}" if len(labels) > 1 else f"in the class {labels[0]}")


def find_outliers(samples: Sequence[Sample], facts: Sequence[FileFacts]) -> list[Finding]:
    """Files whose size is far from the rest."""
    median = statistics.median([fact.amount for fact in facts if fact.amount] or [0])
    return [
        Finding("size", f"{one.name} has {fact.size}, far from the median of {median:,.0f}", (one.name,))
        for one, fact in zip(samples, facts, strict=True)
        if fact.amount and not median / SIZE_FACTOR <= fact.amount <= median * SIZE_FACTOR
    ]


def find_sensors(samples: Sequence[Sample], facts: Sequence[FileFacts]) -> list[Finding]:
    """Recordings of another sensor than most."""
    sensors = Counter(fact.sensor for fact in facts if fact.sensor)
    usual = sensors.most_common(1)[0][0] if sensors else None
    return [
        Finding("sensor", f"{one.name} has a sensor of {pixels(fact.sensor)}, most have one of {pixels(usual)}", (one.name,))
        for one, fact in zip(samples, facts, strict=True)
        if fact.sensor and usual and fact.sensor != usual
    ]


def pixels(sensor: Size) -> str:
    return f"{sensor[1]} x {sensor[0]} pixels"
