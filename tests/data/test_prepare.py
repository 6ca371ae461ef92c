"""`data prepare`: the same bytes after any end, nothing half done under a final name, nothing outside the folder."""

import json
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import encoders
import pytest
from checks import contents, refused, train_and_evaluate
from image_files import image_set
from serving import write_tar
from test_event_sets import cifar_source, gesture_source

from dying import Crash, Dying
from spikewise import disk
from spikewise.cli.main import main
from spikewise.data.dataset import MANIFEST
from spikewise.data.datasets.nmnist import nmnist
from spikewise.data.fetch import prepare as preparing
from spikewise.data.fetch.prepare import format_bytes, prepare


def nmnist_source(folder, each=2):
    folder.mkdir()
    for split in ("Train", "Test"):
        with zipfile.ZipFile(folder / f"{split}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for label in range(10):
                archive.writestr(f"{split}/{label}/", "")
                for i in range(each):
                    content = encoders.atis(*encoders.random_events(30, height=34, width=34, seed=10 * label + i, last=300_000))
                    archive.writestr(f"{split}/{label}/{i:05}.bin", content)
    return folder


def zipped(source, folder):
    """Every folder of `source` as a zip file."""
    folder.mkdir()
    for kind in source.iterdir():
        with zipfile.ZipFile(folder / f"{kind.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(kind.iterdir()):
                archive.write(path, f"{kind.name}/{path.name}")
    return folder


@pytest.fixture(params=["nmnist", "cifar10-dvs", "dvs-gesture", "dvs-gesture, packed"])
def source(request, tmp_path):
    name, _, packed = request.param.partition(", ")
    if name == "nmnist":
        return name, nmnist_source(tmp_path / "source", each=1)
    if name == "cifar10-dvs":
        return name, zipped(cifar_source(tmp_path / "folders", each=1), tmp_path / "source")
    folder = gesture_source(tmp_path / "DvsGesture", gestures=(1, 2, 2))
    if packed:
        with tarfile.open(tmp_path / "DvsGesture.tar.gz", "w:gz") as file:
            file.add(folder, arcname="DvsGesture")
        return name, tmp_path / "DvsGesture.tar.gz"
    return name, folder


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
    about = json.loads((tmp_path / name / MANIFEST).read_text())
    assert not about["complete"]
    assert about["files"] == len(contents(tmp_path / name)) - 1
    before = (tmp_path / name / MANIFEST).stat().st_mtime_ns
    assert main(options) == 0
    assert capsys.readouterr().out == out
    assert (tmp_path / name / MANIFEST).stat().st_mtime_ns == before
    assert main(options[:-1]) == 2
    assert "was prepared from less than was published" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["lost", "changed", "added"])
def test_what_has_changed_since_it_was_prepared_is_named(change, tmp_path):
    source = nmnist_source(tmp_path / "source", each=1)
    file = prepare("nmnist", source, tmp_path, partial=True) / "Train" / "3" / "00000.bin"
    if change == "lost":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[7] ^= 1
        (file if change == "changed" else file.with_name("00009.bin")).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"nmnist has changed since it was prepared: \d+ files of .*, 20 of .* were; remove it"
    ):
        prepare("nmnist", source, tmp_path, partial=True)


def test_two_at_once_do_not_write_into_each_others_files(tmp_path):
    source = nmnist_source(tmp_path / "source", each=1)
    (tmp_path / ".nmnist.preparing").mkdir()
    with (
        preparing.exclusive_lock(tmp_path / ".nmnist.preparing"),
        pytest.raises(BlockingIOError, match="another process is preparing"),
    ):
        prepare("nmnist", source, tmp_path, partial=True)
    assert prepare("nmnist", source, tmp_path, partial=True).is_dir()


def test_nmnist_is_what_its_archives_hold(tmp_path):
    prepare("nmnist", nmnist_source(tmp_path / "source"), tmp_path, partial=True)
    data = nmnist("train", tmp_path, T=3)
    assert (len(data), data.sample(0).shape) == (20, (3, 2, 34, 34))
    with zipfile.ZipFile(tmp_path / "source" / "Test.zip") as archive:
        assert (tmp_path / "nmnist" / "Test" / "7" / "00001.bin").read_bytes() == archive.read("Test/7/00001.bin")


