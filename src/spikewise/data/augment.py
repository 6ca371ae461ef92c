"""Random augmentations of a sample or a batch: pure functions of it and a random generator."""

import math

import numpy as np


def random_shift(sample: np.ndarray, rng: np.random.Generator, max_shift: int) -> np.ndarray:
    """Move the sample by up to `max_shift` pixels in each direction, filling with zeros. [..., H, W] -> [..., H, W]"""
    return random_crop(sample, rng, sample.shape[-2:], padding=max_shift) if max_shift else sample


def random_crop(sample: np.ndarray, rng: np.random.Generator, size: tuple[int, int], padding: int = 0) -> np.ndarray:
    """A random crop of the sample, after padding with `padding` zeros on every side. [..., H, W] -> [..., h, w]

    size:    (height, width) of the crop, in pixels
    Raises:  ValueError for a crop larger than the padded sample
    """
    padded = np.pad(sample, [(0, 0)] * (sample.ndim - 2) + [(padding, padding)] * 2)
    room_y, room_x = padded.shape[-2] - size[0], padded.shape[-1] - size[1]
    if min(room_y, room_x) < 0 or min(size) < 1:
        raise ValueError(
            f"a crop of {size[0]} x {size[1]} pixels from {padded.shape[-2]} x {padded.shape[-1]}; use a smaller one"
        )
    top, left = rng.integers(room_y + 1), rng.integers(room_x + 1)
    return padded[..., top : top + size[0], left : left + size[1]]


