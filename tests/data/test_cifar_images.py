"""`data prepare cifar10` from image files by class."""

import shutil

import numpy as np
import pytest
from image_files import encoded, pixels, write
from PIL import Image

from spikewise.data.datasets.cifar import CIFAR10_CLASSES, cifar10
from spikewise.data.fetch.prepare import prepare


@pytest.fixture
def source(tmp_path):
    for split, number in (("train", 6), ("test", 2)):
        for label, name in enumerate(CIFAR10_CLASSES):
            for k in range(number):
                image = Image.fromarray(pixels(32, 32, seed=100 * label + k))
                write(tmp_path / "source" / split / name / f"{k:04}.png", encoded(image, "PNG"))
    return tmp_path / "source"


@pytest.mark.parametrize("packed", [False, True], ids=["folders", "archives"])
def test_every_pixel_arrives(source, tmp_path, packed):
    if packed:
        for split in ("train", "test"):
            shutil.make_archive(str(tmp_path / "packed" / split), "gztar", source, split)
    prepare("cifar10", tmp_path / "packed" if packed else source, tmp_path / "data", partial=True)
    for split, number in (("train", 6), ("test", 2)):
        data = cifar10(split, tmp_path / "data")
        assert np.bincount(data.labels).tolist() == [number] * 10
        given = {pixels(32, 32, seed=100 * label + k).tobytes(): label for label in range(10) for k in range(number)}
        found = {image.transpose(1, 2, 0).tobytes(): label for image, label in zip(data.images, data.labels, strict=True)}
        assert found == given


def test_an_image_of_another_size_is_refused_by_name(source, tmp_path):
    write(source / "test" / "cat" / "0001.png", encoded(Image.fromarray(pixels(31, 32)), "PNG"))
    with pytest.raises(ValueError, match=r"test/cat/0001.png has 31 x 32 pixels"):
        prepare("cifar10", source, tmp_path / "data", partial=True)
