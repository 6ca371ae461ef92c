"""What chance may do to a sample: pure functions of (sample, generator)."""

import numpy as np


def shift(image: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    """Move the image by up to `most` pixels in each direction, zeros coming in. [C, H, W] -> [C, H, W]"""
    if most == 0:
        return image
    down, right = rng.integers(0, 2 * most + 1, size=2)
    padded = np.pad(image, ((0, 0), (most, most), (most, most)))
    return padded[:, down : down + image.shape[1], right : right + image.shape[2]]
