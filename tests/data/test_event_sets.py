"""DVS128 Gesture, CIFAR10-DVS and folders of recordings: stand-ins go all the way; what is wrong is named."""

import logging
from dataclasses import replace

import encoders
import numpy as np
import pytest
from checks import REAL, columns, contents, needs_real_data, refuse, refused, require_equal, train_and_evaluate
from sources import cifar_source, gesture_source, packed

from spikewise.cli.main import main
from spikewise.config import Config, Data
from spikewise.data import DATASETS
from spikewise.data.datasets import event_folder as event_folder_module
from spikewise.data.datasets.cifar10_dvs import cifar10_dvs
from spikewise.data.datasets.dvs_gesture import GESTURES, dvs_gesture, read_labels
from spikewise.data.datasets.event_folder import event_folder
from spikewise.data.events.formats import read_events
from spikewise.data.events.windows import recording_of, window_name
from spikewise.data.fetch.prepare import prepare
from spikewise.data.messages import notice
from spikewise.engine.build import load_data

SOURCES = {"dvs-gesture": gesture_source, "cifar10-dvs": cifar_source, "event-folder": cifar_source}


def test_gestures_are_the_events_between_start_and_end(tmp_path):
    source = gesture_source(tmp_path / "source")
    folder = prepare("dvs-gesture", source, tmp_path, partial=True)
    train, test = (dvs_gesture(split, tmp_path, T=2) for split in ("train", "test"))
    assert (len(train), len(test), train.class_names) == (24, 12, GESTURES)
    assert np.bincount(train.labels).tolist() == [2] * 7 + [4] + [2] * 3
    whole = read_events(source / "user24_led.aedat")
    for i, label in enumerate([*range(11), 7]):
        part = folder / "test" / f"{label + 1:02}_{GESTURES[label].replace(' ', '_')}" / f"user24_led-{i + 1:02}.npz"
        require_equal(read_events(part), *columns(whole[(whole.t >= 1500 * i) & (whole.t < 1500 * i + 1000)]))
        assert read_events(part).size == (128, 128)
    assert test.sample(0).shape == (2, 2, 128, 128)
    assert test.sample(0).sum() == np.count_nonzero(whole.t < 1000)
    last = dvs_gesture("test", tmp_path, split_variant="one-per-gesture")
    assert (last.labels.tolist(), last.files[7].name) == (list(range(11)), "user24_led-12.npz")


def test_the_tar_file_and_its_folder_make_the_same_bytes(tmp_path):
    source = gesture_source(tmp_path / "DvsGesture")
    forms = (packed(source), source, tmp_path)  # the last one is the folder that holds the folder
    made = [contents(prepare("dvs-gesture", form, tmp_path / f"{k}", partial=True)) for k, form in enumerate(forms)]
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 37


@needs_real_data
def test_a_real_label_file():
    rows = read_labels(REAL / "event_files" / "dvsgesture_meta" / "user01_natural_labels.csv")
    assert [row.gesture for row in rows] == [0, 1, 2, 4, 3, 5, 6, 7, 7, 8, 9, 10]
    assert rows[0][1:] == (53036986, 59508469)


HEADER = "class,startTime_usec,endTime_usec\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"should begin with class,startTime_usec,endTime_usec, and begins with nothing"),
        ("class,start\n1,2", r"and begins with class,start"),
        (HEADER, "has no gesture"),
        (HEADER + "0,1,2\n", "line 2: gesture 0 is none of 1 to 11"),
        (HEADER + "1,1,2\n12,1,2\n", "line 3: gesture 12 is none of 1 to 11"),
        (HEADER + "1,5,5\n", "line 2: the gesture ends at 5, not after 5"),
        (HEADER + "\n1,5\n", "line 3: '1,5' should be three whole numbers"),
        (HEADER + "1,0," + "9" * 5000, "line 2: '1,0,9{56}' should be three whole numbers"),
        (HEADER + '"' + "a" * 200_000, "line 2: '\"a{59}' should be three whole numbers"),
        (HEADER + "1,\u00e9\n", r"a\.csv is not text: byte 36 is 0xe9; get it again"),
    ],
)
def test_label_files_that_are_none(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    refuse(message, read_labels, tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trials_to_train.txt", "user01_led.aedat\n" * 2, r"user01_led\.aedat is listed twice in trials_to_train\.txt and"),
        ("trials_to_test.txt", "user01_led.aedat\n", r"user01_led\.aedat is listed twice in .* and trials_to_test\.txt"),
        ("trials_to_test.txt", "../user01_led.aedat\n", r"trials_to_test\.txt names files in other folders"),
        ("trials_to_test.txt", "user09_led.aedat\n", r"none of the 1 trials in .*trials_to_test\.txt is there"),
        ("user24_led_labels.csv", HEADER + "1,900000,900010\n", r"user24_led\.aedat has no events from 900000 to 900010"),
    ],
)
def test_lists_and_labels_that_do_not_fit_the_trials(file, text, message, tmp_path):
    source = gesture_source(tmp_path / "source")
    (source / file).write_text(text)
    refuse(message, prepare, "dvs-gesture", source, tmp_path, partial=True)