def random_affine(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Rotate, scale, shear and move the image a little, filling with zeros. [C, H, W] -> [C, H, W], bilinear.

    strength:  standard deviation of the angle (radians), the shear, the scale of each axis, and the move (half images)
    """
    if strength == 0:
        return image
    height, width = image.shape[1:]
    angle, shear, scale_y, scale_x, move_y, move_x = rng.normal(0, strength, 6)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = np.arange(height)[:, None] - centre_y, np.arange(width) - centre_x
    sine, cosine = np.sin(angle), np.cos(angle)
    from_y = (1 + scale_y) * (cosine * y + sine * x) + move_y * height / 2 + centre_y
    from_x = (1 + scale_x) * (cosine * x - sine * y) + shear * y + move_x * width / 2 + centre_x
    return sample_bilinear(image, from_y, from_x)


def sample_bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The image's values at fractional coordinates, zero outside. [C, H, W], [h, w], [h, w] -> [C, h, w]"""
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


def random_hflip(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror left and right with probability 1/2. [..., H, W] -> [..., H, W]"""
    return np.ascontiguousarray(sample[..., ::-1]) if rng.random() < 0.5 else sample


def random_rotation(sample: np.ndarray, rng: np.random.Generator, max_degrees: float) -> np.ndarray:
    """Rotate about the centre by up to `max_degrees` either way, filling with zeros. [..., H, W] -> [..., H, W]

    Nearest-neighbour sampling, so that counts of events stay whole numbers.
    """
    height, width = sample.shape[-2:]
    angle = math.radians(rng.uniform(-max_degrees, max_degrees))
    y, x = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    from_y = np.rint(math.cos(angle) * y + math.sin(angle) * x + (height - 1) / 2).astype(np.int64)
    from_x = np.rint(math.cos(angle) * x - math.sin(angle) * y + (width - 1) / 2).astype(np.int64)
    inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    at = np.where(inside, from_y * width + from_x, 0)
    return sample.reshape(*sample.shape[:-2], -1).take(at, axis=-1) * inside.astype(sample.dtype)


def random_polarity_flip(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exchange ON and OFF events with probability 1/2. [T, 2, H, W] -> [T, 2, H, W]"""
    return np.ascontiguousarray(frames[:, ::-1]) if rng.random() < 0.5 else frames


def event_drop(frames: np.ndarray, rng: np.random.Generator, p: float) -> np.ndarray:
    """Drop every event with probability `p`: each count is drawn from a binomial distribution. [T, 2, H, W] -> [T, 2, H, W]"""
    kept = frames.copy()
    seen = frames > 0
    kept[seen] = rng.binomial(frames[seen].astype(np.int64), 1 - p)
    return kept


def random_temporal_delete(frames: np.ndarray, rng: np.random.Generator, keep: int) -> np.ndarray:
    """`keep` frames drawn at random, in their order. [T, ...] -> [keep, ...] (Fang et al. 2021, A.2)"""
    if keep > len(frames):
        raise ValueError(f"temporal_delete={keep} frames of {len(frames)}; use {len(frames)} or fewer")
    return frames[np.sort(rng.choice(len(frames), keep, replace=False))]


def random_crop_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """The box of a random resized crop: (top, left, height, width) in pixels, inside the image.

    scale:   smallest and largest fraction of the image's area
    ratio:   smallest and largest width / height, uniform in its logarithm
    Source:  Szegedy et al. 2015; ten attempts, then the largest central crop, as in torchvision's RandomResizedCrop
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = max(1, min(width, round(height * ratio[1])))
    h = max(1, min(height, round(width / ratio[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def random_resized_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    size: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """A random crop, resized to `size` (height, width). [C, H, W] -> [C, h, w], float32; see `random_crop_box`"""
    top, left, h, w = random_crop_box(image.shape[1], image.shape[2], rng, scale, ratio)
    return resize(image[:, top : top + h, left : left + w], size)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize, antialiased where the image shrinks. [C, H, W] -> [C, h, w], float32"""
    return resize_weights(image.shape[1], size[0]) @ image.astype(np.float32) @ resize_weights(image.shape[2], size[1]).T


def resize_weights(length: int, size: int) -> np.ndarray:
    """Weights of `length` old pixels in each of `size` new ones, float32 [size, length]: triangles, each row adds up to 1."""
    step = length / size
    distance = np.abs(np.arange(length) + 0.5 - (np.arange(size)[:, None] + 0.5) * step)
    weights = np.maximum(0, 1 - distance / max(step, 1))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def mixup(samples: np.ndarray, targets: np.ndarray, rng: np.random.Generator, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of each sample and another of the batch, and of their targets; one weight from Beta(alpha, alpha) for all.

    Shapes:  images [N, C, H, W] or frames [T, N, C, H, W], targets [N, num_classes] -> the same
    Source:  Zhang et al. 2018
    """
    weight = rng.beta(alpha, alpha)
    other = rng.permutation(len(targets))
    mixed = weight * samples + (1 - weight) * samples.take(other, axis=samples.ndim - 4)
    return mixed.astype(samples.dtype), (weight * targets + (1 - weight) * targets[other]).astype(targets.dtype)


def cutmix(samples: np.ndarray, targets: np.ndarray, rng: np.random.Generator, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Each sample with a rectangle of another of the batch, the same one for all; targets are weighted by area.

    Shapes:  images [N, C, H, W] or frames [T, N, C, H, W], targets [N, num_classes] -> the same
    Source:  Yun et al. 2019: the fraction that stays is drawn from Beta(alpha, alpha), the rectangle's centre is uniform, and
             the rectangle is clipped to the image
    """
    height, width = samples.shape[-2:]
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    other = rng.permutation(len(targets))
    (top, bottom), (left, right) = (random_interval(rng, length, side) for length in (height, width))
    mixed = samples.copy()
    mixed[..., top:bottom, left:right] = samples[..., top:bottom, left:right].take(other, axis=samples.ndim - 4)
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, (weight * targets + (1 - weight) * targets[other]).astype(targets.dtype)


def random_interval(rng: np.random.Generator, length: int, fraction: float) -> tuple[int, int]:
    """Begin and end of an interval of `fraction` x `length` about a random centre, clipped to 0 and `length`."""
    centre, half = int(rng.integers(length)), int(length * fraction) // 2
    return max(0, centre - half), min(length, centre + half)
