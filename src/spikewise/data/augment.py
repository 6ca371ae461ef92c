"""What chance may do to a sample: pure functions of (sample, generator)."""

import numpy as np


def shift(image: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    """Move the sample by up to `most` pixels in each direction, zeros coming in. [..., H, W] -> [..., H, W]"""
    if most == 0:
        return image
    down, right = rng.integers(0, 2 * most + 1, size=2)
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(most, most)] * 2)
    return padded[..., down : down + image.shape[-2], right : right + image.shape[-1]]


def warp(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Rotate, stretch, slant and move the image a little, zeros coming in. [C, H, W] -> [C, H, W], bilinear.

    strength:  standard deviation of the angle and the slant (radians), the stretch of each axis, and the move (half images)
    """
    if strength == 0:
        return image
    height, width = image.shape[1:]
    angle, slant, stretch_y, stretch_x, move_y, move_x = rng.normal(0, strength, 6)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = np.arange(height)[:, None] - centre_y, np.arange(width) - centre_x
    sine, cosine = np.sin(angle), np.cos(angle)
    from_y = (1 + stretch_y) * (cosine * y + sine * x) + move_y * height / 2 + centre_y
    from_x = (1 + stretch_x) * (cosine * x - sine * y) + slant * y + move_x * width / 2 + centre_x
    return bilinear(image, from_y, from_x)


def bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The image's values at fractional places, zero outside. [C, H, W], [h, w], [h, w] -> [C, h, w]"""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 3, width + 3), image.dtype)
    padded[:, 1:-2, 1:-2] = image
    y = np.minimum(np.maximum(y + 1, 0), height + 1)
    x = np.minimum(np.maximum(x + 1, 0), width + 1)
    top, left = y.astype(np.int64), x.astype(np.int64)
    down, right = (y - top).astype(image.dtype), (x - left).astype(image.dtype)
    flat, at = padded.reshape(channels, -1), top * (width + 3) + left
    above, below = flat.take(at, axis=1), flat.take(at + (width + 3), axis=1)
    above += (flat.take(at + 1, axis=1) - above) * right
    below += (flat.take(at + (width + 4), axis=1) - below) * right
    return above + (below - above) * down


def flip(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror left and right, one in two. [..., H, W] -> [..., H, W]"""
    return np.ascontiguousarray(sample[..., ::-1]) if rng.random() < 0.5 else sample


def temporal_delete(frames: np.ndarray, rng: np.random.Generator, keep: int) -> np.ndarray:
    """Random temporal delete: `keep` of the frames, in their order. [T, ...] -> [keep, ...] (Fang et al. 2021, A.2)"""
    if keep > len(frames):
        raise ValueError(f"temporal_delete={keep} frames of {len(frames)}; use {len(frames)} or fewer")
    return frames[np.sort(rng.choice(len(frames), keep, replace=False))]