def test_missing_trials_are_named(tmp_path):
    source = gesture_source(tmp_path / "source")
    (source / "user02_lab.aedat").unlink()
    refuse(
        r"user02_lab\.aedat is missing \(1 file of train in all\); or use what is there",
        prepare,
        "dvs-gesture",
        source,
        tmp_path,
    )
    prepare("dvs-gesture", source, tmp_path / "part", partial=True)
    assert len(dvs_gesture("train", tmp_path / "part")) == 12
    (source / "trials_to_test.txt").unlink()
    refuse(r"has no trials_to_test\.txt", prepare, "dvs-gesture", source, tmp_path / "none", partial=True)


def test_cifar10_dvs_is_parted_by_the_order_of_names(tmp_path):
    folder = cifar_source(tmp_path / "cifar10-dvs", each=11)
    train, test = (cifar10_dvs(split, tmp_path, T=2) for split in ("train", "test"))
    names = sorted(path.name for path in (folder / "bird").iterdir())
    assert [path.name for path in test.files if path.parent.name == "bird"] == names[10:]
    assert (len(train), len(test)) == (100, 10)
    seeded = [{*cifar10_dvs(split, tmp_path, split_variant="seeded").files} for split in ("train", "test")]
    assert (len(seeded[1]), len(seeded[0] | seeded[1])) == (10, 110)


def test_cifar10_dvs_is_turned_as_published(tmp_path):
    cifar_source(tmp_path / "cifar10-dvs")
    train = cifar10_dvs("train", tmp_path)
    t, x, y, polarity = columns(read_events(train.files[0], raw=True))
    require_equal(train.read(train.files[0]), t, 127 - y, 127 - x, 1 - polarity)


def test_any_folder_of_recordings(tmp_path, caplog):
    for seed, kind in enumerate(("left", "right")):
        (tmp_path / kind).mkdir()
        for i in range(10):
            name, encode = (("a.aedat", encoders.aedat3), ("b.dat", encoders.dat), ("c.txt", encoders.text))[i % 3]
            (tmp_path / kind / f"{i}{name}").write_bytes(encode(*encoders.random_events(40, seed=10 * seed + i)))
        (tmp_path / kind / ".hidden.npz").write_text("")
        (tmp_path / kind / "notes.txt").write_text("recorded on a Tuesday")
    notice.cache_clear()
    with caplog.at_level(logging.WARNING, "spikewise"):
        refuse(r"mixes sensors: .*128 x 128 pixels.*304 x 240 pixels.*--data.sensor 240,304", event_folder, "train", tmp_path)
    assert "skipped 2 of an unknown kind (such as left/notes.txt)" in caplog.text
    train, test = (event_folder(split, tmp_path, T=2, cache=True, sensor=(240, 304)) for split in ("train", "test"))
    assert (len(train), len(test), train.class_names) == (16, 4, ("left", "right"))
    assert not {*train.files} & {*test.files}
    assert train.sample(0).shape == (2, 2, 240, 304)
    assert len(event_folder("train", tmp_path, sensor=(304, 304))) == 16  # kept frames are no class
    (tmp_path / "train").mkdir()
    refuse("has 0 classes, where there should be a folder for each of two or more", event_folder, "train", tmp_path)
    (tmp_path / "train" / "left").mkdir()
    refuse(r"the class .*left has no recording \(\.aedat, \.aedat4", event_folder, "train", tmp_path)
    for kind in ("left", "right"):
        (tmp_path / "train" / kind).mkdir(exist_ok=True)
        (tmp_path / kind / "0a.aedat").rename(tmp_path / "train" / kind / "0a.aedat")
    refuse("train, and no folder test: ", event_folder, "train", tmp_path, kind=FileNotFoundError)


def test_the_shared_sensor_of_a_folder_is_a_field_of_the_config(tmp_path):
    for kind in ("left", "right"):
        (tmp_path / kind).mkdir()
        for i in range(4):
            name, encode = (("a.aedat", encoders.aedat3), ("b.dat", encoders.dat))[i % 2]
            (tmp_path / kind / f"{i}{name}").write_bytes(encode(*encoders.random_events(40)))
    config = Config(data=Data(name="event-folder", root=str(tmp_path), sensor=(240, 304), num_frames=2))
    assert load_data(config, "train").sample(0).shape == (2, 2, 240, 304)
    with refused("data.crop_scale=.* is for photographs"):
        load_data(replace(config, data=replace(config.data, crop_scale=(0.5, 1))), "train")


