"""Image files of users as 8-bit RGB, upright and on black: what Pillow alone would drop or clip is kept."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.ExifTags import Base as Tag

from ..messages import one_line

SUFFIXES = {  # in capitals, too; and the format that each stands for
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
}
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))  # what Pillow may take a file for, whatever its suffix
UPRIGHT = {  # how a picture is turned, by the EXIF orientation that says how the camera was held
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MIN_IS_WHITE = 0  # TIFF's PhotometricInterpretation


def decode(content: BinaryIO) -> Image.Image:
    """The image in a file, 8 bits of red, green and blue per pixel.

    - turned upright, as the EXIF orientation says;
    - transparency, also of a palette, is composed on black: round(colour * alpha / 255);
    - grey of 16 bits becomes round(v / 257), so that 65,535 is 255; colour of 16 bits is reduced by Pillow to the upper byte;
    - grey in floating point, 0 (black) to 1 (white), becomes round(255 v); other values are refused;
    - of an animation or a file of several pages, the first image is taken;
    - colour profiles are ignored, CMYK is converted by Pillow's formula.

    A plain 8-bit JPEG without EXIF orientation is to the bit what `decode_as_published` makes of it.

    Raises:  ValueError, in words that follow the file's name; OSError when the file can't be read
    """
    image = open_image(content)
    with pillow_errors(content):
        image.load()  # turns a TIFF by itself
        orientation = exif_orientation(image)
    if image.mode.startswith(("I", "F")):
        image = to_8_bits(image)
    with pillow_errors(content):
        if orientation in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
        return compose_on_black(image) if image.has_transparency_data else image.convert("RGB")


def decode_as_published(content: BinaryIO) -> Image.Image:
    """The image in a file as torchvision's ImageFolder reads it, with which the published networks were trained and tested:
    transparency is dropped, the EXIF orientation is ignored, grey of more than 8 bits is clipped at 255.

    Raises:  as `decode`
    """
    image = open_image(content)
    with pillow_errors(content):
        return image.convert("RGB")


def open_image(content: BinaryIO) -> Image.Image:
    """The image in a file, its pixels not decoded yet.

    Raises:  as `decode`
    """
    with pillow_errors(content):
        image = Image.open(content, formats=FORMATS)
    require_pixels(*image.size)
    return image


@contextlib.contextmanager
def pillow_errors(content: BinaryIO) -> Iterator[None]:
    """Turn whatever Pillow raises, which on damaged files is nearly any exception, into a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF data, and about size, which is checked here
            yield
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise ValueError(describe_unknown(content)) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"is too large: {error}") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the file's
            raise
        if missing := re.search(r"(?:de|en)coder (\w+) not available", str(error)):
            raise ValueError(f"needs the decoder {missing[1]}, which this build of Pillow lacks") from None
        raise ValueError(f"is damaged: {one_line(error)}") from None


def describe_unknown(content: BinaryIO) -> str:
    """Why Pillow does not know a file, in words that follow its name."""
    content.seek(0)
    begin = content.read(12)
    if begin[:4] == b"RIFF" and begin[8:] == b"WEBP" and not features.check("webp"):
        return "needs the decoder WEBP, which this build of Pillow lacks"
    return f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image: it begins with {begin[:8].hex(' ') or 'nothing'}"


def require_pixels(width: int, height: int, verb: str = "has") -> None:
    """Refuse what would fill the memory."""
    max_pixels = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None and width * height > max_pixels:
        raise ValueError(f"{verb} {width:,} x {height:,} pixels, more than the {max_pixels:,} of PIL.Image.MAX_IMAGE_PIXELS")


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none."""
    try:
        return image.getexif().get(Tag.Orientation, 1)
    except Exception:  # damaged EXIF data says nothing, and Pillow raises nearly anything
        return 1


def to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits or in floating point, scaled to 8 bits.

    Raises:  ValueError where it is unknown which value is white
    """
    tags = getattr(image, "tag_v2", {})  # a TIFF's
    values = np.asarray(image)
    if image.mode == "I":
        raise ValueError("has grey levels of 32 bits, or with a sign, whose white is unknown; save it with 8 or 16 bits")
    if image.mode == "F":
        low, high = values.min(), values.max()
        if not 0 <= low <= high <= 1:
            raise ValueError(f"has floating-point levels from {low:g} to {high:g}; save it with 0 (black) to 1 (white)")
        white = 1.0
    else:
        white = 2.0 ** tags.get(Tag.BitsPerSample, (16,))[0] - 1  # there are TIFFs of 12 bits
    levels = np.rint(values * (255 / white))
    if tags.get(Tag.PhotometricInterpretation) == MIN_IS_WHITE:
        levels = 255 - levels
    if "transparency" in image.info:  # the one transparent level of a PNG
        levels[values == image.info["transparency"]] = 0
    return Image.fromarray(levels.astype(np.uint8))


def compose_on_black(image: Image.Image) -> Image.Image:
    """An image with transparency over a black background."""
    image = image.convert("RGBA")
    background = Image.new("RGB", image.size)
    background.paste(image, mask=image.getchannel("A"))
    return background
