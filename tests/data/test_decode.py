"""What becomes of the files of users: hand-made images, exact pixel values."""

import io
import struct
import zlib

import numpy as np
import pytest
from checks import refused
from image_files import encoded, jpeg, pixels, write
from PIL import Image, features

from spikewise.data.datasets.image_folder import image_folder
from spikewise.data.images.decode import decode, decode_as_published

ORIENTATION = 0x0112
RNG = np.random.default_rng(0)


def rgb(content, how=decode):
    return np.asarray(how(io.BytesIO(content)))


def grey3(levels):
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=2)


def png(values, colour, *chunks):
    """A PNG of 16 bits per sample, by hand; `colour` is its colour type."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*one) for one in chunks), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(data, width, height, *, bits, photometric=1, sample_format=1):
    """A TIFF of one grey strip, by hand."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, sample_format)]
    padded = data + b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + struct.pack("<H", len(tags)) + entries + b"\0" * 4


LEVELS = np.concatenate([[0, 1, 128, 129, 385, 386, 65406, 65407, 65534, 65535], RNG.integers(0, 65536, 110)]).reshape(10, 12)


@pytest.mark.parametrize(
    "content",
    [
        png(LEVELS, 0),
        encoded(Image.fromarray(LEVELS.astype(np.uint16)), "TIFF"),
        encoded(Image.fromarray(LEVELS.astype(np.uint16)), "TIFF", compression="tiff_lzw"),
        tiff((65535 - LEVELS).astype("<u2").tobytes(), 12, 10, bits=16, photometric=0),
    ],
    ids=["png", "tiff", "lzw", "white_is_zero"],
)
def test_grey_of_16_bits_is_scaled_to_8(content):
    assert np.array_equal(rgb(content), grey3(np.rint(LEVELS / 257)))


def test_white_of_12_bits_is_white():
    levels = RNG.integers(0, 4096, (3, 4))
    levels[0, :2] = 0, 4095
    packed = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in levels.reshape(-1, 2).tolist())
    assert np.array_equal(rgb(tiff(packed, 4, 3, bits=12)), grey3(np.rint(levels * (255 / 4095))))


def test_colour_of_16_bits_is_its_upper_byte():
    values = RNG.integers(0, 65536, (5, 6, 4))
    values[..., 3] = 65535
    assert np.array_equal(rgb(png(values[..., :3], 2)), values[..., :3] >> 8)
    assert np.array_equal(rgb(png(values, 6)), values[..., :3] >> 8)
    as_8_bits = RNG.integers(0, 256, (5, 6, 3))
    assert np.array_equal(rgb(png(as_8_bits * 257, 2)), as_8_bits)


def test_floating_point_from_black_to_white():
    levels = RNG.random((7, 5)).astype(np.float32)
    levels[0, :2] = 0, 1
    for content in (encoded(Image.fromarray(levels), "TIFF"), tiff(levels.tobytes(), 5, 7, bits=32, sample_format=3)):
        assert np.array_equal(rgb(content), grey3(np.rint(levels * 255)))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (np.array([[0, 255.0]], np.float32), r"floating-point levels from 0 to 255; save it with 0 \(black\) to 1"),
        (np.array([[-0.5, 0.5]], np.float32), "from -0.5 to 0.5"),
        (np.array([[np.nan, 0.5]], np.float32), "from nan to nan"),
        (np.array([[0, 70_000]], np.int32), "32 bits, or with a sign, whose white is unknown; save it with 8 or 16 bits"),
    ],
)
def test_levels_without_a_known_white_are_refused(levels, message):
    with refused(message):
        rgb(encoded(Image.fromarray(levels), "TIFF"))


