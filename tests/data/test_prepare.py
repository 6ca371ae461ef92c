"""`data prepare`: the same bytes after any end, nothing half done under a final name, nothing outside the folder."""

import gzip
import json
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest
from checks import contents, refuse, train_and_evaluate
from image_files import image_set
from serving import write_tar
from sources import cifar_source, gesture_source, nmnist_source, packed, zipped

from dying import Crash, Dying
from spikewise import disk
from spikewise.cli.main import main
from spikewise.data.dataset import MANIFEST
from spikewise.data.datasets.nmnist import nmnist
from spikewise.data.fetch import prepare as preparing
from spikewise.data.fetch.prepare import prepare

FORMS = {
    "nmnist": lambda folder: nmnist_source(folder, each=1),
    "cifar10-dvs": lambda folder: zipped(cifar_source(folder, each=1)),
    "dvs-gesture": lambda folder: gesture_source(folder, gestures=(1, 2, 2)),
    "dvs-gesture, packed": lambda folder: packed(gesture_source(folder, gestures=(1, 2, 2))),
}


@pytest.fixture(params=FORMS)
def source(request, tmp_path):
    return request.param.partition(",")[0], FORMS[request.param](tmp_path / "source")


def test_a_preparation_killed_at_any_change_of_the_disk_goes_on_to_the_same_bytes(source, tmp_path, monkeypatch):
    name, files = source
    whole = contents(prepare(name, files, tmp_path / "whole", partial=True))

    def until(root, at):
        dying = Dying(at)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "os", dying)
            try:
                prepare(name, files, root, partial=True)
            except Crash:
                if (root / name).exists():  # all was done but for waiting until the disk knows
                    assert contents(root / name) == whole
        return dying.num_changes

    changes = until(tmp_path / "counted", 0)
    assert changes > 50
    for at in range(1, changes + 1, max(1, changes // 60)):
        root = tmp_path / f"{at}"
        until(root, at)
        until(root, at // 2)  # and once more, elsewhere
        assert contents(prepare(name, files, root, partial=True)) == whole
        assert sorted(path.name for path in root.iterdir()) == [name]


def test_what_was_prepared_is_whole_and_says_so(source, tmp_path, capsys):
    name, files = source
    options = ["data", "prepare", name, "--source", str(files), "--data.root", str(tmp_path), "--partial"]
    assert main(options) == 0
    out, err = capsys.readouterr()
    assert f"{name}: about " in err
    assert " free" in err
    manifest = tmp_path / name / MANIFEST
    about, before = json.loads(manifest.read_text()), manifest.stat().st_mtime_ns
    assert (about["complete"], about["files"]) == (False, len(contents(tmp_path / name)) - 1)
    assert main(options) == 0
    assert (capsys.readouterr().out, manifest.stat().st_mtime_ns) == (out, before)
    assert main(options[:-1]) == 2
    assert "was prepared from less than was published" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "content"), [("00000.bin", None), ("00000.bin", b"12345"), ("00009.bin", b"12345")])
def test_what_has_changed_since_it_was_prepared_is_named(file, content, tmp_path):
    source = nmnist_source(tmp_path / "source", each=1)
    path = prepare("nmnist", source, tmp_path, partial=True) / "Train" / "3" / file
    path.unlink(missing_ok=True)
    if content:
        path.write_bytes(content)
    message = r"nmnist has changed since it was prepared: \d+ files of .*, 20 of .* were; remove it"
    refuse(message, prepare, "nmnist", source, tmp_path, partial=True)


def test_two_at_once_do_not_write_into_each_others_files(tmp_path):
    source, work = nmnist_source(tmp_path / "source", each=1), tmp_path / ".nmnist.preparing"
    work.mkdir()
    with preparing.exclusive_lock(work):
        refuse("another process is preparing", prepare, "nmnist", source, tmp_path, kind=BlockingIOError, partial=True)
    assert prepare("nmnist", source, tmp_path, partial=True).is_dir()


def test_nmnist_is_what_its_archives_hold(tmp_path):
    source = nmnist_source(tmp_path / "source")
    prepare("nmnist", source, tmp_path, partial=True)
    data = nmnist("train", tmp_path, T=3)
    assert (len(data), data.sample(0).shape) == (20, (3, 2, 34, 34))
    with zipfile.ZipFile(source / "Test.zip") as archive:
        assert (tmp_path / "nmnist" / "Test" / "7" / "00001.bin").read_bytes() == archive.read("Test/7/00001.bin")


def test_another_source_does_not_go_on(tmp_path):
    first, other = nmnist_source(tmp_path / "first"), nmnist_source(tmp_path / "other")
    counts = r"holds 20 train, 20 test, where 60,000 train, 10,000 test were published"
    refuse(counts, prepare, "nmnist", first, tmp_path / "root")
    refuse(r"was begun with .*first.*, not with .*other", prepare, "nmnist", other, tmp_path / "root")
    assert prepare("nmnist", first, tmp_path / "root", partial=True).is_dir()  # the same source: as the message says
    (tmp_path / "mine" / "nmnist").mkdir(parents=True)
    assert prepare("nmnist", other, tmp_path / "mine", partial=True).is_dir()  # an empty folder is nobody's
    (tmp_path / "mine" / "nmnist" / MANIFEST).unlink()
    refuse("is there and was not made by `data prepare`; move it away", prepare, "nmnist", other, tmp_path / "mine")


def test_a_part_has_something_of_all(tmp_path):
    (tmp_path / "wrong").mkdir()
    nothing = "holds nothing of train, test, too little even with --partial; --source is the folder with N-M"
    refuse(nothing, prepare, "nmnist", tmp_path / "wrong", tmp_path / "root", partial=True)
    refuse("holds 0 train, 0 test", prepare, "nmnist", tmp_path / "wrong", tmp_path / "root")
    right = nmnist_source(tmp_path / "right")
    assert prepare("nmnist", right, tmp_path / "root", partial=True).is_dir()  # a source that left nothing is forgotten
    source = zipped(cifar_source(tmp_path / "folders", each=2))
    (source / "cat.zip").unlink()
    refuse("holds nothing of cat, too little", prepare, "cifar10-dvs", source, tmp_path / "root", partial=True)
    assert not (tmp_path / "root" / "cifar10-dvs").exists()


def test_what_cannot_be_prepared_is_said(tmp_path, monkeypatch):
    refuse("knows .*nmnist, imagenet, dvs-gesture, cifar10-dvs", prepare, "digits", tmp_path, tmp_path)
    hint = r"--source is the folder with N-MNIST's Train\.zip and Test\.zip"
    refuse(hint, prepare, "nmnist", tmp_path / "none", tmp_path, kind=FileNotFoundError)
    source = nmnist_source(tmp_path / "source")
    (source / "Test.zip").unlink()
    refuse("is no folder; --source is the folder with Train.zip", prepare, "nmnist", source / "Train.zip", tmp_path / "file")
    refuse(r"has no Test\.zip \(missing: 1 of 2 archives\)", prepare, "nmnist", source, tmp_path)
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda _path: SimpleNamespace(free=10))
    full = r"needs about \d\.\d kB more in .*, 10 bytes are free; make room"
    refuse(full, prepare, "nmnist", source, tmp_path / "full", kind=OSError, partial=True)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../user01.aedat", b"x")], r"the name '\.\./user01\.aedat' leads out of the folder"),
        ([("/tmp/user01.aedat", b"x")], r"leads out of the folder"),
        ([("a\\..\\b.aedat", b"x")], r"leads out of the folder"),
        ([("C:x.aedat", b"x")], r"leads out of the folder"),
        ([("a.aedat", b"", tarfile.SYMTYPE)], r"'a\.aedat' is a link, a device or sparse"),
        ([("a.aedat", b"", tarfile.LNKTYPE)], r"is a link"),
        ([("a.aedat", b"", tarfile.CHRTYPE)], r"is a link, a device"),
        ([("a.aedat", b"", tarfile.FIFOTYPE)], r"is a link, a device"),
        ([("a/b.csv", b"x"), ("c/b.csv", b"y")], r"'c/b\.csv' is there twice"),
        ([("a.aedat", b"\0" * 50_000_000)], r"'a\.aedat' would take 50,000,000 bytes, packed in"),
    ],
)
def test_hostile_tar_files(members, message, tmp_path):
    archive, root = write_tar(tmp_path / "DvsGesture.tar.gz", *members), tmp_path / "deep" / "root"
    refuse(message, prepare, "dvs-gesture", archive, root, partial=True)
    assert all(path.startswith("deep/root/.dvs-gesture.preparing/") for path in contents(tmp_path) if path != archive.name)


