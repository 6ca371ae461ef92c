"""Folders of images: what is found in them, in which order, and what is refused."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from checks import refused
from image_files import as_published, encoded, image_set, jpeg, pixels, write
from PIL import Image

from spikewise.config import Config, Data, from_json, to_json
from spikewise.data import DATASETS
from spikewise.data.datasets.image_folder import image_folder
from spikewise.data.datasets.image_shards import image_shards, write_shards
from spikewise.data.datasets.imagenet import count_images, imagenet, imagenet_classes
from spikewise.engine.build import load_data
from spikewise.engine.run.fingerprint import describe_changes, run_fingerprint

CPU = torch.device("cpu")


def test_imagenet_is_decoded_as_published_and_a_folder_of_photographs_upright(tmp_path):
    stand_in(tmp_path, imagenet_classes())
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(pixels(60, 50)), exif=exif)
    write(tmp_path / "train" / "n01440764" / "n01440764_1.JPEG", content)
    assert np.array_equal(imagenet("train", tmp_path).sample(0), as_published(content))
    upright = encoded(Image.open(io.BytesIO(content)).transpose(Image.Transpose.ROTATE_270), "PNG")
    assert np.array_equal(image_folder("train", tmp_path).sample(0), as_published(upright))


def test_classes_and_files_are_in_the_order_of_their_names(tmp_path, caplog):
    names = ["b/1.jpg", "b/10.jpg", "b/2.JPG", "B/x.png", "ä/z.webp", "a b/y.bmp", "b/sub/0.jpeg", "b/a/é.Jpeg"]
    for name in names:
        write(tmp_path / "train" / name, b"")
    for name in ("b/.hidden.jpg", "b/notes.txt", "b/jpg", ".git/x.jpg", "b/.cache/x.jpg", "b/Thumbs.db"):
        write(tmp_path / "train" / name, b"")
    write(tmp_path / "train" / "README", b"")
    data = image_folder("train", tmp_path)
    assert image_folder("train", tmp_path).labels.tolist() == data.labels.tolist()
    assert len(caplog.messages) == 1  # said once
    for said in ("skipped 3 hidden (such as train/.git)", "4 of an unknown kind (such as train/README)", "images end in .jpg"):
        assert said in caplog.text
    assert data.class_names == ("B", "a b", "b", "ä")
    assert [str(file.relative_to(tmp_path / "train")) for file in data.files] == [
        "B/x.png",
        "a b/y.bmp",
        *("b/1.jpg", "b/10.jpg", "b/2.JPG", "b/a/é.Jpeg", "b/sub/0.jpeg"),
        "ä/z.webp",
    ]
    assert data.labels.tolist() == [0, 1, 2, 2, 2, 2, 2, 3]
    assert data.labels.dtype == np.int64


def image_folder_of_torchvision(directory):
    """What its documentation and code do, for files without a dot in front."""
    found = []
    for label, name in enumerate(sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())):
        for root, _, names in sorted(os.walk(directory / name, followlinks=True)):
            found += [(f"{root}/{file}", label) for file in sorted(names) if file.lower().endswith((".jpg", ".jpeg", ".png"))]
    return found


def test_the_order_is_that_of_torchvisions_image_folder(tmp_path):
    rng = np.random.default_rng(5)
    letters = list("abAB019_-. é")
    for _ in range(150):
        word = "".join(rng.choice(letters, 4)).strip(" .") or "q"
        deeper = "".join(rng.choice(letters, 2)).strip(" .") + "/" if rng.random() < 0.3 else ""
        name = "".join(rng.choice(letters, 3)).lstrip(".")
        write(tmp_path / "train" / word / deeper / f"n{name}.JPEG", b"")
    data = image_folder("train", tmp_path)
    assert list(zip(map(str, data.files), data.labels.tolist(), strict=True)) == image_folder_of_torchvision(tmp_path / "train")


def test_a_linked_class_is_a_class(tmp_path):
    write(tmp_path / "elsewhere" / "1.jpg", jpeg())
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a").symlink_to(tmp_path / "elsewhere")
    assert image_folder("train", tmp_path).sample(0).shape == (3, 224, 224)


def test_a_worker_gets_two_arrays_not_a_list_of_paths(tmp_path):
    for k in range(300):
        write(tmp_path / "train" / "a" / f"{k}.jpg", b"")
    data = image_folder("train", tmp_path)
    names = sum(len(f"train/a/{k}.jpg") for k in range(300))
    assert len(pickle.dumps(data)) < names + 300 * 16 + 2000


def test_the_folder_is_found_below_the_root_under_its_name_too(tmp_path, monkeypatch):
    image_set(tmp_path / "image-folder")
    assert len(image_folder("train", tmp_path)) == 12
    monkeypatch.setenv("SPIKEWISE_DATA", str(tmp_path))
    assert len(image_folder("test")) == 6
    (tmp_path / "image-folder" / "val").rename(tmp_path / "image-folder" / "test")
    assert len(image_folder("test")) == 6


def test_what_is_no_folder_of_images_by_class_is_refused_in_words(tmp_path):
    def require_refusal(message, kind=ValueError, split="test"):
        with refused(message, kind):
            image_folder(split, tmp_path)

    require_refusal(r"no image-folder data: train is neither in .*; make the folders train/CLASS", FileNotFoundError)
    (tmp_path / "train").mkdir()
    require_refusal("no folder val or test in", FileNotFoundError)
    require_refusal("train holds no folders; it must hold one for each class", split="train")
    write(tmp_path / "train" / "a" / "1.jpg", jpeg())
    write(tmp_path / "train" / "b" / "notes.txt", b"")
    require_refusal(r"train/b holds no image \(\.jpg, \.jpeg, \.png, .*\); fill it, or remove it", split="train")
    write(tmp_path / "train" / "b" / "1.jpg", jpeg())
    write(tmp_path / "val" / "a" / "1.jpg", jpeg())
    require_refusal("train has the class 'b', val has not; both must have the same classes")
    write(tmp_path / "val" / "b" / "1.jpg", jpeg())
    write(tmp_path / "val" / "c" / "1.jpg", jpeg())
    require_refusal("val has the class 'c', train has not")
    write(tmp_path / "val" / "stray.png", jpeg())
    require_refusal("val holds 1 image in no class, such as stray.png; move each into a folder of its class")
    with pytest.raises(ValueError, match=r"image-folder has no split 'val'; use 'train' or 'test'; .* val is the split 'test'"):
        image_folder("val", tmp_path)


def test_imagenets_classes_are_the_thousand_known_ones():
    classes = imagenet_classes()
    assert len(set(classes)) == 1000
    assert list(classes) == sorted(classes)
    assert (classes[0], classes[-1]) == ("n01440764", "n15075141")
    assert [classes[k] for k in (1, 207, 281, 340, 954)] == ["n01443537", "n02099601", "n02123045", "n02391049", "n07753592"]
    assert Counter(map(len, classes)) == {9: 1000}
    digest = hashlib.sha256("".join(f"{name}\n" for name in classes).encode()).hexdigest()
    assert (
        digest == "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15"
    )  # of timm's and TensorFlow Datasets' lists


def stand_in(folder, classes, val=None):
    for split, names in (("train", classes), ("val", classes if val is None else val)):
        for name in names:
            write(folder / split / name / f"{name}_1.JPEG", b"")


def test_imagenet_is_all_of_its_classes(tmp_path):
    stand_in(tmp_path, imagenet_classes())
    train, test = imagenet("train", tmp_path), imagenet("test", tmp_path)
    assert train.class_names == test.class_names == imagenet_classes()
    assert train.labels.tolist() == test.labels.tolist() == list(range(1000))
    assert count_images(tmp_path) == {"train": 1000, "val": 1000}


def test_what_is_not_imagenet_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"spikewise data prepare imagenet --source FOLDER"):
        imagenet("train", tmp_path)
    stand_in(tmp_path / "few", imagenet_classes()[:3])
    with pytest.raises(ValueError, match=r"holds 3 of ImageNet's 1,000 classes, n01491361 is the first .*image-folder"):
        imagenet("train", tmp_path / "few")
    assert count_images(tmp_path / "few") == {"train": 3, "val": 3}
    assert len(image_folder("train", tmp_path / "few")) == 3
    stand_in(tmp_path / "strange", [*imagenet_classes()[:999], "n99999999"])
    with pytest.raises(ValueError, match=r"holds 'n99999999', which is none of ImageNet's 1,000 classes"):
        imagenet("train", tmp_path / "strange")
    with pytest.raises(ValueError, match=r"holds 'n99999999', which is none"):
        count_images(tmp_path / "strange")


def test_a_flat_validation_folder_is_refused_with_what_to_do(tmp_path):
    stand_in(tmp_path, imagenet_classes(), val=[])
    for k in range(1, 4):
        write(tmp_path / "val" / f"ILSVRC2012_val_{k:08d}.JPEG", b"")
    with pytest.raises(ValueError, match=r"val holds 3 images in no class, such as ILSVRC2012_val_.*prepare imagenet"):
        imagenet("test", tmp_path)


def test_what_only_images_of_one_size_can_take_is_refused(tmp_path):
    config = Config(data=Data(name="image-folder", root=str(image_set(tmp_path)), size=64))
    assert load_data(config, "train").size == 64
    with pytest.raises(
        ValueError,
        match=r"data.resized_crop=0.3 is for images of one size; image-folder .* to shares 0.5 to 1 .* --data.crop-scale 0.3,1",
    ):
        load_data(
            dataclasses.replace(config, data=dataclasses.replace(config.data, resized_crop=0.3, crop_scale=(0.5, 1))), "train"
        )
    with pytest.raises(ValueError, match=r"data.size=64 is for photographs \(imagenet, image-folder.*\).*, not for digits"):
        load_data(Config(data=Data(name="digits", size=64)), "train")
    with pytest.raises(ValueError, match=r"data.size=0 is out of range; use 1 to 4096 pixels"):
        Data(size=0)
    assert DATASETS["imagenet"].variable_size


def test_numbers_are_classes_in_their_order_and_as_text_for_checkpoints_of_others(tmp_path, caplog):
    for name in ("1", "2", "10", "11"):
        write(tmp_path / "train" / name / f"{name}.png", b"")
    assert image_folder("train", tmp_path).class_names == ("1", "2", "10", "11")
    assert image_folder("train", tmp_path, class_order="text").class_names == ("1", "10", "11", "2")
    assert [Path(file).stem for file in image_folder("train", tmp_path).files] == ["1", "2", "10", "11"]
    image_folder("train", tmp_path)
    assert len(caplog.messages) == 2  # one for each order
    assert "class 1 is '2', in natural order; with data.class_order=text it would be '10'" in caplog.text
    write(tmp_path / "train" / "a" / "a.png", b"")  # not all are numbers
    assert image_folder("train", tmp_path).class_names == ("1", "10", "11", "2", "a")
    with refused("class_order='size' is unknown; use natural or text"):
        image_folder("train", tmp_path, class_order="size")


def test_shards_keep_the_order_of_classes_that_they_were_packed_in(tmp_path):
    source = image_set(tmp_path / "images", classes=("2", "10"))
    for order, names in (("natural", ("2", "10")), ("text", ("10", "2"))):
        write_shards(source, tmp_path / order, class_order=order)
        assert image_shards("train", tmp_path / order).class_names == names


def test_a_run_without_the_field_keeps_the_order_it_was_trained_with(tmp_path):
    root = image_set(tmp_path, classes=("2", "10"))
    config = Config(data=Data(name="image-folder", root=str(root), size=32))
    assert load_data(config, "train").class_names == ("2", "10")
    written = json.loads(to_json(config))
    assert load_data(from_json(json.dumps(written)), "train").class_names == ("2", "10")
    del written["data"]["class_order"]
    old = from_json(json.dumps(written))
    assert load_data(old, "train").class_names == ("10", "2")
    saved = run_fingerprint(config, np.empty(0))
    del saved["data.class_order"]  # as in a checkpoint of before
    assert describe_changes(saved, run_fingerprint(old, np.empty(0))) == []
    assert describe_changes(saved, run_fingerprint(config, np.empty(0))) == ["data.class_order 'text' -> 'natural'"]