PHOTO = pixels(9, 6)
UPRIGHT = {  # where the camera's row 0 and column 0 belong, from the EXIF specification
    1: PHOTO,
    2: PHOTO[:, ::-1],
    3: PHOTO[::-1, ::-1],
    4: PHOTO[::-1],
    5: PHOTO.swapaxes(0, 1),
    6: PHOTO[::-1].swapaxes(0, 1),
    7: PHOTO[::-1, ::-1].swapaxes(0, 1),
    8: PHOTO.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_camera_gives_an_upright_image(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(Image.fromarray(PHOTO), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(rgb(content), UPRIGHT[orientation])


@pytest.mark.parametrize("content", [jpeg(), jpeg(33, 70, seed=4), encoded(Image.fromarray(PHOTO), progressive=True)])
def test_a_plain_jpeg_is_the_published_one_to_the_bit(content):
    assert np.array_equal(rgb(content), rgb(content, decode_as_published))
    assert np.array_equal(rgb(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_the_published_reading_ignores_orientation_and_transparency():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = encoded(Image.fromarray(PHOTO), exif=exif)
    assert np.array_equal(rgb(turned, decode_as_published), rgb(encoded(Image.fromarray(PHOTO))))
    assert np.array_equal(rgb(turned), np.rot90(rgb(turned, decode_as_published), -1))
    see_through = Image.fromarray(np.dstack([PHOTO, np.zeros((6, 9), np.uint8)]))
    assert np.array_equal(rgb(encoded(see_through, "PNG"), decode_as_published), PHOTO)


COLOUR, ALPHA = (table.astype(np.uint8) for table in np.meshgrid(np.arange(256), np.arange(256)))
ON_BLACK = np.rint(COLOUR * (ALPHA / 255.0))
COLOURS = np.dstack([COLOUR, 255 - COLOUR, COLOUR // 2])


@pytest.mark.parametrize(("kind", "how"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparency_is_composed_on_black(kind, how):
    image = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    want = np.rint(COLOURS * (ALPHA[..., None] / 255.0))
    assert np.array_equal(rgb(encoded(image, kind, **how)), want)
    grey = Image.merge("LA", (Image.fromarray(COLOUR), Image.fromarray(ALPHA)))
    assert np.array_equal(rgb(encoded(grey, "PNG")), grey3(ON_BLACK))


def test_transparency_of_16_bits_is_composed_on_black():
    values = RNG.integers(0, 65536, (5, 6, 4))
    want = np.rint((values[..., :3] >> 8) * ((values[..., 3:] >> 8) / 255))
    assert np.array_equal(rgb(png(values, 6)), want)
    assert np.array_equal(rgb(png(values[..., 2:], 4)), grey3(want[..., 2]))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_black(kind):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 4).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 250, 251, 252])
    palette, place = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [250, 251, 252]]), np.arange(12).reshape(3, 4) % 4
    one_lost = palette * np.array([[1], [1], [0], [1]])
    assert np.array_equal(rgb(encoded(image, kind, transparency=2)), one_lost[place])
    if kind == "PNG":
        mixed = np.rint(palette * np.array([[0], [60], [128], [255]]) / 255)
        assert np.array_equal(rgb(encoded(image, kind, transparency=bytes([0, 60, 128, 255]))), mixed[place])


def test_the_transparent_level_of_a_grey_or_coloured_png_is_black():
    grey = np.array([[7, 8], [9, 7]], np.uint8)
    assert np.array_equal(rgb(encoded(Image.fromarray(grey), "PNG", transparency=7)), grey3([[0, 8], [9, 0]]))
    deep = np.array([[700, 65535], [701, 700]])
    assert np.array_equal(rgb(png(deep, 0, (b"tRNS", struct.pack(">H", 700)))), grey3([[0, 255], [3, 0]]))
    colours = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert np.array_equal(rgb(encoded(Image.fromarray(colours), "PNG", transparency=(4, 5, 6))), [[[1, 2, 3], [0, 0, 0]]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_a_tiff_of_8_bits_is_as_pillow_has_it(mode):
    image = Image.fromarray(PHOTO).convert(mode)
    assert np.array_equal(rgb(encoded(image, "TIFF")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_images_in_a_file_the_first_is_taken(kind):
    first, second = (Image.fromarray(np.full((4, 5), level, np.uint8)) for level in (10, 200))
    how = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(rgb(encoded(first, kind, save_all=True, append_images=[second], **how)), np.full((4, 5, 3), 10))


def test_damaged_exif_data_says_nothing():
    broken = encoded(Image.fromarray(PHOTO), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(rgb(broken), rgb(encoded(Image.fromarray(PHOTO))))


def test_a_missing_decoder_is_named(monkeypatch):
    def lacks(mode, name, *_):
        raise OSError(f"decoder {name} not available")

    photo, webp = jpeg(), encoded(Image.fromarray(PHOTO), "WEBP")
    monkeypatch.setattr(Image, "_getdecoder", lacks)
    with refused("^needs the decoder jpeg, which this build of Pillow lacks"):
        rgb(photo)
    monkeypatch.setattr(features, "check", lambda name: False)
    monkeypatch.setitem(Image.OPEN, "WEBP", (None, lambda begin: "WEBP support not installed"))
    with refused("^needs the decoder WEBP, which this build of Pillow lacks"):
        rgb(webp)


def test_that_of_animations_the_first_image_is_read_is_said(tmp_path, caplog):
    write(tmp_path / "train" / "a" / "x.GIF", encoded(Image.fromarray(PHOTO), "GIF"))
    write(tmp_path / "train" / "a" / "x.tiff", encoded(Image.fromarray(PHOTO), "TIFF"))
    assert len(image_folder("train", tmp_path)) == 2
    assert "1 GIF in train; of animations the first image is read" in caplog.text
