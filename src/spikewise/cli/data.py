"""The commands `spikewise data` and `spikewise events`."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

SHOWN = 50  # classes; a picture of a thousand takes minutes and 100 MB
Json = Annotated[bool, tyro.conf.arg(name="json")]


def download(name: Positional[str], root: Path | None = None) -> None:
    """Fetch a data set from its public source, checked and continued where it broke off.

    Args:
        name: a data set with a public source: fashion-mnist, cifar10 and so on
        root: where to; default $SPIKEWISE_DATA, or else ./data
    """
    from ..data.fetch.download import download as fetch
    from ..data.files import data_root

    for path in fetch(name, data_root(root)):
        print(path)


def prepare(name: Positional[str], source: Path, root: Path | None = None, partial: bool = False) -> None:
    """Turn what a data set's source delivers into the folder that runs read. Broken off, the same command goes on.

    Args:
        name: a data set that needs preparing: nmnist, dvs-gesture and so on
        source: the archive, or the folder of archives or files, as it was delivered
        root: where to; default $SPIKEWISE_DATA, or else ./data
        partial: take fewer recordings than were published, too
    """
    import sys

    from ..data.dataset import MANIFEST
    from ..data.fetch.prepare import prepare as make
    from ..data.files import data_root

    folder = make(name, source, data_root(root), partial=partial, log=lambda text: print(text, file=sys.stderr))
    about = json.loads((folder / MANIFEST).read_text())
    counts = ", ".join(f"{count:,} {part}" for part, count in about["counts"].items())
    whole = "" if about["complete"] else ", not all that was published"
    print(f"{folder}: {counts}{whole}; {about['files']:,} files, sha256 {about['sha256'][:16]}")


def shard(source: Positional[Path], out: Positional[Path], megabytes: int = 256) -> None:
    """Put a folder of images by class into tar files, in WebDataset's layout, for the data set image-shards.

    Args:
        source: the folder with train/CLASS and val/CLASS
        out: where to; train-000000.tar and so on, and shards.json
        megabytes: about how large each becomes
    """
    from ..data.datasets.image_shards import write_shards

    print(write_shards(source, out, megabytes=megabytes))


def info(name: Positional[str], root: str | None = None, picture: Path | None = None, as_json: Json = False) -> None:
    """What a data set holds.

    Args:
        name: a data set of `spikewise list datasets`
        root: where it lies, of image-shards also an address; default $SPIKEWISE_DATA, or else ./data
        picture: draw a sample of every class, of the first 50, into this PNG
        as_json: print JSON instead of a table
    """
    from ..data import find_dataset

    entry = find_dataset(name)
    splits = {split: entry.load(split, root) for split in ("train", "test")}
    train = splits["train"]
    sample = train.sample(0)
    about: dict[str, Any] = {
        "name": name,
        "description": entry.description,
        "samples": {split: len(data.labels) for split, data in splits.items()},
        "shape": list(sample.shape),
        "classes": {
            kind: {split: Counter(data.labels.tolist())[label] for split, data in splits.items()}
            for label, kind in enumerate(train.class_names)
        },
        "split_variants": list(entry.split_variants),
    }
    if entry.events:
        about["events_per_frame"] = round(float(sample.sum()) / len(sample), 1)
    if picture is not None:
        from ..data.events.plot import contact_sheet

        first = [int((train.labels == label).argmax()) for label in sorted(set(train.labels.tolist()))[:SHOWN]]
        contact_sheet([train.sample(i) for i in first], [train.class_names[int(train.labels[i])] for i in first], picture)
    if as_json:
        print(json.dumps(about))
        return
    print(f"{name}: {about['description']}")
    print(f"samples      {', '.join(f'{count:,} {split}' for split, count in about['samples'].items())}")
    print(f"shape        {' x '.join(map(str, sample.shape))}{' (T, polarity, height, width)' if sample.ndim == 4 else ''}")
    if entry.events:
        print(f"first sample {about['events_per_frame']:,} events per frame")
    if entry.split_variants:
        print(f"data.part    {', '.join(entry.split_variants)}")
    print(f"{'class':<32} {'train':>9} {'test':>9}")
    for kind, counts in list(about["classes"].items())[:SHOWN]:
        print(f"{kind:<32} {counts['train']:>9,} {counts['test']:>9,}")
    if len(about["classes"]) > SHOWN:
        print(f"and {len(about['classes']) - SHOWN} more")
    if picture is not None:
        print(picture)


def events_info(files: Positional[tuple[Path, ...]], format: str | None = None, as_json: Json = False) -> None:
    """Counts, rate, duration and sensor of recordings.

    Args:
        files: recordings of any format that is known
        format: its name, if a file does not tell it
        as_json: print JSON, a line per file
    """
    from ..data.events.formats import FORMATS, detect_format, read_events
    from ..data.events.summary import summarize_events

    if not files:
        raise ValueError("events info needs a recording: spikewise events info FILE")
    for file in files:
        name = format or detect_format(file)
        about = {"file": str(file), "format": name} | summarize_events(read_events(file, name))
        if as_json:
            print(json.dumps(about))
            continue
        print(f"{file}: {FORMATS[name].description}")
        print(f"  events     {about['events']:,}, {100 * about['on_fraction']:.1f} % of them ON (brighter)")
        print(f"  duration   {about['duration_s']:.6g} s, {about['rate']:,.0f} events per second")
        print(f"  sensor     {about['sensor']} pixels, {100 * about['active_pixels']:.1f} % of them with events")
        if pixel := about["most_active_pixel"]:
            print(f"  most active  x={pixel['x']}, y={pixel['y']} with {pixel['events']:,} events")
        if not about["is_time_sorted"]:
            print("  times run backwards somewhere")


def events_show(
    file: Positional[Path], out: Path | None = None, frames: int = 8, seconds: float | None = None, format: str | None = None
) -> None:
    """Draw a recording: .gif, an animation; .png, its frames in a row over its events in space and time.

    Args:
        file: a recording
        out: the picture; default the recording's name with .png, in the working folder
        frames: how many, 1 or more; an animation has four times as many
        seconds: how long the animation takes; default as long as the recording, 1 to 10
        format: the recording's, if the file does not tell it
    """
    from ..data.events.formats import read_events
    from ..data.events.plot import plot_recording

    out = out or Path(file.name).with_suffix(".png")
    plot_recording(read_events(file, format), out, frames=frames, seconds=seconds)
    print(out)


def events_convert(file: Positional[Path], out: Positional[Path], format: str | None = None) -> None:
    """Write a recording as NPZ or HDF5.

    Args:
        file: a recording
        out: ends with .npz, .h5 or .hdf5
        format: the recording's, if the file does not tell it
    """
    from ..data.events.formats import read_events, write_events

    events = read_events(file, format)
    write_events(events, out)
    print(f"{out}: {len(events):,} events")


DATA: dict[str, Callable[..., None]] = {"download": download, "prepare": prepare, "shard": shard, "info": info}
EVENTS: dict[str, Callable[..., None]] = {"info": events_info, "show": events_show, "convert": events_convert}
