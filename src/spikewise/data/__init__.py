"""Images and events, and the order in which they are seen."""

from collections.abc import Callable
from typing import NamedTuple

from .cifar10dvs import SPLITS as CIFAR_PARTS
from .cifar10dvs import cifar10_dvs
from .dvsgesture import SPLITS as GESTURE_PARTS
from .dvsgesture import dvs_gesture
from .event_folder import event_folder
from .folder import image_folder, imagenet
from .images import Images, cifar10, cifar100, digits, fashion_mnist
from .nmnist import nmnist
from .order import Order, generator
from .recordings import Recordings
from .samples import Samples
from .shards import image_shards
from .simulate import digits_events


class Source(NamedTuple):
    """A data set: how it is opened, and what it is.

    open:         a function of (split, root), for events also of T, rule and cache, for photographs of size
    about:        a line for `spikewise list datasets`
    events:       whether its samples are recordings, cut into T frames
    photographs:  whether its samples are images of any size, cut to a square
    parts:        ways to part it into train and test, by name; () where there is one
    """

    open: Callable[..., Samples]
    about: str
    events: bool = False
    photographs: bool = False
    parts: tuple[str, ...] = ()


DATASETS: dict[str, Source] = {
    "digits": Source(digits, "1,797 grey images of 8 x 8 pixels, embedded"),
    "digits-events": Source(
        digits_events, "the digits, 32 x 32 pixels, moved before a simulated event camera; made on the spot", True
    ),
    "fashion-mnist": Source(fashion_mnist, "70,000 grey images of 28 x 28 pixels; spikewise data download fashion-mnist"),
    "cifar10": Source(cifar10, "60,000 colour images of 32 x 32 pixels, 10 classes; spikewise data download cifar10"),
    "cifar100": Source(cifar100, "the same with 100 classes; spikewise data download cifar100"),
    "nmnist": Source(nmnist, "70,000 recordings of an event camera of 34 x 34 pixels; spikewise data prepare nmnist", True),
    "imagenet": Source(imagenet, "1.3 million photographs, 1,000 classes; spikewise data prepare imagenet", photographs=True),
    "image-folder": Source(image_folder, "any folder of images: train/CLASS/*.jpg, val/CLASS/*.jpg", photographs=True),
    "image-shards": Source(
        image_shards, "images in tar files, local or remote: shards.json; spikewise data shard", photographs=True
    ),
    "dvs-gesture": Source(
        dvs_gesture,
        "1,464 recordings of 11 gestures, 128 x 128 pixels; spikewise data prepare dvs-gesture",
        True,
        parts=GESTURE_PARTS,
    ),
    "cifar10-dvs": Source(
        cifar10_dvs,
        "10,000 recordings of moved images, 128 x 128 pixels; spikewise data prepare cifar10-dvs",
        True,
        parts=CIFAR_PARTS,
    ),
    "event-folder": Source(event_folder, "any folder of recordings by class, in train and test or not", True),
}

__all__ = ["DATASETS", "Images", "Order", "Recordings", "Samples", "Source", "generator"]
