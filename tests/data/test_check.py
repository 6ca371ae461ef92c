"""A folder is looked through before hours are spent on it: every fault is found, and nothing else."""

import io
import json
import shutil

import encoders
import numpy as np
import pytest
from image_files import encoded, image_set, jpeg, pixels, write
from PIL import Image

from spikewise.cli.data import KINDS
from spikewise.cli.main import main
from spikewise.data.check import check_folder
from spikewise.data.datasets.image_shards import write_shards
from spikewise.data.inspection import MIN_FILES


def found(folder, **how):
    return {(finding.kind, *finding.files) for finding in check_folder(folder, **how).findings}


def recordings(folder, splits=("train", "test"), each=3):
    for seed, (split, label, k) in enumerate((s, c, k) for s in splits for c in "ab" for k in range(each)):
        write(folder / split / label / f"{k}.aedat", encoders.aedat2(*encoders.random_events(50, seed=seed)))
    return folder


@pytest.mark.parametrize("make", [image_set, recordings, lambda folder: recordings(folder, splits=[""])])
def test_nothing_is_wrong_with_a_folder_that_is_right(make, tmp_path, capsys):
    assert main(["data", "check", str(make(tmp_path))]) == 0
    assert "found: nothing wrong" in capsys.readouterr().out


FAULTS = {  # what is done to the folder, and what is to be found
    "empty": (lambda f: write(f / "val" / "bee" / "x.jpg", b""), ("empty", "val/bee/x.jpg")),
    "truncated": (lambda f: write(f / "val" / "bee" / "x.jpg", jpeg()[:-300]), ("damaged", "val/bee/x.jpg")),
    "text": (lambda f: write(f / "val" / "bee" / "x.png", b"<html>404</html>"), ("damaged", "val/bee/x.png")),
    "levels": (
        lambda f: write(f / "val" / "bee" / "x.tif", encoded(Image.fromarray(np.full((40, 50), 9.0, np.float32)), "TIFF")),
        ("damaged", "val/bee/x.tif"),
    ),
    "mislabelled": (
        lambda f: write(f / "val" / "bee" / "x.jpg", encoded(Image.fromarray(pixels(50, 40, 99)), "PNG")),
        ("mislabelled", "val/bee/x.jpg"),
    ),
    "small": (lambda f: write(f / "val" / "bee" / "x.jpg", jpeg(9, 9)), ("size", "val/bee/x.jpg")),
    "large": (lambda f: write(f / "val" / "bee" / "x.jpg", jpeg(900, 700)), ("size", "val/bee/x.jpg")),
    "no class": (lambda f: write(f / "val" / "x.jpg", jpeg(seed=99)), ("stray", "val/x.jpg")),
    "empty class": (lambda f: [(f / part / "dog").mkdir() for part in ("train", "val")], ("class", "train/dog")),
    "lone class": (lambda f: write(f / "train" / "dog" / "x.jpg", jpeg(seed=99)), ("class",)),
    "no split": (lambda f: shutil.rmtree(f / "val"), ("split",)),
    "duplicate": (
        lambda f: shutil.copy(f / "train" / "ant" / "ant_1.JPEG", f / "train" / "ant" / "z.jpg"),
        ("duplicate", "train/ant/ant_1.JPEG", "train/ant/z.jpg"),
    ),
}


def test_every_kind_of_fault_is_counted_by_a_noun():
    of_recordings = {"unclear", "sensor"}
    assert set(KINDS) == {found[0] for _, found in FAULTS.values()} | of_recordings


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_folder_of_images_is_found_alone(fault, tmp_path):
    spoil, want = FAULTS[fault]
    spoil(image_set(tmp_path))
    assert found(tmp_path) == {want} | ({("class", "val/dog")} if fault == "empty class" else set())


def test_where_duplicates_are_is_said(tmp_path):
    image_set(tmp_path)
    shutil.copy(tmp_path / "train" / "ant" / "ant_0.JPEG", tmp_path / "val" / "bee" / "copy.jpg")
    (finding,) = check_folder(tmp_path).findings
    assert (
        "train/ant/ant_0.JPEG, val/bee/copy.jpg: the same bytes, in train and val, in the classes ant and bee" in finding.text
    )


