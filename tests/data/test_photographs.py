"""What a network sees of an image file: decoded, cropped, normalised, augmented."""

import dataclasses
import io
import json
import math
import warnings

import numpy as np
import pytest
import torch
from checks import refused, train_and_evaluate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import as_published, encoded, image_set, jpeg, pixels, write
from PIL import Image

from spikewise.cli.main import main
from spikewise.config import Config, Data, Optim, from_json, to_json
from spikewise.data import EpochSampler, rng_from
from spikewise.data.augment import random_crop_box
from spikewise.data.datasets.image_folder import image_folder
from spikewise.data.images.decode import decode_as_published
from spikewise.data.images.normalize import MEAN, STD, normalize
from spikewise.data.images.photographs import random_resized_crop
from spikewise.engine.build import load_data
from spikewise.engine.loader import EvalBatches, TrainingBatches, iterate_batches

CPU = torch.device("cpu")


def one(folder, content, name="x.JPEG", **how):
    """The data set of a single image."""
    write(folder / "train" / "a" / name, content)
    return image_folder("train", folder, **how)


@pytest.mark.parametrize(
    "shape", [(500, 375), (375, 500), (256, 256), (224, 224), (257, 311), (301, 1000), (40, 33), (1, 1), (3, 2)], ids=str
)
def test_a_test_image_is_that_of_the_published_transform_to_the_bit(shape, tmp_path):
    content = jpeg(*shape)
    sample = one(tmp_path, content).sample(0)
    assert sample.dtype == np.float32
    assert sample.shape == (3, 224, 224)
    assert np.array_equal(sample, as_published(content))


