"""Image files of any size as samples: decoded when asked for, cropped, normalized."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypedDict

import numpy as np
from PIL import Image

from ..augment import random_crop_box
from ..dataset import MapStyleDataset
from ..messages import CHECK_HINT
from .decode import decode, require_pixels
from .normalize import CROP_SCALE, DEFAULT_SIZE, MEAN, RGB, STD, normalization_table, normalize, require_view


class View(TypedDict, total=False):
    """What a network sees of a photograph: fields of `ImageFiles`."""

    size: int | tuple[int, int]
    crop_scale: tuple[float, float]
    mean: RGB
    std: RGB


@dataclass(frozen=True)
class ImageFiles(MapStyleDataset):
    """A split of a data set of image files of any size.

    files:       arguments for `open`, one per image; as text, they say where the image is
    labels:      [N] int64
    open:        a function that opens one of `files` for reading bytes
    size:        of the crop, in pixels: the side of a square, or (height, width)
    crop_scale:  smallest and largest share of an image's area that a random crop takes, above 0 and at most 1
    mean, std:   of red, green and blue, by which pixels from 0 (black) to 1 (white) are normalized
    decode:      a function that makes an 8-bit RGB image of the bytes
    Raises:      ValueError for files and labels of different numbers, or a crop_scale, mean or std out of range
    """

    name: str
    files: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    open: Callable[[Any], BinaryIO]
    size: int | tuple[int, int] = DEFAULT_SIZE
    in_channels: int = 3
    crop_scale: tuple[float, float] = CROP_SCALE
    mean: RGB = MEAN
    std: RGB = STD
    decode: Callable[[BinaryIO], Image.Image] = decode

    def __post_init__(self):
        if len(self.files) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.files):,} images and {len(self.labels):,} labels do not match")
        require_view(crop_scale=self.crop_scale, mean=self.mean, std=self.std)

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of a sample, in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def sample(self, index: int) -> np.ndarray:
        """The centre crop, float32 [3, height, width]; first the image is resized so that it just holds a crop 8/7 as large,
        256 x 256 for 224 x 224.

        Raises:  ValueError for a file that is not a whole image, OSError for one that can't be read
        """
        return self.normalize(self.pixels(index).transpose(1, 2, 0))

    def random_sample(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A random crop, resized, float32 [3, height, width]; see `random_crop_box`.

        Raises:  as `sample`
        """
        return self.normalize(self.pixels(index, rng).transpose(1, 2, 0))

    def pixels(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """What `sample` or, with `rng`, `random_sample` normalizes: uint8 [3, height, width].

        Raises:  as `sample`
        """
        if rng is None:
            crop = self.decode_and_crop(index, lambda image: resize_center_crop(image, self.crop_size))
        else:
            crop = self.decode_and_crop(index, lambda image: random_resized_crop(image, self.crop_size, rng, self.crop_scale))
        return crop.transpose(2, 0, 1)

    @property
    def table(self) -> np.ndarray:
        """What each byte of red, green and blue becomes, float32 [3, 256]."""
        return normalization_table(self.mean, self.std)

    def decode_and_crop(self, index: int, crop: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        """What `crop` takes of an image, uint8 [height, width, 3]."""
        file = self.files[index]
        with self.open(file) as content:
            try:
                return np.asarray(crop(self.decode(content)))
            except ValueError as error:
                raise ValueError(f"{file} {error}; replace it, or take it out of the data set; {CHECK_HINT}") from None

    def normalize(self, image: np.ndarray) -> np.ndarray:
        return normalize(image, self.mean, self.std)


def resize_center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image resized so that it just holds 8/7 of `size`, then its centre, rounded as torchvision does."""
    height, width = (side * 8 // 7 for side in size)
    if width * image.height >= height * image.width:
        height = width * image.height // image.width
    else:
        width = height * image.width // image.height
    require_pixels(width, height, "would have, enlarged,")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size[1]) / 2), round((height - size[0]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


def random_resized_crop(
    image: Image.Image, size: tuple[int, int], rng: np.random.Generator, scale: tuple[float, float] = CROP_SCALE
) -> Image.Image:
    """A random part of the image, cut out and then resized, as torchvision does: no pixel beyond its edge has an influence.

    Its width / height is 3/4 to 4/3 of that of `size`, so that a wide crop distorts no more than a square one.
    """
    aspect = size[1] / size[0]
    top, left, height, width = random_crop_box(image.height, image.width, rng, scale, (3 / 4 * aspect, 4 / 3 * aspect))
    part = image.crop((left, top, left + width, top + height))
    return part.resize(size[::-1], Image.Resampling.BILINEAR)