def zip_of(path, name, content=b"x", *, mode=0, flag=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
        archive.writestr(info, content)
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of a file, in its header and in the directory
        raw[raw.index(mark) + at] |= flag
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"name": "../Train/0/a.bin"}, "leads out of the folder"),
        ({"name": "/Train/0/a.bin"}, "leads out of the folder"),
        ({"name": "Train/0/a.bin", "mode": stat.S_IFLNK | 0o777}, "is a link"),
        ({"name": "Train/0/a.bin", "flag": 1}, "is encrypted"),
        ({"name": "Train/0/a.bin", "content": b"\0" * 30_000_000}, "would take 30,000,000 bytes"),
    ],
)
def test_hostile_zip_files(how, message, tmp_path):
    source = nmnist_source(tmp_path / "source")
    zip_of(source / "Train.zip", **how)
    refuse(message, prepare, "nmnist", source, tmp_path / "root", partial=True)
    assert not list((tmp_path / "root").rglob("*.bin"))


def test_archives_that_were_cut_or_changed(tmp_path):
    source = nmnist_source(tmp_path / "source")
    whole = (source / "Train.zip").read_bytes()
    at = whole.index(b"00000.bin") + 30
    for content in (whole[: len(whole) // 2], b"", b"PK rubbish", whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
        (source / "Train.zip").write_bytes(content)
        refuse(r"Train\.zip.*again", prepare, "nmnist", source, tmp_path / "root", partial=True)
    archive = packed(gesture_source(tmp_path / "DvsGesture", gestures=(1, 2)))
    whole = archive.read_bytes()
    padded = gzip.compress(gzip.decompress(whole) + bytes(2**22))  # zeros after the last file: only the checksum tells
    for k, content in enumerate((b"", whole[:5], whole[: len(whole) // 2], whole[:-9], padded[:-9])):
        archive.write_bytes(content)
        refuse(r"\.tar\.gz.*again", prepare, "dvs-gesture", archive, tmp_path / f"{k}", partial=True)
        assert not (tmp_path / f"{k}" / "dvs-gesture").exists()


def imagenet_images(folder):
    return image_set(folder, classes=("n01440764", "n01443537", "n15075141"), train=3, val=2)


def test_a_stand_in_of_imagenet_goes_through_prepare_train_and_evaluate(tmp_path, capsys):
    source = imagenet_images(tmp_path / "source")
    options = ["data", "prepare", "imagenet", "--source", str(source), "--data.root", str(tmp_path)]
    assert main(options) == 2
    assert "holds 9 train, 6 val, where 1,281,167 train, 50,000 val were published" in capsys.readouterr().err
    assert main([*options, "--partial"]) == 0  # as the message says
    small = ("--data.root", tmp_path, "--data.size", 32)
    assert train_and_evaluate(capsys, tmp_path / "run", "imagenet/sew-resnet18", *small) == "of 6"


def imagenet_archives(images, source):
    """The images as the two archives that image-net.org has; the validation images' (class, path), in their order."""
    source.mkdir()
    classes = sorted(path.name for path in (images / "train").iterdir())
    members = {name: [(path.name, path.read_bytes()) for path in (images / "train" / name).iterdir()] for name in classes}
    inner = [write_tar(images / f"{name}.tar", *members[name]) for name in classes]
    write_tar(source / "ILSVRC2012_img_train.tar", *((path.name, path.read_bytes()) for path in inner))
    order = [(name, path) for name in classes for path in sorted((images / "val" / name).iterdir())][::-1]
    val = [(f"ILSVRC2012_val_{i:08}.JPEG", path.read_bytes()) for i, (_, path) in enumerate(order, start=1)]
    write_tar(source / "ILSVRC2012_img_val.tar", *val)
    return order


@pytest.mark.parametrize("labels", ["imagenet_2012_validation_synset_labels.txt", "LOC_val_solution.csv", "none"])
def test_imagenets_archives_are_unpacked_by_class(labels, tmp_path):
    images, source = imagenet_images(tmp_path / "images"), tmp_path / "source"
    order = imagenet_archives(images, source)
    if labels == "none":
        refuse("which list the classes of the validation images", prepare, "imagenet", source, tmp_path, partial=True)
        return
    rows = [name for name, _ in order]
    if labels == "LOC_val_solution.csv":
        rows = [f"ILSVRC2012_val_{i:08},{name} 1 2 3 4 " for i, name in enumerate(rows, start=1)]
        rows.insert(0, "ImageId,PredictionString")
    (source / labels).write_text("\n".join(rows) + "\n")
    found = contents(prepare("imagenet", source, tmp_path, partial=True))
    val = {f"val/{name}/ILSVRC2012_val_{i:08}.JPEG": path.read_bytes() for i, (name, path) in enumerate(order, start=1)}
    train = {f"train/{name}": content for name, content in contents(images / "train").items()}
    assert {name: content for name, content in found.items() if name != MANIFEST} == train | val


@pytest.mark.parametrize("name", ["nmnist", "cifar10-dvs", "dvs-gesture", "imagenet"])
def test_an_empty_source_leaves_no_folder(name, tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises((ValueError, OSError)):
        prepare(name, tmp_path / "source", tmp_path / "deep" / "data", partial=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