def test_another_source_does_not_go_on(tmp_path):
    first = nmnist_source(tmp_path / "first")
    with pytest.raises(ValueError, match=r"holds 20 train, 20 test, where 60,000 train, 10,000 test were published"):
        prepare("nmnist", first, tmp_path / "root")
    other = nmnist_source(tmp_path / "other")
    with pytest.raises(ValueError, match=r"was begun with .*first.*, not with .*other"):
        prepare("nmnist", other, tmp_path / "root")
    assert prepare("nmnist", first, tmp_path / "root", partial=True).is_dir()  # the same source: as the message says
    (tmp_path / "mine" / "nmnist").mkdir(parents=True)
    (tmp_path / "mine" / "nmnist" / "notes").write_text("")
    with pytest.raises(ValueError, match="is there and was not made by `data prepare`; move it away"):
        prepare("nmnist", other, tmp_path / "mine")


def test_a_part_has_something_of_all(tmp_path):
    (tmp_path / "wrong").mkdir()
    with pytest.raises(
        ValueError, match=r"holds nothing of train, test, too little even with --partial; --source is the folder with N-M"
    ):
        prepare("nmnist", tmp_path / "wrong", tmp_path / "root", partial=True)
    source = zipped(cifar_source(tmp_path / "folders", each=2), tmp_path / "source")
    (source / "cat.zip").unlink()
    with pytest.raises(ValueError, match="holds nothing of cat, too little"):
        prepare("cifar10-dvs", source, tmp_path / "root", partial=True)
    assert not (tmp_path / "root" / "cifar10-dvs").exists()


def test_a_source_that_left_nothing_is_forgotten(tmp_path):
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ValueError, match="holds 0 train, 0 test"):
        prepare("nmnist", tmp_path / "wrong", tmp_path / "root")
    assert prepare("nmnist", nmnist_source(tmp_path / "right"), tmp_path / "root", partial=True).is_dir()


def test_what_cannot_be_prepared_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="knows nmnist, imagenet, dvs-gesture, cifar10-dvs"):
        prepare("digits", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"--source is the folder with N-MNIST's Train\.zip and Test\.zip"):
        prepare("nmnist", tmp_path / "none", tmp_path)
    source = nmnist_source(tmp_path / "source")
    (source / "Test.zip").unlink()
    with pytest.raises(ValueError, match=r"has no Test\.zip \(1 of 2 archives are missing\)"):
        prepare("nmnist", source, tmp_path)
    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda _path: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"needs about \d\.\d kB more in .*, 10 bytes are free; make room"):
        prepare("nmnist", source, tmp_path / "full", partial=True)
    assert (format_bytes(999), format_bytes(1500), format_bytes(2.5e9), format_bytes(4e12)) == (
        "999 bytes",
        "1.5 kB",
        "2.5 GB",
        "4,000 GB",
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../user01.aedat", b"x", tarfile.REGTYPE)], r"the name '\.\./user01\.aedat' leads out of the folder"),
        ([("/tmp/user01.aedat", b"x", tarfile.REGTYPE)], r"leads out of the folder"),
        ([("a\\..\\b.aedat", b"x", tarfile.REGTYPE)], r"leads out of the folder"),
        ([("C:x.aedat", b"x", tarfile.REGTYPE)], r"leads out of the folder"),
        ([("a.aedat", b"", tarfile.SYMTYPE)], r"'a\.aedat' is a link, a device or sparse"),
        ([("a.aedat", b"", tarfile.LNKTYPE)], r"is a link"),
        ([("a.aedat", b"", tarfile.CHRTYPE)], r"is a link, a device"),
        ([("a.aedat", b"", tarfile.FIFOTYPE)], r"is a link, a device"),
        ([("a/b.csv", b"x", tarfile.REGTYPE), ("c/b.csv", b"y", tarfile.REGTYPE)], r"'c/b\.csv' is there twice"),
        ([("a.aedat", b"\0" * 50_000_000, tarfile.REGTYPE)], r"'a\.aedat' would take 50,000,000 bytes, packed in"),
    ],
)
def test_hostile_tar_files(members, message, tmp_path):
    archive = write_tar(tmp_path / "DvsGesture.tar.gz", *members)
    with refused(message):
        prepare("dvs-gesture", archive, tmp_path / "deep" / "root", partial=True)
    inside = {path for path in tmp_path.rglob("*") if path.is_file()} - {archive}
    assert all((tmp_path / "deep" / "root" / ".dvs-gesture.preparing") in path.parents for path in inside)


