"""What the sources of event data sets deliver, in small."""

import shutil
from pathlib import Path

import encoders

from spikewise.data.datasets.cifar import CIFAR10_CLASSES


def gesture_source(folder, trials=("user01_led", "user02_lab", "user24_led"), gestures=(*range(1, 12), 8)):
    """Trials of a few events: each gesture lasts 1,000 microseconds, with pauses of 500; the last of the list for testing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{gesture},{1500 * i},{1500 * i + 1000}" for i, gesture in enumerate(gestures)]
    for seed, trial in enumerate(trials):
        events = encoders.random_events(60 * len(gestures), seed=seed, last=1500 * len(gestures))
        (folder / f"{trial}.aedat").write_bytes(encoders.aedat3(*events))
        (folder / f"{trial}_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]) + "\n")
    (folder / "trials_to_train.txt").write_text("".join(f"{trial}.aedat\n" for trial in trials[:-1]) + "\n")
    (folder / "trials_to_test.txt").write_text(f"{trials[-1]}.aedat\n")
    return folder


def packed(folder):
    """A folder as a .tar.gz file beside it."""
    return Path(shutil.make_archive(str(folder), "gztar", folder.parent, folder.name))


def cifar_source(folder, each=4):
    for label, name in enumerate(CIFAR10_CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            content = encoders.aedat2(*encoders.random_events(50, seed=100 * label + i))
            (folder / name / f"cifar10_{name}_{i}.aedat").write_bytes(content)
    return folder


def nmnist_folders(folder, per_class=(2, 2)):
    """Train/LABEL/NUMBER.bin and Test/LABEL/NUMBER.bin."""
    for split, number in zip(("Train", "Test"), per_class, strict=True):
        for label in range(10):
            (folder / split / str(label)).mkdir(parents=True)
            for i in range(number):
                content = encoders.atis(*encoders.random_events(30, height=34, width=34, seed=10 * label + i, last=300_000))
                (folder / split / str(label) / f"{i:05}.bin").write_bytes(content)
    return folder


def zipped(folders):
    """Each folder in `folders` as a .zip file; in the folder of these files."""
    target = folders.with_name(f"{folders.name}-zipped")
    for folder in folders.iterdir():
        shutil.make_archive(str(target / folder.name), "zip", folders, folder.name)
    return target


def nmnist_source(folder, each=2):
    return zipped(nmnist_folders(folder, (each, each)))
