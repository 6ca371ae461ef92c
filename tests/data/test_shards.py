"""Images in tar files: the same samples as from their folder; every hostile file is refused with the byte."""

import json
import tarfile

import fsspec
import numpy as np
import pytest
from checks import refused, train_and_evaluate
from image_files import image_set, jpeg, write
from serving import serve, write_tar

from spikewise.cli.main import main
from spikewise.data.datasets.image_folder import image_folder
from spikewise.data.datasets.image_shards import expand_braces, image_shards, write_shards
from spikewise.data.images.shards import ShardEntries
from spikewise.data.sampler import rng_from


def shard_set(folder, *members, classes=("a", "b")):
    folder.mkdir(exist_ok=True)
    write_tar(folder / "t.tar", *members)
    (folder / "shards.json").write_text(json.dumps({"train": ["t.tar"], "val": ["t.tar"], "classes": list(classes)}))
    return folder


def samples_of(data):
    return sorted((data.class_names[label], data.sample(i).tobytes()) for i, label in enumerate(data.labels))


@pytest.mark.parametrize("split", ["train", "test"])
def test_shards_hold_what_their_folder_holds(split, tmp_path):
    source = image_set(tmp_path / "images", train=7, val=3)
    write_shards(source, tmp_path / "shards", megabytes=1)
    data, folder = image_shards(split, tmp_path / "shards", size=32), image_folder(split, source, size=32)
    assert samples_of(data) == samples_of(folder)
    assert data.class_names == folder.class_names
    one, again = (data.random_sample(3, rng_from(1, 2)) for _ in range(2))
    assert np.array_equal(one, again)


def test_shards_are_the_same_bytes_twice_and_cut_where_asked(tmp_path, monkeypatch):
    source = image_set(tmp_path / "images", train=40, val=2, size=(300, 200))
    for folder in ("a", "b"):
        write_shards(source, tmp_path / folder, megabytes=1)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len([name for name in names if name.startswith("train")]) > 1
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    with tarfile.open(tmp_path / "a" / names[-2]) as file:
        assert file.getnames()[1].endswith(".cls")
    with pytest.raises(ValueError, match="megabytes=0; use 1 to 100,000"):
        write_shards(source, tmp_path / "c", megabytes=0)


def test_an_index_is_kept_until_its_shard_changes(tmp_path, monkeypatch):
    folder = shard_set(tmp_path / "s", ("x.jpg", jpeg()), ("x.cls", b"1"))
    assert image_shards("train", folder).labels.tolist() == [1]
    kept = folder / ".t.tar.index.npz"
    before = kept.stat().st_mtime_ns
    assert image_shards("train", folder).labels.tolist() == [1]
    assert kept.stat().st_mtime_ns == before
    write_tar(folder / "t.tar", ("x.jpg", jpeg(seed=1)), ("x.cls", b"0"), ("y.png", jpeg()), ("y.json", b'{"cls": 1}'))
    assert image_shards("train", folder).labels.tolist() == [0, 1]
    kept.write_bytes(b"rubbish")
    assert image_shards("train", folder).labels.tolist() == [0, 1]


