"""Images and events, and the order in which they are seen."""

from collections.abc import Callable
from typing import NamedTuple

from .dataset import Samples
from .datasets.cifar10_dvs import SPLITS as CIFAR_PARTS
from .datasets.cifar10_dvs import cifar10_dvs
from .datasets.dvs_gesture import SPLITS as GESTURE_PARTS
from .datasets.dvs_gesture import dvs_gesture
from .datasets.event_folder import event_folder
from .datasets.image_folder import image_folder, imagenet
from .datasets.image_shards import image_shards
from .datasets.nmnist import nmnist
from .events.recordings import Recordings
from .events.simulate import digits_events
from .images.arrays import Images, cifar10, cifar100, digits, fashion_mnist
from .published import Published, Unread
from .sampler import Order, generator


class Source(NamedTuple):
    """A data set: how it is opened, and what it is.

    open:         a function of (split, root), for events also of T, rule and cache, for photographs of size
    about:        a line for `spikewise list datasets`
    events:       whether its samples are recordings, cut into T frames
    photographs:  whether its samples are images of any size, cut to a square
    parts:        ways to part it into train and test, by name; () where there is one
    published:    what is known of it without its files; None of folders of one's own
    """

    open: Callable[..., Samples]
    about: str
    events: bool = False
    photographs: bool = False
    parts: tuple[str, ...] = ()
    published: Published | None = None


DATASETS: dict[str, Source] = {
    "digits": Source(
        digits, "1,797 grey images of 8 x 8 pixels, embedded", published=Published(train=1438, classes=10, shape=(1, 8, 8))
    ),
    "digits-events": Source(
        digits_events,
        "the digits, 32 x 32 pixels, moved before a simulated event camera; made on the spot",
        True,
        published=Published(train=1438, classes=10, shape=(2, 32, 32)),
    ),
    "fashion-mnist": Source(
        fashion_mnist,
        "70,000 grey images of 28 x 28 pixels; spikewise data download fashion-mnist",
        published=Published(train=60_000, classes=10, shape=(1, 28, 28)),
    ),
    "cifar10": Source(
        cifar10,
        "60,000 colour images of 32 x 32 pixels, 10 classes; spikewise data download cifar10",
        published=Published(train=50_000, classes=10, shape=(3, 32, 32)),
    ),
    "cifar100": Source(
        cifar100,
        "the same with 100 classes; spikewise data download cifar100",
        published=Published(train=50_000, classes=100, shape=(3, 32, 32)),
    ),
    "nmnist": Source(
        nmnist,
        "70,000 recordings of an event camera of 34 x 34 pixels; spikewise data prepare nmnist",
        True,
        published=Published(train=60_000, classes=10, shape=(2, 34, 34), tests=10_000),
    ),
    "imagenet": Source(
        imagenet,
        "1.3 million photographs, 1,000 classes; spikewise data prepare imagenet",
        photographs=True,
        published=Published(train=1_281_167, classes=1000, shape=(3, 224, 224)),
    ),
    "image-folder": Source(image_folder, "any folder of images: train/CLASS/*.jpg, val/CLASS/*.jpg", photographs=True),
    "image-shards": Source(
        image_shards, "images in tar files, local or remote: shards.json; spikewise data shard", photographs=True
    ),
    "dvs-gesture": Source(
        dvs_gesture,
        "1,464 recordings of 11 gestures, 128 x 128 pixels; spikewise data prepare dvs-gesture",
        True,
        parts=GESTURE_PARTS,
        published=Published(train=1176, classes=11, shape=(2, 128, 128), parts=(("one-per-gesture", 1077),)),
    ),
    "cifar10-dvs": Source(
        cifar10_dvs,
        "10,000 recordings of moved images, 128 x 128 pixels; spikewise data prepare cifar10-dvs",
        True,
        parts=CIFAR_PARTS,
        published=Published(train=9000, classes=10, shape=(2, 128, 128)),
    ),
    "event-folder": Source(event_folder, "any folder of recordings by class, in train and test or not", True),
}

__all__ = ["DATASETS", "Images", "Order", "Published", "Recordings", "Samples", "Source", "Unread", "generator"]
