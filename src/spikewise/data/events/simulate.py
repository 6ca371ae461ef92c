"""A simulated event camera: what it would see of a picture that moves before it."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..augment import bilinear, resize
from ..images.arrays import digits
from ..sampler import generator
from .events import Events
from .recordings import Recordings

STEP = (
    0.25  # pixels that the image moves at most between two looks at it; between them the logarithm is taken for a straight line
)


def simulate(
    image: np.ndarray,
    *,
    seed: int,
    motion: Literal["triangle", "random"] = "triangle",
    reach: float = 4.0,
    saccade_us: int = 100_000,
    contrast: float = 0.2,
    spread: float = 0.03,
    floor: float = 0.05,
    refractory_us: int = 500,
    noise_hz: float = 0.1,
) -> Events:
    """What an event camera sees of an image in three saccades: an event wherever the brightness has changed by a threshold.

    With L(t) = log(I(t) + floor), a pixel whose last event was at level M fires as soon as |L - M| reaches its threshold C, at
    the time at which L gets there, interpolated; then M moves by C towards L. Polarity 1 is brighter.

    Shapes:         image [H, W] -> n events of a sensor of H x W pixels, in the order of time
    image:          intensities, 0 (black) and above, 1 for white; beyond its border it goes on as it ends there
    seed:           of a random motion, thresholds and noise
    motion:         "triangle": down to the right, up to the right, back, as N-MNIST; "random": between three random places
    reach:          how far it moves, in pixels, 0 or more
    saccade_us:     duration of each saccade in microseconds, 1 or more; slow, fast, slow, as eyes do
    contrast:       mean threshold C, above 0
    spread:         standard deviation of the pixels' thresholds, as a share of `contrast`, 0 or more
    floor:          intensity of the dark, above 0
    refractory_us:  after an event, what a pixel sees for so long goes unreported, in microseconds, 0 or more
    noise_hz:       events per second and pixel that have no cause, 0 or more
    Source:         the model of ESIM (Rebecq et al. 2018) and v2e (Hu et al. 2021); saccades as of N-MNIST (Orchard et al.)
    Raises:         ValueError for another shape, or a number out of its range
    """
    require(image, motion, reach, saccade_us, contrast, spread, floor, refractory_us, noise_hz)
    rng = generator(seed, "simulate")
    seen, t = log_intensity(image, path(motion, reach, rng), saccade_us, floor)
    threshold = contrast * np.maximum(0.1, 1 + spread * rng.standard_normal(seen.shape[1]))
    pixel, polarity, when = crossings(seen, t, threshold)
    false_pixel, false_polarity, false_when = noise(rng, seen.shape[1], 3 * saccade_us, noise_hz)
    pixel, when = np.concatenate([pixel, false_pixel]), np.concatenate([when, false_when])
    polarity = np.concatenate([polarity, false_polarity])
    in_time = np.lexsort((pixel, when))
    pixel, when, polarity = pixel[in_time], when[in_time], polarity[in_time]
    reported = awake(pixel, when, refractory_us)
    y, x = np.divmod(pixel[reported], image.shape[1])
    return Events(when[reported], x.astype(np.uint16), y.astype(np.uint16), polarity[reported].astype(np.uint8), image.shape)


def require(image: np.ndarray, motion: str, reach: float, saccade_us: float, *others: float) -> None:
    if image.ndim != 2 or not image.size or not np.isfinite(image).all() or image.min() < 0:
        raise ValueError(
            f"simulate takes an image [H, W] of finite intensities, 0 or more; given {image.dtype} {list(image.shape)}"
        )
    if motion not in ("triangle", "random"):
        raise ValueError(f"motion={motion!r} is unknown; use 'triangle' or 'random'")
    names = ("reach", "saccade_us", "contrast", "spread", "floor", "refractory_us", "noise_hz")
    for name, value in zip(names, (reach, saccade_us, *others), strict=True):
        fits, allowed = value >= 0, "0 or more"
        if name in ("contrast", "floor"):
            fits, allowed = value > 0, "a number above 0"
        elif name == "saccade_us":
            fits, allowed = value >= 1, "1 or more"
        if not fits or not math.isfinite(value):
            raise ValueError(f"{name}={value!r} is out of range; use {allowed}")


def path(motion: str, reach: float, rng: np.random.Generator) -> np.ndarray:
    """The corners of the way, (down, right) in pixels: [4, 2], the last one the first; its middle is at rest."""
    corners = np.array([(0.0, 0.0), (1.0, 0.5), (0.0, 1.0)]) if motion == "triangle" else rng.uniform(0, 1, (3, 2))
    corners = reach * (corners - corners.mean(0))
    return np.concatenate([corners, corners[:1]])


def log_intensity(image: np.ndarray, corners: np.ndarray, saccade_us: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Log intensity of every pixel each time it is looked at: float64 [S, H * W], and these times in microseconds [S]."""
    places, times = [corners[:1]], [np.zeros(1)]
    for k in range(3):
        way = corners[k + 1] - corners[k]
        looks = max(1, math.ceil(math.hypot(*way) * math.pi / 2 / STEP))  # the fastest moment has pi / 2 times the mean speed
        u = np.arange(1, looks + 1) / looks
        places.append(corners[k] + np.outer((1 - np.cos(np.pi * u)) / 2, way))
        times.append((k + u) * saccade_us)
    place = np.concatenate(places)
    y = np.clip(np.arange(image.shape[0]) - place[:, :1], 0, image.shape[0] - 1)[:, :, None]  # [S, H, 1]
    x = np.clip(np.arange(image.shape[1]) - place[:, 1:], 0, image.shape[1] - 1)[:, None, :]  # [S, 1, W]
    seen = bilinear(image[None].astype(np.float64), y, x)[0]
    return np.log(seen + floor).reshape(len(place), -1), np.concatenate(times)


