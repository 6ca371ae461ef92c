"""Image files of any size as samples: decoded when asked for, cropped to a square, normalized."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..augment import random_crop_box
from ..messages import one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # in capitals, too
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # what Pillow may take a file for, whatever its suffix
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, 1 is white
DEFAULT_SIZE = 224


@dataclass(frozen=True)
class ImageFiles:
    """A split of a data set of image files of any size.

    files:   arguments for `open`, one per image; as text, they say where the image is
    labels:  [N] int64
    open:    a function that opens one of `files` for reading bytes
    size:    side of the square that images are cropped to, in pixels
    Raises:  ValueError for files and labels of different numbers
    """

    name: str
    files: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    open: Callable[[Any], BinaryIO]
    size: int = DEFAULT_SIZE
    in_channels: int = 3

    def __post_init__(self):
        if len(self.files) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.files):,} images and {len(self.labels):,} labels do not match")

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, index: int) -> np.ndarray:
        """The centre crop, float32 [3, size, size]; first the shorter side is resized to 8/7 of `size` (256 for 224).

        Raises:  ValueError for a file that is not a whole image, OSError for one that can't be read
        """
        return normalize(self.decode_and_crop(index, lambda image: resize_center_crop(image, self.size)))

    def random_sample(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A random crop, resized to `size`, float32 [3, size, size]; see `random_crop_box`.

        Raises:  as `sample`
        """
        return normalize(self.decode_and_crop(index, lambda image: random_resized_crop(image, self.size, rng)))

    def decode_and_crop(self, index: int, crop: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        """What `crop` takes of an image, uint8 [size, size, 3]."""
        file = self.files[index]
        with self.open(file) as content:
            try:
                return np.asarray(crop(decode(content)))
            except ValueError as error:
                raise ValueError(f"{file} {error}; replace it, or take it out of the data set") from None


def decode(content: BinaryIO) -> Image.Image:
    """The image in a file, in RGB: transparency is dropped, the EXIF orientation is ignored.

    Raises:  ValueError, in words that follow the file's name; OSError when the file can't be read
    """
    with pillow_errors(content):
        image = Image.open(content, formats=FORMATS)
    require_pixels(*image.size)
    with pillow_errors(content):
        return image.convert("RGB")


@contextlib.contextmanager
def pillow_errors(content: BinaryIO) -> Iterator[None]:
    """Turn whatever Pillow raises, which on damaged files is nearly any exception, into a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about EXIF data, which is not used, and about size, which is checked here
            yield
    except MemoryError:
        raise
    except UnidentifiedImageError:
        content.seek(0)
        begin = content.read(8).hex(" ") or "nothing"
        raise ValueError(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image: it begins with {begin}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"is too large: {error}") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the file's
            raise
        raise ValueError(f"is damaged: {one_line(error)}") from None


def require_pixels(width: int, height: int, verb: str = "has") -> None:
    """Refuse what would fill the memory."""
    max_pixels = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None and width * height > max_pixels:
        raise ValueError(f"{verb} {width:,} x {height:,} pixels, more than the {max_pixels:,} of PIL.Image.MAX_IMAGE_PIXELS")


def resize_center_crop(image: Image.Image, size: int) -> Image.Image:
    """The shorter side resized to 8/7 of `size`, then the central square, rounded as torchvision does."""
    shorter, resized = min(image.size), size * 8 // 7
    width, height = (resized * side // shorter for side in image.size)
    require_pixels(width, height, "would have, enlarged,")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_resized_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of the image, cut out and then resized, as torchvision does: no pixel beyond its edge has an influence."""
    top, left, height, width = random_crop_box(image.height, image.width, rng)
    part = image.crop((left, top, left + width, top + height))
    return part.resize((size, size), Image.Resampling.BILINEAR)


def normalize(image: np.ndarray) -> np.ndarray:
    """(x / 255 - MEAN) / STD in float32, from a table: uint8 [H, W, 3] -> [3, H, W]."""
    return np.stack([values.take(image[..., channel]) for channel, values in enumerate(normalization_table())])


@functools.cache
def normalization_table() -> np.ndarray:
    """The normalized value of each byte in each channel, float32 [3, 256]."""
    mean, std = (np.array(values, np.float32)[:, None] for values in (MEAN, STD))
    return (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std
