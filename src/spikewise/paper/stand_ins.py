"""Small data sets of the right shape and of no meaning: what `--check` sends through the whole way."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.datasets.cifar import CIFAR10_CLASSES
from ..data.datasets.dvs_gesture import GESTURES, encode_npz, gesture_folder
from ..data.datasets.imagenet import imagenet_classes
from ..data.events import Events

EACH = {"train": 2, "test": 1}  # recordings or images of a class
IMAGENET_CLASSES, SIDE = 6, 80
EVENTS, DURATION = 2_000, 500_000  # of a recording; microseconds


def dvs_gesture(folder: Path, rng: np.random.Generator) -> None:
    for split, each in EACH.items():
        for gesture in range(len(GESTURES)):
            for i in range(each):
                events = Events(*columns(rng, 128), size=(128, 128))
                put(folder / split / gesture_folder(gesture) / f"trial-{i:02}.npz", encode_npz(events))
    put(folder / "prepared.json", json.dumps({"complete": False}).encode())


def cifar10_dvs(folder: Path, rng: np.random.Generator) -> None:
    for kind in CIFAR10_CLASSES:
        for i in range(sum(EACH.values())):
            put(folder / kind / f"cifar10_{kind}_{i}.aedat", aedat2(*columns(rng, 128)))


def imagenet(folder: Path, rng: np.random.Generator) -> None:
    for split, each in EACH.items():
        for label in imagenet_classes()[:IMAGENET_CLASSES]:
            for i in range(2 * each):
                put(folder / ("val" if split == "test" else split) / label / f"{label}_{i}.JPEG", photograph(rng))
    put(folder / "prepared.json", json.dumps({"complete": False}).encode())


STAND_INS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "dvs-gesture": dvs_gesture,
    "cifar10-dvs": cifar10_dvs,
    "imagenet": imagenet,
}


def stand_ins(folder: Path, names: Iterable[str]) -> Path:
    """Write stand-ins of data sets into `folder`, each under its name; the folder."""
    for name in names:
        STAND_INS[name](folder / name, np.random.default_rng(0))
    return folder


def columns(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """t, x, y, polarity of random events."""
    t = np.sort(rng.integers(0, DURATION, EVENTS))
    x, y, polarity = (rng.integers(0, end, EVENTS) for end in (side, side, 2))
    return t, x.astype(np.uint16), y.astype(np.uint16), polarity.astype(np.uint8)


def aedat2(t: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray) -> bytes:
    """An AEDAT 2.0 file of a DVS128: pairs of address and time, big-endian."""
    address = y.astype(np.uint32) << 8 | x.astype(np.uint32) << 1 | polarity
    return b"#!AER-DAT2.0\r\n" + np.stack([address, t], 1).astype(">u4").tobytes()


def photograph(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