def crossings(seen: np.ndarray, t: np.ndarray, threshold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every threshold that log intensities [S, P] at times [S] cross: its pixel, polarity and time, int64 [n] each."""
    level = seen[0].copy()
    found = []
    for s in range(1, len(seen)):
        steps = np.trunc((seen[s] - level) / threshold) * (seen[s] != seen[s - 1])  # rounding must not fire a pixel at rest
        pixels = np.flatnonzero(steps)
        number, each = np.abs(steps[pixels]).astype(np.int64), np.sign(steps[pixels]) * threshold[pixels]
        pixel = np.repeat(pixels, number)
        nth = np.arange(len(pixel)) - np.repeat(np.cumsum(number) - number, number) + 1  # 1, 2, ... at each pixel
        reached = level[pixel] + nth * np.repeat(each, number)
        share = (reached - seen[s - 1, pixel]) / (seen[s, pixel] - seen[s - 1, pixel])
        when = np.floor(t[s - 1] + np.clip(share, 0, 1) * (t[s] - t[s - 1])).astype(np.int64)
        found.append((pixel, np.repeat(each > 0, number).astype(np.int64), when))
        level[pixels] += number * each
    pixel, polarity, when = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pixel, polarity, when


def noise(rng: np.random.Generator, pixels: int, duration_us: int, rate_hz: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events without a cause, a Poisson process at every pixel: pixel, polarity and time, int64 [n] each."""
    number = int(rng.poisson(rate_hz * pixels * duration_us / 1e6))
    return rng.integers(pixels, size=number), rng.integers(2, size=number), rng.integers(duration_us, size=number)


def awake(pixel: np.ndarray, when: np.ndarray, refractory_us: int) -> np.ndarray:
    """Which events, given in the order of time, come `refractory_us` or more after the last that their pixel reported: [n]"""
    reported = np.ones(len(pixel), dtype=bool)
    if not refractory_us or not len(pixel):
        return reported
    order = np.argsort(pixel, kind="stable")  # pixel by pixel, in time
    pixel, when = pixel[order], when[order]
    begins = np.flatnonzero(np.diff(pixel, prepend=-1))
    last, at, ends = when[begins], begins + 1, np.append(begins[1:], len(pixel))
    while len(open_ := np.flatnonzero(at < ends)):  # the next event of every pixel that has one
        now = at[open_]
        late = when[now] - last[open_] >= refractory_us
        reported[order[now[~late]]] = False
        last[open_[late]] = when[now[late]]
        at[open_] += 1
    return reported


@dataclass(frozen=True)
class Films:
    """Images before the simulated camera: the recording of each, made when it is first asked for, and kept in memory."""

    images: np.ndarray  # [N, H, W]
    first_seed: int
    made: dict[int, Events] = field(default_factory=dict)

    def __call__(self, index: int) -> Events:
        if index not in self.made:
            self.made[index] = simulate(self.images[index], seed=self.first_seed + index)
        return self.made[index]


def digits_events(
    split: str, root: str | Path | None = None, *, T: int = 8, rule: str = "count", cache: bool = False
) -> Recordings:
    """The embedded digits, enlarged to 32 x 32 pixels, before the simulated camera: 1,438 train and 359 test recordings.

    T, rule:  frames per recording, and how it is cut
    cache:    of no use here: recordings are kept in memory
    """
    still = digits(split, root)
    images = resize(still.images[:, 0].astype(np.float32) / still.white, (32, 32))
    films = Films(images, 0 if split == "train" else 1_000_000)
    return Recordings("digits-events", range(len(still)), still.labels, still.class_names, T, films, rule)