def zip_of(path, name, content=b"x", *, mode=0, flag=0, pack=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", pack) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, pack
        archive.writestr(info, content)
    if flag:
        raw = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
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
    with pytest.raises(ValueError, match=message):
        prepare("nmnist", source, tmp_path / "root", partial=True)
    assert not list((tmp_path / "root").rglob("*.bin"))


def test_archives_that_were_cut_or_changed(tmp_path):
    source = nmnist_source(tmp_path / "source")
    whole = (source / "Train.zip").read_bytes()
    at = whole.index(b"00000.bin") + 30
    for content in (whole[: len(whole) // 2], b"", b"PK rubbish", whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
        (source / "Train.zip").write_bytes(content)
        with pytest.raises(ValueError, match=r"Train\.zip.*again") as error:
            prepare("nmnist", source, tmp_path / "root", partial=True)
        assert "\n" not in str(error.value)
    folder = gesture_source(tmp_path / "DvsGesture", gestures=(1, 2))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
        file.add(folder, arcname="DvsGesture")
    packed = (tmp_path / "a.tar.gz").read_bytes()
    for length in (0, 5, len(packed) // 2, len(packed) - 9):
        (tmp_path / "a.tar.gz").write_bytes(packed[:length])
        with pytest.raises(ValueError, match=r"a\.tar\.gz.*again"):
            prepare("dvs-gesture", tmp_path / "a.tar.gz", tmp_path / f"gesture{length}", partial=True)
        assert not (tmp_path / f"gesture{length}" / "dvs-gesture").exists()


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


@pytest.mark.parametrize("labels", ["synsets", "solution", "none"])
def test_imagenets_archives_are_unpacked_by_class(labels, tmp_path):
    images, source = imagenet_images(tmp_path / "images"), tmp_path / "source"
    source.mkdir()
    classes = sorted(path.name for path in (images / "train").iterdir())
    with tarfile.open(source / "ILSVRC2012_img_train.tar", "w") as train:
        for name in classes:
            inner = tmp_path / f"{name}.tar"
            with tarfile.open(inner, "w") as file:
                for path in sorted((images / "train" / name).iterdir()):
                    file.add(path, arcname=path.name)
            train.add(inner, arcname=inner.name)
    order = [(name, path) for name in classes for path in sorted((images / "val" / name).iterdir())][::-1]
    with tarfile.open(source / "ILSVRC2012_img_val.tar", "w") as val:
        for i, (_, path) in enumerate(order, start=1):
            val.add(path, arcname=f"ILSVRC2012_val_{i:08}.JPEG")
    if labels == "synsets":
        (source / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{name}\n" for name, _ in order))
    elif labels == "solution":
        rows = [f"ILSVRC2012_val_{i:08},{name} 1 2 3 4 " for i, (name, _) in enumerate(order, start=1)]
        (source / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    else:
        with pytest.raises(ValueError, match="which list the classes of the validation images"):
            prepare("imagenet", source, tmp_path, partial=True)
        return
    folder = prepare("imagenet", source, tmp_path, partial=True)
    for i, (name, path) in enumerate(order, start=1):
        assert (folder / "val" / name / f"ILSVRC2012_val_{i:08}.JPEG").read_bytes() == path.read_bytes()
    for path in (images / "train").rglob("*.JPEG"):
        assert (folder / path.relative_to(images)).read_bytes() == path.read_bytes()
    assert not (folder / ".classes").exists()
