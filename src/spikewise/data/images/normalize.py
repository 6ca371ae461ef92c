"""What networks see of a photograph unless told otherwise, and its normalization; without Pillow."""

import functools

import numpy as np

RGB = tuple[float, float, float]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, 1 is white
DEFAULT_SIZE = 224
CROP_SCALE = (0.08, 1.0)  # shares of the area


def normalize(image: np.ndarray, mean: RGB = MEAN, std: RGB = STD) -> np.ndarray:
    """(x / 255 - mean) / std in float32, from a table: uint8 [H, W, 3] -> [3, H, W]."""
    table = normalization_table(mean, std)
    return np.stack([values.take(image[..., channel]) for channel, values in enumerate(table)])


@functools.cache
def normalization_table(mean: RGB, std: RGB) -> np.ndarray:
    """The normalized value of each byte in each channel, float32 [3, 256]."""
    means, stds = (np.array(values, np.float32)[:, None] for values in (mean, std))
    return (np.arange(256, dtype=np.float32) / np.float32(255) - means) / stds
