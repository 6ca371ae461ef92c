"""Photographs of any size as samples: decoded when they are asked for, cut to a square, normalised."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..augment import resized_crop_box

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # what Pillow may take a file for, whatever its name says
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, 1 is white
SIZE = 224


@dataclass(frozen=True)
class Photographs:
    """A split of a data set of photographs in files.

    files:   what `open` takes, one for each photograph; written as text, it says where the photograph is
    labels:  [N] int64
    open:    a function that opens one of `files` for reading bytes
    size:    side of the square that they are cut to, in pixels
    Raises:  ValueError for files and labels of different numbers
    """

    name: str
    files: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    open: Callable[[Any], BinaryIO]
    size: int = SIZE
    in_channels: int = 3

    def __post_init__(self):
        if len(self.files) != len(self.labels):
            raise ValueError(
                f"{self.name}: {len(self.files):,} photographs and {len(self.labels):,} labels do not fit together"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, index: int) -> np.ndarray:
        """The middle of a photograph, float32 [3, size, size]: its shorter side becomes 8/7 of `size`, 256 of 224, first.

        Raises:  ValueError for a file that is no whole image, OSError for one that can't be read
        """
        return normalised(self.decoded(index, lambda image: middle(image, self.size)))

    def sample_with(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A random part of a photograph, brought to `size`, float32 [3, size, size]; see `resized_crop_box`.

        Raises:  ValueError for a file that is no whole image, OSError for one that can't be read
        """
        return normalised(self.decoded(index, lambda image: random_part(image, self.size, rng)))

    def decoded(self, index: int, cut: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        """What `cut` takes of a photograph, uint8 [size, size, 3]."""
        file = self.files[index]
        with self.open(file) as content:
            try:
                return np.asarray(cut(decode(content)))
            except ValueError as error:
                raise ValueError(f"{file} {error}; replace it, or take it out of the data set") from None


def decode(content: BinaryIO) -> Image.Image:
    """The image in a file, as red, green and blue: transparency is dropped, a camera's note on rotation is ignored.

    Raises:  ValueError, in words that go behind the file's name; OSError when the file can't be read
    """
    with pillow(content):
        image = Image.open(content, formats=FORMATS)
    require_pixels(*image.size)
    with pillow(content):
        return image.convert("RGB")


@contextlib.contextmanager
def pillow(content: BinaryIO) -> Iterator[None]:
    """Turns all that Pillow raises, which on damaged files is nearly everything there is, into a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF notes, which are not used, and of size, which is checked here
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
        raise ValueError(f"is damaged: {' '.join(str(error).split()) or type(error).__name__}") from None


def require_pixels(width: int, height: int, what: str = "has") -> None:
    """Refuse what would fill the memory."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        raise ValueError(f"{what} {width:,} x {height:,} pixels, more than the {most:,} of PIL.Image.MAX_IMAGE_PIXELS")


def middle(image: Image.Image, size: int) -> Image.Image:
    """The shorter side brought to 8/7 of `size`, then the square in the middle, as torchvision rounds."""
    width, height = image.size
    shorter, short = min(width, height), size * 8 // 7
    new_width, new_height = (short * side // shorter for side in (width, height))
    require_pixels(new_width, new_height, "would have, enlarged,")
    image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_part(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of the image, cut out, then brought to `size`, as torchvision does: no pixel beyond its border counts."""
    top, left, height, width = resized_crop_box(image.height, image.width, rng)
    part = image.crop((left, top, left + width, top + height))
    return part.resize((size, size), Image.Resampling.BILINEAR)


def normalised(image: np.ndarray) -> np.ndarray:
    """(x / 255 - MEAN) / STD in float32, from a table: uint8 [H, W, 3] -> [3, H, W]."""
    return np.stack([values.take(image[..., channel]) for channel, values in enumerate(table())])


@functools.cache
def table() -> np.ndarray:
    """What `normalised` makes of each byte in each channel, float32 [3, 256]."""
    mean, std = (np.array(values, np.float32)[:, None] for values in (MEAN, STD))
    return (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std
