"""DVS128 Gesture: 11 gestures of 29 people, recorded by an event camera (Amir et al. 2017)."""

import functools
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ... import disk
from ...wording import count
from ..dataset import MANIFEST, DatasetEntry, DatasetInfo, PrepareSpec, ProgressCallback, require_split
from ..events.formats import read_events
from ..events.formats.npz import encode_npz
from ..events.recordings import EventDataset, dataset_by_class, recordings_by_class
from ..fetch.unpack import unpack, unpacked_bytes
from ..files import count_matches, find_folder

SIZE = (128, 128)
GESTURES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
    *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)
NUM_RECORDINGS = {"train": 1176, "test": 288}
TRIAL_LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
LABEL_HEADER = ["class", "startTime_usec", "endTime_usec"]


def dvs_gesture(
    split: str,
    root: str | Path | None = None,
    *,
    T: int = 16,
    split_by: str = "count",
    cache: bool = False,
    split_variant: str = "published",
    **options: Any,
) -> EventDataset:
    """DVS128 Gesture as `spikewise data prepare dvs-gesture` writes it: one file per performed gesture.

    split_variant:  "published": every row of the label files, 1,176 and 288; "one-per-gesture": of a gesture that was
                    performed twice in a trial only the last one, as in tonic's copy, 1,077 and 264
    T, split_by, cache, options:  as of `nmnist`
    Raises:         FileNotFoundError or ValueError for a folder that is missing or has other classes
    """
    require_split(split, "dvs-gesture")
    hint = "get it with `spikewise data prepare dvs-gesture --source DvsGesture.tar.gz`"
    folder = find_folder(root, "dvs-gesture", MANIFEST, hint)
    found = recordings_by_class(folder / split)
    files = {name: found.pop(gesture_folder(gesture), []) for gesture, name in enumerate(GESTURES)}
    if found:
        raise ValueError(f"{folder / split / next(iter(found))} is not the folder of a gesture; prepare the data again")
    if split_variant == "one-per-gesture":
        files = {name: keep_last_of_trial(recordings) for name, recordings in files.items()}
    read = functools.partial(read_events, format="npz", size=SIZE, time_unit="us")
    return dataset_by_class("dvs-gesture", folder, files, T=T, split_by=split_by, cache=cache, read=read, **options)


def keep_last_of_trial(files: list[Path]) -> list[Path]:
    return list({path.stem.rpartition("-")[0]: path for path in files}.values())


def gesture_folder(gesture: int) -> str:
    return f"{gesture + 1:02}_{GESTURES[gesture].replace(' ', '_')}"


# Preparing ---------------------------------------------------------------------------------------------------------------


class GestureLabel(NamedTuple):
    """A gesture in a trial: its class index, from 0, and its time in microseconds: start <= t < end."""

    gesture: int
    start: int
    end: int


def read_labels(path: Path) -> list[GestureLabel]:
    """The rows of a label file.

    Raises:  ValueError for another header, an unknown gesture, or an end that is not after the start
    """
    lines = read_small_text(path).splitlines()
    if not lines or [cell.strip() for cell in lines[0].split(",")] != LABEL_HEADER:
        first_line = lines[0][:60] if lines else "nothing"
        raise ValueError(f"{path} should begin with {','.join(LABEL_HEADER)}, and begins with {first_line}")
    labels = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            gesture, start, end = (int(cell) for cell in line.split(","))
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} should be three whole numbers") from None
        if not 1 <= gesture <= len(GESTURES):
            raise ValueError(f"{path}, line {number}: gesture {gesture} is none of 1 to {len(GESTURES)}")
        if start >= end:
            raise ValueError(f"{path}, line {number}: the gesture ends at {end}, not after {start}, where it begins")
        labels.append(GestureLabel(gesture - 1, start, end))
    if not labels:
        raise ValueError(f"{path} has no gesture")
    return labels


