"""DVS128 Gesture, CIFAR10_CLASSES-DVS and folders of recordings: stand-ins go all the way; what is wrong is named."""

import os
import sys
from pathlib import Path

import encoders
import numpy as np
import pytest
from checks import columns, contents, require_equal, train_and_evaluate

from spikewise.cli.main import main
from spikewise.data import DATASETS
from spikewise.data.datasets.cifar import CIFAR10_CLASSES
from spikewise.data.datasets.cifar10_dvs import cifar10_dvs
from spikewise.data.datasets.dvs_gesture import GESTURES, dvs_gesture, read_labels
from spikewise.data.datasets.event_folder import event_folder
from spikewise.data.events.formats import read_events
from spikewise.data.fetch.prepare import prepare

REAL = Path(os.environ.get("SPIKEWISE_DATA") or Path(__file__).parents[3] / "shared" / "data") / "event_files"


def gesture_source(folder, trials=("user01_led", "user02_lab", "user24_led"), gestures=(*range(1, 12), 8)):
    """Trials of a few events: each gesture lasts 1,000 microseconds, with pauses of 500; the last of the list for testing."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, trial in enumerate(trials):
        n = 60 * len(gestures)
        t, x, y, polarity = encoders.random_events(n, seed=seed, last=1500 * len(gestures))
        (folder / f"{trial}.aedat").write_bytes(encoders.aedat3(t, x, y, polarity))
        rows = [f"{gesture},{1500 * i},{1500 * i + 1000}" for i, gesture in enumerate(gestures)]
        (folder / f"{trial}_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]) + "\n")
    (folder / "trials_to_train.txt").write_text("".join(f"{trial}.aedat\n" for trial in trials[:-1]) + "\n")
    (folder / "trials_to_test.txt").write_text(f"{trials[-1]}.aedat\n")
    return folder


def cifar_source(folder, each=4):
    for label, kind in enumerate(CIFAR10_CLASSES):
        (folder / kind).mkdir(parents=True)
        for i in range(each):
            content = encoders.aedat2(*encoders.random_events(50, seed=100 * label + i))
            (folder / kind / f"cifar10_{kind}_{i}.aedat").write_bytes(content)
    return folder


def test_gestures_are_the_events_between_start_and_end(tmp_path):
    source = gesture_source(tmp_path / "source")
    folder = prepare("dvs-gesture", source, tmp_path, partial=True)
    train, test = (dvs_gesture(split, tmp_path, T=2) for split in ("train", "test"))
    assert (len(train), len(test), train.class_names) == (24, 12, GESTURES)
    assert np.bincount(train.labels).tolist() == [2] * 7 + [4] + [2] * 3
    whole = read_events(source / "user24_led.aedat")
    for i, label in enumerate([*range(11), 7]):
        found = read_events(
            folder / "test" / f"{label + 1:02}_{GESTURES[label].replace(' ', '_')}" / f"user24_led-{i + 1:02}.npz"
        )
        inside = (whole.t >= 1500 * i) & (whole.t < 1500 * i + 1000)
        require_equal(found, *columns(whole[inside]))
        assert found.size == (128, 128)
    assert test.sample(0).shape == (2, 2, 128, 128)
    assert test.sample(0).sum() == np.count_nonzero(whole.t < 1000)


def test_one_recording_per_gesture_is_the_last_of_each_trial(tmp_path):
    prepare("dvs-gesture", gesture_source(tmp_path / "source"), tmp_path, partial=True)
    test = dvs_gesture("test", tmp_path, split_variant="one-per-gesture")
    assert test.labels.tolist() == list(range(11))
    assert test.files[7].name == "user24_led-12.npz"


def test_the_tar_file_and_its_folder_make_the_same_bytes(tmp_path):
    import tarfile

    source = gesture_source(tmp_path / "DvsGesture")
    with tarfile.open(tmp_path / "DvsGesture.tar.gz", "w:gz") as file:
        file.add(source, arcname="DvsGesture")
    folders = [prepare("dvs-gesture", tmp_path / "DvsGesture.tar.gz", tmp_path / "a", partial=True)]
    folders.append(prepare("dvs-gesture", source, tmp_path / "b", partial=True))
    folders.append(prepare("dvs-gesture", tmp_path, tmp_path / "c", partial=True))  # the folder that holds the folder
    assert contents(folders[0]) == contents(folders[1]) == contents(folders[2])
    assert len(contents(folders[0])) == 37


@pytest.mark.skipif(not REAL.is_dir(), reason="no real label file: set SPIKEWISE_DATA to a folder that has event_files")
def test_a_real_label_file():
    rows = read_labels(REAL / "dvsgesture_meta" / "user01_natural_labels.csv")
    assert [row.gesture for row in rows] == [0, 1, 2, 4, 3, 5, 6, 7, 7, 8, 9, 10]
    assert rows[0][1:] == (53036986, 59508469)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"should begin with class,startTime_usec,endTime_usec, and begins with nothing"),
        ("class,start\n1,2", r"and begins with class,start"),
        ("class,startTime_usec,endTime_usec\n", "has no gesture"),
        ("class,startTime_usec,endTime_usec\n0,1,2\n", "line 2: gesture 0 is none of 1 to 11"),
        ("class,startTime_usec,endTime_usec\n1,1,2\n12,1,2\n", "line 3: gesture 12 is none of 1 to 11"),
        ("class,startTime_usec,endTime_usec\n1,5,5\n", "line 2: the gesture ends at 5, not after 5"),
        ("class,startTime_usec,endTime_usec\n\n1,5\n", "line 3: '1,5' should be three whole numbers"),
        ("class,startTime_usec,endTime_usec\n1,0," + "9" * 5000, "line 2: '1,0,9{56}' should be three whole numbers"),
        ('class,startTime_usec,endTime_usec\n"' + "a" * 200_000, "line 2: '\"a{59}' should be three whole numbers"),
        ("class,startTime_usec,endTime_usec\n1,\u00e9\n", r"a\.csv is not text: byte 36 is 0xe9; get it again"),
    ],
)
def test_label_files_that_are_none(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["trials_to_train.txt", "trials_to_test.txt"])
def test_a_trial_that_is_listed_twice_is_named(name, tmp_path):
    source = gesture_source(tmp_path / "source")
    with (source / name).open("a") as file:
        file.write("user01_led.aedat\n")
    with pytest.raises(ValueError, match=r"user01_led\.aedat is listed twice in trials_to_train\.txt and trials_to_test\.txt"):
        prepare("dvs-gesture", source, tmp_path, partial=True)


def test_missing_trials_are_named(tmp_path):
    source = gesture_source(tmp_path / "source")
    (source / "user02_lab.aedat").unlink()
    with pytest.raises(
        ValueError, match=r"user02_lab\.aedat is missing \(1 files of the train split are\); or use what is there"
    ):
        prepare("dvs-gesture", source, tmp_path)
    prepare("dvs-gesture", source, tmp_path / "part", partial=True)
    assert len(dvs_gesture("train", tmp_path / "part")) == 12
    (source / "trials_to_test.txt").unlink()
    with pytest.raises(ValueError, match=r"has no trials_to_test\.txt"):
        prepare("dvs-gesture", source, tmp_path / "none", partial=True)


def test_a_gesture_without_events_is_named(tmp_path):
    source = gesture_source(tmp_path / "source")
    (source / "user24_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,900000,900010\n")
    with pytest.raises(ValueError, match=r"user24_led\.aedat has no events from 900000 to 900010"):
        prepare("dvs-gesture", source, tmp_path, partial=True)


def test_cifar10_dvs_is_parted_by_the_order_of_names(tmp_path):
    folder = cifar_source(tmp_path / "cifar10-dvs", each=11)
    train, test = (cifar10_dvs(split, tmp_path, T=2) for split in ("train", "test"))
    names = sorted(path.name for path in (folder / "bird").iterdir())
    assert [path.name for path in test.files if path.parent.name == "bird"] == names[10:]
    assert (len(train), len(test)) == (100, 10)
    drawn = cifar10_dvs("test", tmp_path, T=2, split_variant="seeded")
    assert len(drawn) == 10
    assert (
        len(
            {path.name for path in drawn.files}
            | {path.name for path in cifar10_dvs("train", tmp_path, split_variant="seeded").files}
        )
        == 110
    )


def test_cifar10_dvs_is_turned_as_published(tmp_path):
    cifar_source(tmp_path / "cifar10-dvs")
    train = cifar10_dvs("train", tmp_path)
    raw, events = read_events(train.files[0]), train.read(train.files[0])
    assert np.array_equal(events.x, 127 - raw.y.astype(int))
    assert np.array_equal(events.y, 127 - raw.x.astype(int))
    assert np.array_equal(events.polarity, 1 - raw.polarity.astype(int))
    assert (events.x.dtype, events.polarity.dtype) == (np.uint16, np.uint8)


def test_any_folder_of_recordings(tmp_path):
    for seed, kind in enumerate(("left", "right")):
        (tmp_path / kind).mkdir()
        for i in range(10):
            name, encode = (("a.aedat", encoders.aedat3), ("b.dat", encoders.dat))[i % 2]
            (tmp_path / kind / f"{i}{name}").write_bytes(encode(*encoders.random_events(40, seed=10 * seed + i)))
        (tmp_path / kind / ".hidden.npz").write_text("")
        (tmp_path / kind / "notes.txt").write_text("")
    train, test = (event_folder(split, tmp_path, T=2, cache=True) for split in ("train", "test"))
    assert (len(train), len(test), train.class_names) == (16, 4, ("left", "right"))
    assert not {*train.files} & {*test.files}
    assert train.sample(0).shape == (2, 2, 240, 304)  # the larger of the two sensors
    assert len(event_folder("train", tmp_path)) == 16  # kept frames are no class
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="has 0 classes, where there should be a folder for each of two or more"):
        event_folder("train", tmp_path)
    (tmp_path / "train" / "left").mkdir()
    with pytest.raises(ValueError, match=r"the class .*left has no recording \(\.aedat, \.aedat4"):
        event_folder("train", tmp_path)


def npz_folder(folder, sides):
    """Recordings that do not tell their sensor: one event each, in the corner of a square of so many pixels."""
    for kind, of_kind in zip(("a", "b"), sides, strict=True):
        (folder / kind).mkdir(parents=True)
        for i, side in enumerate(of_kind):
            np.savez(folder / kind / f"{i}.npz", t=[0], x=[side - 1], y=[side - 1], p=[1])


@pytest.mark.parametrize("parted", [True, False])
def test_the_sensor_holds_every_recording(parted, tmp_path, monkeypatch):
    if parted:
        npz_folder(tmp_path / "train", ((5, 9), (6, 6)))
        npz_folder(tmp_path / "test", ((5, 5), (5, 12)))
    else:
        npz_folder(tmp_path, ((5, 9, 5, 5, 5), (6, 6, 6, 12, 6)))
    for split in ("train", "test"):
        data = event_folder(split, tmp_path, T=2)
        assert all(data.sample(i).shape == (2, 2, 12, 12) and data.sample(i).sum() == 1 for i in range(len(data)))
    monkeypatch.setattr(
        sys.modules["spikewise.data.datasets.event_folder"], "read_events", lambda _path: pytest.fail("read again")
    )
    assert len(event_folder("train", tmp_path)) >= 4  # what was found is kept
    monkeypatch.undo()
    (tmp_path / ".sensor.json").write_text("[]")
    changed = tmp_path / ("test/b" if parted else "b") / "0.npz"
    np.savez(changed, t=[0], x=[19], y=[19], p=[1])
    assert event_folder("train", tmp_path, T=2).sample(0).shape == (2, 2, 20, 20)


def test_classes_that_only_one_split_has_are_named(tmp_path):
    for kind in ("train/a", "train/b", "test/a", "test/c"):
        (tmp_path / kind).mkdir(parents=True)
        (tmp_path / kind / "x.aedat").write_bytes(encoders.aedat3([1], [1], [1], [1]))
    with pytest.raises(ValueError, match="the class b is in train or in test, not in both"):
        event_folder("train", tmp_path)


@pytest.mark.parametrize("name", ["dvs-gesture", "cifar10-dvs", "event-folder"])
def test_stand_ins_go_through_prepare_train_and_evaluate(name, tmp_path, capsys):
    if name == "dvs-gesture":
        source = gesture_source(tmp_path / "source", gestures=range(1, 12))
        recipe, options = "dvs-gesture/sew-add", ("--data.temporal-delete", "3")
    else:
        source = cifar_source(tmp_path / "source", each=2)
        recipe, options = "cifar10-dvs/sew-add", ()
    if name == "event-folder":
        options = ("--data.name", name, "--data.root", str(source))
    else:
        assert main(["data", "prepare", name, "--source", str(source), "--root", str(tmp_path), "--partial"]) == 0
        assert "not all that was published; " in capsys.readouterr().out
        options += ("--data.root", str(tmp_path))
    assert train_and_evaluate(capsys, tmp_path / "run", recipe, "--data.frames", 4, *options)


def test_a_part_that_is_none_is_refused(tmp_path, capsys):
    assert main(["train", "cifar10-dvs/sew-add", "--data.split-variant", "half", "--out", str(tmp_path / "run")]) == 2
    assert (
        "data.split_variant='half' is an unknown split variant of cifar10-dvs; use published or seeded"
        in capsys.readouterr().err
    )
    assert main(["train", "digits", "--data.split-variant", "half", "--out", str(tmp_path / "run")]) == 2
    assert "leave it at 'published'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["dvs-gesture", "cifar10-dvs", "event-folder"])
@pytest.mark.parametrize("root", ["data", "./data", "../here/data"])
def test_a_root_relative_to_the_working_folder(name, root, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if name == "event-folder":
        cifar_source(tmp_path / "here" / "data")
    else:
        source = gesture_source(tmp_path / "source") if name == "dvs-gesture" else cifar_source(tmp_path / "source")
        prepare(name, source, root, partial=True)
    for cache in (False, True):
        data = DATASETS[name].load("test", root, T=2, cache=cache)
        assert all(data.sample(i).sum() > 0 for i in range(len(data)))


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    for part in ("train", "test"):
        for seed, label in enumerate(("1", "2", "10")):
            (tmp_path / part / label).mkdir(parents=True)
            (tmp_path / part / label / "a.aedat").write_bytes(encoders.aedat2(*encoders.random_events(50, seed=seed)))
    natural, text = (event_folder("test", tmp_path, class_order=order) for order in ("natural", "text"))
    assert (natural.class_names, text.class_names) == (("1", "2", "10"), ("1", "10", "2"))
    assert [file.parent.name for file in natural.files] == ["1", "2", "10"]
    assert np.array_equal(natural.sample(1), text.sample(2))
