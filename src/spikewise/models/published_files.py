"""The checkpoint files that the paper's authors published: which they are, and the accuracy that is to be expected of them.

Their logs give the accuracy of every epoch, counted from 0. The files whose names end in _319 are those of the last epoch: the
accuracy to expect is the last, not the best one, which the paper reports.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .network import Network

if TYPE_CHECKING:  # networks are built without readers of images and events
    from ..data.input_spec import InputSpec

ROUNDING = 0.006  # accuracies are known to a hundredth of a per cent


class PublishedRun(NamedTuple):
    """One of the authors' training runs.

    files:                   names of its files, without suffix; () where they are not known
    data:                    the data set, by its name here
    connect:                 g of E6; None for Spiking ResNets
    last_epoch, best_epoch:  counted from 0
    last, best:              top-1 accuracy on the test split behind them, in per cent
    Source:  the authors' training logs (`spikewise reproduce fig3` draws them)
    """

    files: tuple[str, ...]
    model: str
    data: str
    num_classes: int
    T: int
    connect: str | None
    last_epoch: int
    last: float
    best_epoch: int
    best: float


class PublishedAccuracy(NamedTuple):
    """What the authors' log says of a file: top-1 accuracy in per cent, after an epoch counted from 0; of which run.

    accuracy:  None for an epoch that is neither the last nor the best
    """

    run: PublishedRun
    epoch: int
    accuracy: float | None


def imagenet_run(depth: int, kind: str, last: float, best: float, best_epoch: int) -> PublishedRun:
    file, connect = (f"sew{depth}_checkpoint_319", "ADD") if kind == "sew" else (f"spiking_resnet_{depth}_checkpoint_319", None)
    return PublishedRun((file,), f"{kind}_resnet{depth}", "imagenet", 1000, 4, connect, 319, last, best_epoch, best)


PUBLISHED_RUNS = (
    imagenet_run(18, "sew", 62.81, 63.18, 313),
    imagenet_run(34, "sew", 66.66, 67.04, 318),
    imagenet_run(50, "sew", 67.37, 67.78, 310),
    imagenet_run(101, "sew", 68.40, 68.76, 317),
    imagenet_run(152, "sew", 68.99, 69.26, 294),
    imagenet_run(18, "spiking", 61.95, 62.32, 310),
    imagenet_run(34, "spiking", 61.59, 61.86, 316),
    imagenet_run(50, "spiking", 57.66, 57.66, 319),
    imagenet_run(101, "spiking", 30.73, 31.79, 257),
    imagenet_run(152, "spiking", 8.71, 10.03, 195),
    PublishedRun((), "sew_7b", "dvs-gesture", 11, 16, "ADD", 191, 96.88, 89, 97.92),
    PublishedRun((), "sew_wide7b", "cifar10-dvs", 10, 16, "ADD", 63, 72.8, 41, 74.4),
)


def find_published(file: Path, net: Network, record: dict[str, Any]) -> PublishedAccuracy | None:
    """Which published file this is: by its name or, renamed, by the best accuracy that it records; None: none of them.

    A name alone is not enough: network, connection and classes must be those of the run.
    record:  "epoch" and "best" (accuracy in per cent) as the checkpoint says, each where it does
    """
    epoch, best = record.get("epoch"), record.get("best")
    for run in PUBLISHED_RUNS:
        connect = net.spec["connect"] if run.connect else None
        if (run.model, run.num_classes, run.connect) != (net.spec["name"], net.num_classes, connect):
            continue
        named, recorded = file.stem in run.files, best is not None and abs(best - run.best) < ROUNDING
        if not (named or recorded) or (named and best is not None and not recorded):
            continue
        epoch = run.last_epoch if epoch is None and named else epoch
        if epoch is not None:
            return PublishedAccuracy(run, epoch, {run.last_epoch: run.last, run.best_epoch: run.best}.get(epoch))
    return None


def input_of(run: PublishedRun) -> "InputSpec":
    """What the network of a run is shown, and its classes in the order of its outputs."""
    from ..data.datasets.cifar10_dvs import CLASS_NAMES
    from ..data.datasets.dvs_gesture import GESTURES
    from ..data.datasets.imagenet import imagenet_classes
    from ..data.input_spec import InputSpec

    if run.data == "imagenet":
        return InputSpec(run.data, "photographs", imagenet_classes(), (3, 224, 224))
    names = GESTURES if run.data == "dvs-gesture" else CLASS_NAMES
    return InputSpec(run.data, "events", names, (2, 128, 128), num_frames=run.T)
