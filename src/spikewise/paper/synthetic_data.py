"""Small random data sets of the right format, for `--check`."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.datasets.cifar import CIFAR10_CLASSES
from ..data.datasets.dvs_gesture import GESTURES, gesture_folder
from ..data.datasets.imagenet import imagenet_classes
from ..data.events.events import Events
from ..data.events.formats.npz import encode_npz

SAMPLES_PER_CLASS = {"train": 2, "test": 1}
IMAGENET_CLASSES, IMAGE_SIDE = 6, 80  # pixels
EVENTS_PER_RECORDING, DURATION_US = 2_000, 500_000


def write_dvs_gesture(folder: Path, rng: np.random.Generator) -> None:
    for split, number in SAMPLES_PER_CLASS.items():
        for gesture in range(len(GESTURES)):
            for i in range(number):
                events = Events(*random_events(rng, 128), size=(128, 128))
                write_file(folder / split / gesture_folder(gesture) / f"trial-{i:02}.npz", encode_npz(events))
    write_file(folder / "prepared.json", json.dumps({"complete": False}).encode())


def write_cifar10_dvs(folder: Path, rng: np.random.Generator) -> None:
    for kind in CIFAR10_CLASSES:
        for i in range(sum(SAMPLES_PER_CLASS.values())):
            write_file(folder / kind / f"cifar10_{kind}_{i}.aedat", aedat2(*random_events(rng, 128)))


def write_imagenet(folder: Path, rng: np.random.Generator) -> None:
    for split, number in SAMPLES_PER_CLASS.items():
        for label in imagenet_classes()[:IMAGENET_CLASSES]:
            for i in range(2 * number):
                write_file(folder / ("val" if split == "test" else split) / label / f"{label}_{i}.JPEG", random_jpeg(rng))
    write_file(folder / "prepared.json", json.dumps({"complete": False}).encode())


WRITERS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "dvs-gesture": write_dvs_gesture,
    "cifar10-dvs": write_cifar10_dvs,
    "imagenet": write_imagenet,
}


def write_synthetic_data(folder: Path, names: Iterable[str]) -> Path:
    """Write random data sets into `folder`, each under its name; return the folder."""
    for name in names:
        WRITERS[name](folder / name, np.random.default_rng(0))
    return folder


def random_events(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """t, x, y, polarity of random events."""
    t = np.sort(rng.integers(0, DURATION_US, EVENTS_PER_RECORDING))
    x, y, polarity = (rng.integers(0, end, EVENTS_PER_RECORDING) for end in (side, side, 2))
    return t, x.astype(np.uint16), y.astype(np.uint16), polarity.astype(np.uint8)


def aedat2(t: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray) -> bytes:
    """An AEDAT 2.0 file of a DVS128: pairs of address and time, big-endian."""
    address = y.astype(np.uint32) << 8 | x.astype(np.uint32) << 1 | polarity
    return b"#!AER-DAT2.0\r\n" + np.stack([address, t], 1).astype(">u4").tobytes()


def random_jpeg(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    coarse.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def write_file(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