@pytest.mark.parametrize("lengths", [(5, 5, 5, 5, 5), (1, 30, 2), (10,)], ids=str)
def test_windows_of_a_recording_are_on_one_side_of_the_split(lengths, tmp_path):
    names = [window_name(f"rec{k}", number) for k, length in enumerate(lengths) for number in range(length)]
    for label in "ab":
        (tmp_path / label).mkdir()
        for name in names:
            np.savez(tmp_path / label / name, t=[0], x=[1], y=[1], p=[1])
    files = {split: [file.name for file in event_folder(split, tmp_path).files] for split in ("train", "test")}
    assert sorted(files["train"] + files["test"]) == sorted(names * 2)
    assert len(files["test"]) == 2 * max(1, round(len(names) / 5))
    sides = [{recording_of(name)[0] for name in of_split} for of_split in files.values()]
    assert len(sides[0] & sides[1]) <= 1


def npz_folder(folder, **sides):
    """Recordings that do not tell their sensor: by class, one event each, in the corner of a square of so many pixels."""
    for name, of_class in sides.items():
        (folder / name).mkdir(parents=True)
        for i, side in enumerate(of_class):
            np.savez(folder / name / f"{i}.npz", t=[0], x=[side - 1], y=[side - 1], p=[1])


@pytest.mark.parametrize("parted", [True, False])
def test_the_sensor_holds_every_recording(parted, tmp_path, monkeypatch):
    if parted:
        npz_folder(tmp_path / "train", a=(5, 9), b=(6, 6))
        npz_folder(tmp_path / "test", a=(5, 5), b=(5, 12))
    else:
        npz_folder(tmp_path, a=(5, 9, 5, 5, 5), b=(6, 6, 6, 12, 6))
    for split in ("train", "test"):
        data = event_folder(split, tmp_path, T=2)
        assert all(data.sample(i).shape == (2, 2, 12, 12) and data.sample(i).sum() == 1 for i in range(len(data)))
    with monkeypatch.context() as patch:
        patch.setattr(event_folder_module, "read_events", lambda _path: pytest.fail("read again"))
        assert len(event_folder("train", tmp_path)) >= 4  # what was found is kept
    (tmp_path / ".sensor.json").write_text("[]")
    np.savez(tmp_path / ("test/b" if parted else "b") / "0.npz", t=[0], x=[19], y=[19], p=[1])
    assert event_folder("train", tmp_path, T=2).sample(0).shape == (2, 2, 20, 20)


def test_classes_that_only_one_split_has_are_named(tmp_path):
    for kind in ("train/a", "train/b", "test/a", "test/c"):
        (tmp_path / kind).mkdir(parents=True)
        (tmp_path / kind / "x.aedat").write_bytes(encoders.aedat3([1], [1], [1], [1]))
    refuse("the class b is in train or in test, not in both", event_folder, "train", tmp_path)


@pytest.mark.parametrize(
    ("name", "recipe", "options"),
    [
        ("dvs-gesture", "dvs-gesture/sew-add", ("--data.temporal-delete", "3")),
        ("cifar10-dvs", "cifar10-dvs/sew-add", ()),
        ("event-folder", "cifar10-dvs/sew-add", ("--data.name", "event-folder")),
    ],
)
def test_stand_ins_go_through_prepare_train_and_evaluate(name, recipe, options, tmp_path, capsys):
    root = SOURCES[name](tmp_path / "source")
    if DATASETS[name].prepare:
        assert main(["data", "prepare", name, "--source", str(root), "--data.root", str(tmp_path), "--partial"]) == 0
        assert "not all that was published; " in capsys.readouterr().out
        root = tmp_path
    assert train_and_evaluate(capsys, tmp_path / "run", recipe, "--data.frames", 4, "--data.root", root, *options)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("cifar10-dvs/sew-add", "'half' is an unknown split variant of cifar10-dvs; use published or seeded"),
        ("digits", "leave it at 'published'"),
    ],
)
def test_a_part_that_is_none_is_refused(recipe, message, tmp_path, capsys):
    assert main(["train", recipe, "--data.split-variant", "half", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("root", ["data", "./data", "../here/data"])
def test_a_root_relative_to_the_working_folder(name, root, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source = SOURCES[name](tmp_path / "source" if DATASETS[name].prepare else tmp_path / "here" / "data")
    if DATASETS[name].prepare:
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


@pytest.mark.parametrize("field", [{"max_count": 3}, {"event_drop": 0.5}], ids=str)
def test_what_is_for_counts_is_refused_of_other_frames(field):
    config = Config(data=Data(name="digits-events", representation="time_surface", **field))
    with refused(f"data.{next(iter(field))}=.* is for counts of events, not for time_surface"):
        load_data(config, "train")