def test_what_is_skipped_is_counted_and_no_fault(tmp_path):
    write(image_set(tmp_path) / "val" / "bee" / "notes.txt", b"")
    write(tmp_path / "val" / "bee" / ".x.jpg", b"")
    report = check_folder(tmp_path)
    assert report.findings == []
    assert report.skipped == "1 hidden (such as val/bee/.x.jpg), 1 of an unknown kind (such as val/bee/notes.txt)"


def test_every_fault_of_a_folder_of_recordings_is_found(tmp_path):
    recordings(tmp_path)
    whole = (tmp_path / "train" / "a" / "0.aedat").read_bytes()
    write(tmp_path / "train" / "a" / "cut.aedat", whole[:-3])
    write(tmp_path / "train" / "a" / "none.aedat", b"")
    write(tmp_path / "train" / "a" / "quiet.aedat", encoders.aedat2(*encoders.random_events(0)))
    write(tmp_path / "train" / "b" / "named.npz", encoders.aedat2(*encoders.random_events(60, seed=98)))
    write(tmp_path / "train" / "b" / "long.aedat", encoders.aedat2(*encoders.random_events(5000, seed=99)))
    write(tmp_path / "test" / "b" / "leak.aedat", whole)
    write(tmp_path / "test" / "c" / "deeper" / "x.aedat", whole)
    assert found(tmp_path) == {
        ("damaged", "train/a/cut.aedat"),
        ("empty", "train/a/none.aedat"),
        ("empty", "train/a/quiet.aedat"),
        ("mislabelled", "train/b/named.npz"),
        ("size", "train/b/long.aedat"),
        ("duplicate", "train/a/0.aedat", "test/b/leak.aedat"),
        ("class", "test/c"),
        ("class",),
    }


def test_shards_are_checked_and_damaged_images_are_not_packed(tmp_path):
    source = image_set(tmp_path / "images", train=1, val=1)
    write_shards(source, tmp_path / "shards")
    assert found(tmp_path / "shards") == set()
    content = bytearray((tmp_path / "shards" / "val-000000.tar").read_bytes())
    content[512:514] = b"no"
    (tmp_path / "shards" / "val-000000.tar").write_bytes(content)
    assert found(tmp_path / "shards") == {("damaged", "val-000000.tar, byte 512")}
    write(source / "val" / "bee" / "x.jpg", jpeg()[:-300])
    with pytest.raises(ValueError, match=r"val/bee/x\.jpg is damaged: .*; `spikewise data check FOLDER` lists all such files"):
        write_shards(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_many_files_are_read_by_several_processes(tmp_path):
    image_set(tmp_path, train=MIN_FILES // 3 + 1, size=(12, 10))
    write(tmp_path / "val" / "bee" / "x.jpg", b"no image")
    assert found(tmp_path, processes=2) == found(tmp_path) == {("damaged", "val/bee/x.jpg")}


def test_the_command_says_what_it_found_with_status_1(tmp_path, capsys):
    write(image_set(tmp_path) / "val" / "bee" / "x.jpg", b"")
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main(["data", "check", str(tmp_path), *options])
        assert end.value.code == 1
    lines, report = capsys.readouterr().out.rstrip().rsplit("\n", 1)
    for said in ("val/bee/x.jpg is empty", "(image-folder): read 12 train, 7 val; 3 classes", "found: 1 empty"):
        assert said in lines
    content = json.load(io.StringIO(report))
    assert (content["dataset"], content["samples"], content["findings"][0]["kind"]) == (
        "image-folder",
        {"train": 12, "val": 7},
        "empty",
    )


def test_what_is_no_folder_of_samples_is_refused(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "holds neither images (.jpg" in capsys.readouterr().err


def test_an_unclear_unit_is_no_damage_and_another_sensor_is_named(tmp_path):
    folder, columns = recordings(tmp_path), dict(zip("txyp", encoders.random_events(50, seed=99), strict=True))
    np.savez(folder / "train" / "a" / "ns.npz", **columns | {"t": np.arange(50) * 10**9})
    np.savez(folder / "train" / "b" / "other.npz", **columns, height=200, width=200, time_unit="us")
    assert found(folder) == {("unclear", "train/a/ns.npz"), ("sensor", "train/b/other.npz")}