def read_small_text(path: Path) -> str:
    """The text of a small file.

    Raises:  ValueError for bytes that are not UTF-8
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text: byte {error.start:,} is {error.object[error.start]:#04x}; get it again"
        ) from None


def list_trials(source: Path, split: str, *, allow_partial: bool) -> list[tuple[Path, Path]]:
    """The recordings of a split and their label files.

    allow_partial:  skip recordings that are missing
    Raises:         ValueError for a list that is missing or empty, or a trial without its files
    """
    trial_list = source / TRIAL_LISTS[split]
    if not trial_list.is_file():
        raise ValueError(f"{source} has no {trial_list.name}, the list of the {split} split; get the whole data set")
    names = [line.strip() for line in read_small_text(trial_list).splitlines() if line.strip()]
    if any(Path(name).name != name for name in names):
        raise ValueError(f"{trial_list} names files in other folders; get the data set again")
    pairs = [(source / name, source / f"{Path(name).stem}_labels.csv") for name in names]
    missing = [path for pair in pairs for path in pair if not path.is_file()]
    if missing and not allow_partial:
        raise ValueError(
            f"{missing[0]} is missing ({count(len(missing), 'file')} of {split} in all); or use what is there: --partial"
        )
    pairs = [pair for pair in pairs if all(path.is_file() for path in pair)]
    if not pairs:
        raise ValueError(f"none of the {len(names)} trials in {trial_list} is there")
    return pairs


def cut_trials(source: Path, folder: Path, advance: ProgressCallback, *, allow_partial: bool) -> None:
    """Cut the trials into a file per gesture, folder/split/NN_gesture/trial-NN.npz; files that are there are kept."""
    trials = {split: list_trials(source, split, allow_partial=allow_partial) for split in TRIAL_LISTS}
    recordings = [recording for pairs in trials.values() for recording, _ in pairs]
    if twice := [recording for recording in recordings if recordings.count(recording) > 1]:
        raise ValueError(
            f"{twice[0].name} is listed twice in {' and '.join(TRIAL_LISTS.values())} of {source}; get the lists again"
        )
    for split, pairs in trials.items():
        for recording, label_file in pairs:
            cut_trial(recording, label_file, folder / split)
            advance(recording.stat().st_size)


def cut_trial(recording: Path, label_file: Path, folder: Path) -> None:
    """Write the gestures of one trial, each into the folder of its class."""
    labels = read_labels(label_file)
    targets = [folder / gesture_folder(label.gesture) / f"{recording.stem}-{i:02}.npz" for i, label in enumerate(labels, 1)]
    if all(target.is_file() for target in targets):
        return
    events = read_events(recording, "aedat3", SIZE)
    for label, target in zip(labels, targets, strict=True):
        part = events.between(label.start, label.end)
        if not len(part):
            raise ValueError(f"{label_file}: {recording.name} has no events from {label.start} to {label.end} microseconds")
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            disk.write_stream(target, [encode_npz(part, time_unit="us")])


def required_bytes(source: Path) -> int:
    if source.is_dir():
        return sum(path.stat().st_size for path in source.rglob("*.aedat"))
    return 2 * unpacked_bytes(source)


def write_files(source: Path, work: Path, advance: ProgressCallback, allow_partial: bool) -> None:
    """Unpack the archive where it is one, find the folder with the lists, and cut its trials."""
    base = source
    if source.is_file():
        base = work / ".source"
        wanted = (".aedat", ".csv", ".txt")
        unpack(source, lambda name: base / PurePosixPath(name).name if name.endswith(wanted) else None, advance)
    if not (base / TRIAL_LISTS["train"]).is_file():  # the folder that contains the data set's own
        inside = sorted(base.glob(f"*/{TRIAL_LISTS['train']}"))
        base = inside[0].parent if inside else base
    cut_trials(base, work, advance, allow_partial=allow_partial)
    disk.remove_tree(work / ".source")


ENTRY = DatasetEntry(
    dvs_gesture,
    "1,464 recordings of 11 gestures, 128 x 128 pixels; spikewise data prepare dvs-gesture",
    DatasetInfo(num_train=1176, num_classes=11, shape=(2, 128, 128), split_sizes=(("one-per-gesture", 1077),)),
    events=True,
    split_variants=("published", "one-per-gesture"),
    prepare=PrepareSpec(
        "IBM's DvsGesture.tar.gz, or the folder that is in it",
        required_bytes,
        write_files,
        NUM_RECORDINGS,
        functools.partial(count_matches, patterns={split: f"{split}/*/*.npz" for split in NUM_RECORDINGS}),
    ),
)