def test_remote_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEWISE_CACHE", str(tmp_path / "cache"))
    source = image_set(tmp_path / "images")
    write_shards(source, tmp_path / "shards")
    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "shards").iterdir():
        memory.pipe(f"/set/{path.name}", path.read_bytes())
    local = samples_of(image_shards("train", tmp_path / "shards", size=32))
    assert samples_of(image_shards("train", "memory://set", size=32)) == local
    assert len(list((tmp_path / "cache" / "shards").iterdir())) == 1
    files = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    for ranges in (True, False):
        with serve(files, ranges) as server:
            assert samples_of(image_shards("train", server.url, size=32)) == local
            assert main(["data", "info", "image-shards", "--data.root", server.url]) == 0
            with pytest.raises(FileNotFoundError):
                image_shards("train", f"{server.url}/elsewhere")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../x.jpg", b"1")], r"t\.tar, byte 0: '\.\./x\.jpg' leads out of the folder"),
        ([("/x.jpg", b"1")], r"leads out of the folder"),
        ([("x.jpg", b"", tarfile.SYMTYPE)], r"byte 0: 'x\.jpg' is a link, a device or sparse"),
        ([("x.jpg", b"", tarfile.CHRTYPE)], r"is a link, a device"),
        ([("x.jpg", b"1")], r"the sample 'x' has no label \(\.cls or \.json\)"),
        ([("x.cls", b"1")], r"the sample 'x' has no image"),
        ([("x.jpg", b"1"), ("x.cls", b"one")], r"byte 1,024: 'x\.cls' is no label: 'one'"),
        ([("x.jpg", b"1"), ("x.json", b'{"cls": true}')], r"is no label"),
        ([("x.jpg", b"1"), ("x.json", b"[" * 9000)], r"is no label"),
        ([("x.jpg", b"1"), ("x.cls", b"1" * 70_000)], r"takes 70,000 bytes; a label takes a few"),
        ([("x.jpg", b"1"), ("x.png", b"1"), ("x.cls", b"0")], r"byte 1,024: '/x' has two images"),
        ([("x.jpg", b"1"), ("x.cls", b"0"), ("y.jpg", b"1"), ("y.cls", b"0"), ("x.jpg", b"1")], r"the key '/x' is there twice"),
        ([("x.jpg", b"1"), ("x.cls", b"2")], r"label 2 of sample 0 is out of range; there are 2 classes"),
        ([("x.jpg", b"1"), ("x.cls", b"-1")], r"label -1 of sample 0 is out of range"),
    ],
)
def test_hostile_shards(members, message, tmp_path):
    folder = shard_set(tmp_path / "s", *members)
    with refused(message):
        image_shards("train", folder)


def test_a_shard_that_was_cut(tmp_path):
    folder = shard_set(tmp_path / "s", ("x.jpg", jpeg()), ("x.cls", b"1"), ("y.jpg", jpeg()), ("y.cls", b"0"))
    whole = (folder / "t.tar").read_bytes()
    for length in (100, 700, len(jpeg()) // 2 + 512, 512 + len(jpeg()) + 900):
        (folder / "t.tar").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"t\.tar.*(get (it|the shard) again|has no label)"):
            image_shards("train", folder)
    (folder / "t.tar").write_bytes(whole)
    data = image_shards("train", folder, size=16)
    (folder / "t.tar").write_bytes(whole[:900])
    with pytest.raises(ValueError, match=r"t\.tar, byte 512, has 388 of [\d,]+ bytes; get the shard again"):
        data.sample(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", r'should be \{"train": \[names\]'),
        ('{"train": "a.tar"}', "should be"),
        ('{"train": ["../a.tar"]}', "leads elsewhere; names are relative to the list"),
        ('{"train": ["/a.tar"]}', "leads elsewhere"),
        ('{"train": ["file:///a.tar"]}', "leads elsewhere"),
        ('{"val": []}', "names no shards for the train split"),
        ('{"train": ["a-{9..1}.tar"]}', "names -7 shards"),
        ('{"train": ["a-{0..99999999}.tar"]}', "give 1 to 1,000,000"),
    ],
)
def test_lists_that_are_none(text, message, tmp_path):
    (tmp_path / "shards.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        image_shards("train", tmp_path)


def test_names_of_many_shards():
    assert expand_braces("a-{008..010}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar"]
    assert expand_braces("a.tar") == ["a.tar"]
    entries = ShardEntries(("s",), np.zeros(2, int), np.array([5, 9]), np.array([1, 2]))
    assert [str(entry) for entry in entries[:]] == ["s, byte 5,", "s, byte 9,"]


@pytest.mark.parametrize("name", ["image-folder", "image-shards"])
def test_a_stand_in_trains_from_folders_and_from_shards(name, tmp_path, capsys):
    root = image_set(tmp_path / "images")
    if name == "image-shards":
        assert main(["data", "shard", str(root), str(tmp_path / "shards")]) == 0
        assert capsys.readouterr().out.strip().endswith("shards.json")
        root = tmp_path / "shards"
    options = ("--data.name", name, "--data.root", root, "--data.size", 32, "--workers", 2)
    assert train_and_evaluate(capsys, tmp_path / "run", "imagenet/sew-resnet18", *options) == "of 6"
    if name == "image-folder":
        write(root / "val" / "ant" / "ant_0.JPEG", b"")
        assert main(["evaluate", str(tmp_path / "run"), "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert "ant_0.JPEG is no JPEG" in error
        assert error.count("\n") == 1


def test_what_cannot_be_packed_leaves_no_folder(tmp_path):
    with pytest.raises((ValueError, FileNotFoundError)):
        write_shards(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