@pytest.mark.parametrize("size", [1, 7, 32, 112, 288])
def test_another_size_keeps_the_proportion(size, tmp_path):
    content = jpeg(90, 75)
    assert np.array_equal(one(tmp_path, content, size=size).sample(0), as_published(content, size, size * 256 // 224))


def kinds():
    image = Image.fromarray(pixels(60, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(pixels(60, 50, 1)[..., 0]))
    see_through = image.quantize(16)
    return {
        "grey.jpg": encoded(image.convert("L")),
        "cmyk.jpg": encoded(image.convert("CMYK")),
        "turned.jpg": encoded(image, exif=exif),
        "broken_exif.jpg": encoded(image, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "progressive.jpeg": encoded(image, progressive=True),
        "palette.png": encoded(see_through, "PNG"),
        "see_through.png": encoded(see_through, "PNG", transparency=bytes(range(16))),
        "rgba.png": encoded(alpha, "PNG"),
        "grey_alpha.png": encoded(alpha.convert("LA"), "PNG"),
        "grey16.png": encoded(Image.fromarray(pixels(60, 50)[..., 0].astype(np.uint16) * 257), "PNG"),
        "bits.png": encoded(image.convert("1"), "PNG"),
        "disguised.JPEG": encoded(image, "PNG"),  # n02105855_2933.JPEG of ImageNet is one
        "plain.webp": encoded(image, "WEBP"),
        "rgba.webp": encoded(alpha, "WEBP", lossless=True),
        "plain.BMP": encoded(image, "BMP"),
    }


@pytest.mark.parametrize("name", kinds())
def test_every_kind_of_image_becomes_red_green_and_blue_as_pillow_has_it(name, tmp_path):
    """As published always; as users want it where nothing is turned, transparent or deep (see test_decode.py)."""
    content = kinds()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = as_published(content)
    data = one(tmp_path, content, name)
    published = dataclasses.replace(data, decode=decode_as_published)
    assert np.array_equal(published.sample(0), want)
    differs = name in ("turned.jpg", "see_through.png", "rgba.png", "grey_alpha.png", "grey16.png", "rgba.webp")
    assert np.array_equal(data.sample(0), want) != differs


def test_normalising_is_float32_arithmetic_to_the_bit():
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    want = ((every.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    got = normalize(every)
    assert np.array_equal(got, want)
    assert got.flags.c_contiguous
    odd = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    want = ((odd.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    assert np.array_equal(normalize(odd), want)
    assert np.array_equal(normalize(odd[1:, ::2]), want[:, 1:, ::2])


def test_a_training_image_is_a_part_that_was_cut_out_and_then_resized(tmp_path):
    content = jpeg(90, 70)
    data = one(tmp_path, content)
    image = Image.open(io.BytesIO(content))
    for k in range(10):
        top, left, height, width = random_crop_box(70, 90, rng_from(k))
        part = Image.fromarray(np.asarray(image)[top : top + height, left : left + width])
        want = normalize(np.asarray(part.resize((224, 224), Image.BILINEAR)))
        assert np.array_equal(data.random_sample(0, rng_from(k)), want)


def test_the_part_is_drawn_as_published():
    """Area even in 0.08 to 1, the logarithm of its shape even in 3/4 to 4/3, its place even where it fits."""
    boxes = np.array([random_crop_box(4000, 4000, rng_from(k)) for k in range(4000)], dtype=np.float64)
    top, left, height, width = boxes.T
    inside = height * width / 4000**2 < 0.7  # larger ones don't fit in every shape
    area = (height * width / 4000**2)[inside]
    shape = np.log(width / height)[inside] / math.log(4 / 3)
    down, right = top / (4000 - height), left / (4000 - width)

    def off(values, low, high):  # Kolmogorov's distance from the even distribution
        values = np.sort(values)
        return np.abs((values - low) / (high - low) - (np.arange(len(values)) + 0.5) / len(values)).max()

    assert off(area, 0.08, 0.7) < 0.035  # 1.95 / sqrt(n): one in a thousand
    assert off(shape, -1, 1) < 0.035
    assert off(np.concatenate([down, right]), 0, 1) < 0.025
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.06


def training_batches(data, seed=0, **how):
    config = Config(seed=seed, data=Data(name="image-folder", **how), optim=Optim(batch=4))
    return TrainingBatches(config, data, EpochSampler(len(data), 4, seed))


@pytest.mark.parametrize("workers", [1, 3])
def test_what_chance_does_depends_on_seed_epoch_and_image_alone(workers, tmp_path):
    data = image_folder("train", image_set(tmp_path), size=32)
    batches = training_batches(data, flip=True)
    alone = iterate_batches(batches, range(6), CPU, 0)  # two epochs
    for (x, y), (other_x, other_y) in zip(alone, iterate_batches(batches, range(6), CPU, workers), strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert not np.array_equal(batches.augment_sample(3, 0), batches.augment_sample(3, 1))
    assert not np.array_equal(batches.augment_sample(3, 0), training_batches(data, seed=1).augment_sample(3, 0))
    flipped = sum(
        np.array_equal(batches.augment_sample(3, e), training_batches(data).augment_sample(3, e)[..., ::-1]) for e in range(40)
    )
    same = sum(np.array_equal(batches.augment_sample(3, e), training_batches(data).augment_sample(3, e)) for e in range(40))
    assert flipped + same == 40
    assert 8 <= flipped <= 32


def test_the_test_split_is_left_to_no_chance(tmp_path):
    data = image_folder("test", image_set(tmp_path), size=32)
    ((images, labels),) = iterate_batches(EvalBatches(data, 6), range(1), CPU, 0)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(np.array_equal(images[k].numpy(), data.sample(k)) for k in range(6))


def bomb():
    """A PNG of a few bytes that claims 2.5 billion pixels."""
    content = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


BROKEN = {
    "empty": (b"", "is no JPEG, PNG, WEBP, BMP, TIFF or GIF image: it begins with nothing"),
    "text": (b"<html>404</html>", "is no JPEG, PNG, WEBP, .* image: it begins with 3c 68 74 6d 6c 3e 34 30"),
    "ico": (encoded(Image.new("L", (9, 9)), "ICO"), "is no JPEG, PNG, WEBP, .* image: it begins with 00 00 01 00"),
    "cut_tiff": (encoded(Image.fromarray(pixels(60, 50)), "TIFF")[:900], "is damaged: |is no JPEG"),
    "cut_gif": (encoded(Image.fromarray(pixels(60, 50)), "GIF")[:900], "is damaged: "),
    "cut_jpeg": (jpeg()[:-300], "is damaged: image file is truncated"),
    "cut_header": (jpeg()[:40], "is no JPEG|is damaged"),
    "cut_png": (encoded(Image.fromarray(pixels(60, 50)), "PNG")[:900], "is damaged: "),
    "cut_webp": (encoded(Image.fromarray(pixels(60, 50)), "WEBP")[:-200], "is damaged: |is no JPEG"),
    "bomb": (bomb(), "is too large: .*exceeds limit|has 50,000 x 50,000 pixels"),
    "thread": (encoded(Image.new("L", (1, 60_000)), "PNG"), "would have, enlarged, 256 x 15,360,000 pixels, more than the"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_is_refused_with_its_name_and_what_to_do(what, tmp_path):
    content, message = BROKEN[what]
    data = one(tmp_path, content)
    with refused(f"train/a/x.JPEG ({message}).*; replace it, or take it out of the data set; `spikewise data check"):
        data.sample(0)


def test_no_more_pixels_are_decoded_than_pillow_is_allowed_to(tmp_path, monkeypatch):
    data = one(tmp_path, jpeg(50, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1999)  # Pillow itself refuses from twice as many on
    with pytest.raises(ValueError, match=r"has 50 x 40 pixels, more than the 1,999 of PIL\.Image\.MAX_IMAGE_PIXELS"):
        data.random_sample(0, rng_from(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert data.random_sample(0, rng_from(0)).shape == (3, 224, 224)


def test_a_file_that_is_gone_is_not_called_broken(tmp_path):
    data = one(tmp_path, jpeg())
    data.files[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.JPEG"):
        data.sample(0)


SEEDS = [jpeg(), bomb(), *(encoded(Image.fromarray(pixels(20, 9)), kind) for kind in ("PNG", "WEBP", "TIFF", "GIF"))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=6), st.integers(0, 3000))
def test_a_mutated_image_is_an_image_or_a_line(tmp_path, content, changes, end):
    changed = bytearray(content[: end if end < 2900 else None])
    for at, value in changes:
        if at < len(changed):
            changed[at] = value
    data = one(tmp_path, bytes(changed), size=8)
    for sample in (data.sample, lambda k: data.random_sample(k, rng_from(0))):
        try:
            assert sample(0).shape == (3, 8, 8)
        except ValueError as error:
            refusal = str(error)
            assert "x.JPEG" in refusal
            assert "\n" not in refusal


def resized_by_hand(content, size):
    """Scaled so that it just holds 8/7 of (height, width), then its centre, in plain arithmetic."""
    image = Image.open(io.BytesIO(content))
    scale = max(size[0] * 8 // 7 / image.height, size[1] * 8 // 7 / image.width)
    width, height = (int(side * scale + 1e-9) for side in image.size)
    left, top = round((width - size[1]) / 2), round((height - size[0]) / 2)
    return np.asarray(image.resize((width, height), Image.BILINEAR))[top : top + size[0], left : left + size[1]]


@pytest.mark.parametrize("shape", [(90, 75), (300, 60), (60, 300), (64, 48)], ids=str)
def test_a_crop_of_another_proportion(shape, tmp_path):
    content = jpeg(*shape)
    data = one(tmp_path, content, size=(21, 70))
    assert np.array_equal(data.sample(0), normalize(resized_by_hand(content, (21, 70))))
    assert data.random_sample(0, rng_from(0)).shape == (3, 21, 70)
    square = one(tmp_path, content, size=(64, 64))
    assert np.array_equal(square.sample(0), one(tmp_path, content, size=64).sample(0))
    assert np.array_equal(square.random_sample(0, rng_from(1)), one(tmp_path, content, size=64).random_sample(0, rng_from(1)))


def test_a_wide_crop_distorts_no_more_than_a_square_one(tmp_path):
    drawn = [random_crop_box(2000, 4000, rng_from(k), (0.1, 0.3), (2 * 3 / 4, 2 * 4 / 3)) for k in range(200)]
    boxes = iter(drawn)
    shapes = []

    class Part:
        height, width = 2000, 4000

        def crop(self, box):
            left, top, right, bottom = box
            assert (top, left, bottom - top, right - left) == next(boxes)
            shapes.append((right - left) / (bottom - top) / 2)
            return self

        def resize(self, size, _):
            assert size == (80, 40)

    for k in range(200):
        random_resized_crop(Part(), (40, 80), rng_from(k), (0.1, 0.3))
    assert 0.74 < min(shapes) < 0.8
    assert 1.25 < max(shapes) < 1.34


def test_mean_std_and_crop_scale_are_used_in_training_and_evaluation(tmp_path):
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
    config = Config(data=Data(name="image-folder", root=str(image_set(tmp_path)), size=(16, 24), mean=mean, std=std))
    plain, data = one(tmp_path / "plain", jpeg(), size=(16, 24)), load_data(from_json(to_json(config)), "test")
    bytes_of = plain.sample(0) * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    ours = dataclasses.replace(plain, mean=data.mean, std=data.std)
    want = (bytes_of - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(ours.sample(0), want, atol=1e-5)
    assert data.sample(0).shape == (3, 16, 24)
    train = load_data(dataclasses.replace(config, data=dataclasses.replace(config.data, crop_scale=(0.9, 1))), "train")
    image = Image.open(train.files[0])
    box = random_crop_box(image.height, image.width, rng_from(7), (0.9, 1.0), (1.5 * 3 / 4, 1.5 * 4 / 3))
    part = np.asarray(image)[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    want = normalize(np.asarray(Image.fromarray(part).resize((24, 16), Image.BILINEAR)), mean, std)
    assert np.array_equal(train.random_sample(0, rng_from(7)), want)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 5)}, "data.size=.* is out of range; use 1 to 4096 pixels"),
        ({"size": (1, 2, 3)}, "data.size=.* has the wrong type"),
        ({"crop_scale": (0.5, 0.2)}, "data.crop_scale=.* use two numbers, 0 < low <= high <= 1"),
        ({"crop_scale": (0, 0.2)}, "data.crop_scale="),
        ({"mean": (123.0, 116.0, 103.0)}, "data.mean=.* use three numbers, 0 to 1; white is 1, not 255"),
        ({"std": (0.2, 0.2, 0)}, "data.std=.* use three numbers above 0"),
        ({"std": (0.2, float("nan"), 0.1)}, "data.std="),
        ({"mean": 0.5}, "data.mean=0.5 has the wrong type; use 3 numbers or null"),
    ],
)
def test_a_view_that_is_none_is_refused_when_it_is_written(fields, message):
    with refused(message):
        Data(**fields)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"mean": (124.0, 116.0, 104.0)}, "white is 1, not 255"),
        ({"mean": (0.5, 0.5)}, "tuple of three numbers, 0 to 1"),
        ({"std": (58.0, 57.0, 57.0)}, "white is 1, not 255"),
        ({"std": [0.2, 0.2, 0.2]}, "tuple of three numbers, above 0"),
        ({"std": (0.2, 0.2, 0.0)}, "above 0"),
        ({"crop_scale": (0.5, 0.2)}, "0 < low <= high <= 1"),
        ({"crop_scale": (8, 100)}, "0 < low <= high <= 1"),
        ({"crop_scale": 0.5}, "two shares of the area"),
    ],
)
def test_a_view_that_is_none_is_refused_in_python(view, message, tmp_path):
    with refused(message):
        image_folder("train", image_set(tmp_path), **view)


@pytest.mark.parametrize("field", [{"mean": (0, 0, 0)}, {"std": (1, 1, 1)}, {"crop_scale": (0.5, 1)}, {"size": (5, 6)}])
def test_data_sets_without_photographs_refuse_a_view(field):
    with refused(f"data.{next(iter(field))}=.* is for photographs .*, not for digits"):
        load_data(Config(data=Data(name="digits", **field)), "train")


def test_command_lines_join_numbers_by_commas(tmp_path, capsys):
    root = image_set(tmp_path / "images")
    options = ("--data.name", "image-folder", "--data.root", root, "--data.size", "32,48", "--data.mean", "0.5,0.5,0.25")
    assert train_and_evaluate(capsys, tmp_path / "run", "imagenet/sew-resnet18", *options) == "of 6"
    written = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert (written["size"], written["mean"], written["class_order"]) == ([32, 48], [0.5, 0.5, 0.25], "natural")
    with pytest.raises(SystemExit):
        main(["plan", "imagenet/sew-resnet18", "--data.std", "0.5,0.5"])
    assert "3 numbers, joined by commas, were expected, given 2" in " ".join(capsys.readouterr().err.replace("│", " ").split())
