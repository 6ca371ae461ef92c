"""What networks see of a photograph unless told otherwise, and its normalization; without Pillow."""

import functools
from numbers import Real

import numpy as np

RGB = tuple[float, float, float]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, 1 is white
DEFAULT_SIZE = 224
CROP_SCALE = (0.08, 1.0)  # shares of the area


def require_view(**view: object) -> None:
    """Refuse a mean, std or crop_scale that is none.

    Raises:  ValueError
    """
    for name, values in view.items():
        length = 2 if name == "crop_scale" else 3
        numbers = values if isinstance(values, tuple) and len(values) == length else ()
        fits = bool(numbers) and all(isinstance(value, Real) and 0 <= float(value) <= 1 for value in numbers)
        if name == "crop_scale":
            allowed = "a tuple of two shares of the area, 0 < low <= high <= 1"
            fits = fits and 0 < numbers[0] <= numbers[1]
        else:
            allowed = f"a tuple of three numbers, {'0 to 1' if name == 'mean' else 'above 0, at most 1'}; white is 1, not 255"
            fits = fits and (name == "mean" or min(numbers) > 0)
        if not fits:
            raise ValueError(f"{name}={values!r} does not fit; use {allowed}")


def normalize(image: np.ndarray, mean: RGB = MEAN, std: RGB = STD) -> np.ndarray:
    """(x / 255 - mean) / std in float32, from a table: uint8 [H, W, 3] -> [3, H, W]."""
    table = normalization_table(mean, std)
    return np.stack([values.take(image[..., channel]) for channel, values in enumerate(table)])


@functools.cache
def normalization_table(mean: RGB, std: RGB) -> np.ndarray:
    """The normalized value of each byte in each channel, float32 [3, 256]."""
    means, stds = (np.array(values, np.float32)[:, None] for values in (mean, std))
    return (np.arange(256, dtype=np.float32) / np.float32(255) - means) / stds
