"""A simulated event camera that looks at a moving image."""

import math
from typing import Literal

import numpy as np

from ..augment import sample_bilinear
from ..sampler import rng_from
from .events import Events

EventColumns = tuple[np.ndarray, np.ndarray, np.ndarray]  # pixel, polarity, time
MAX_STEP_PIXELS = 0.25  # motion between two samples of the log intensity, which is linear in time between them


def simulate(
    image: np.ndarray,
    *,
    seed: int,
    motion: Literal["triangle", "random"] = "triangle",
    amplitude: float = 4.0,
    saccade_us: int = 100_000,
    contrast_threshold: float = 0.2,
    threshold_std: float = 0.03,
    log_offset: float = 0.05,
    refractory_us: int = 500,
    noise_hz: float = 0.1,
) -> Events:
    """Events of an image in three saccades: an event wherever the log intensity has changed by a threshold.

    With L(t) = log(I(t) + log_offset), a pixel whose last event was at level M fires as soon as |L - M| reaches its threshold
    C, at the interpolated time of the crossing; then M moves by C towards L. Polarity 1 is brighter.

    Shapes:         image [H, W] -> n events of a sensor of H x W pixels, sorted by time
    image:               intensities, 0 (black) and above, 1 for white; its edge pixels are repeated beyond the edge
    seed:                of a random motion, thresholds and noise
    motion:              "triangle": down right, up right, back, as N-MNIST; "random": between three random points
    amplitude:           how far the image moves, in pixels, 0 or more
    saccade_us:          duration of each saccade in microseconds, 1 or more; slow, fast, slow, as of the eye
    contrast_threshold:  mean threshold C, above 0
    threshold_std:       standard deviation of the pixels' thresholds, as a fraction of the mean, 0 or more
    log_offset:          added to the intensity before the logarithm, above 0
    refractory_us:       after an event a pixel reports nothing for this time, in microseconds, 0 or more
    noise_hz:            noise events per second and pixel, 0 or more
    Source:              the model of ESIM (Rebecq et al. 2018) and v2e (Hu et al. 2021); saccades of N-MNIST
    Raises:              ValueError for another shape, or a number out of its range
    """
    require_settings(
        image,
        motion,
        amplitude=amplitude,
        saccade_us=saccade_us,
        contrast_threshold=contrast_threshold,
        threshold_std=threshold_std,
        log_offset=log_offset,
        refractory_us=refractory_us,
        noise_hz=noise_hz,
    )
    rng = rng_from(seed, "simulate")
    log_intensity, t = sample_log_intensity(image, saccade_corners(motion, amplitude, rng), saccade_us, log_offset)
    threshold = contrast_threshold * np.maximum(0.1, 1 + threshold_std * rng.standard_normal(log_intensity.shape[1]))
    signal = threshold_crossings(log_intensity, t, threshold)
    noise = noise_events(rng, log_intensity.shape[1], 3 * saccade_us, noise_hz)
    pixel, polarity, when = (np.concatenate(both) for both in zip(signal, noise, strict=True))
    in_time = np.lexsort((pixel, when))
    pixel, when, polarity = pixel[in_time], when[in_time], polarity[in_time]
    reported = refractory_mask(pixel, when, refractory_us)
    y, x = np.divmod(pixel[reported], image.shape[1])
    return Events(when[reported], x.astype(np.uint16), y.astype(np.uint16), polarity[reported].astype(np.uint8), image.shape)


def require_settings(image: np.ndarray, motion: str, **numbers: float) -> None:
    if image.ndim != 2 or not image.size or not np.isfinite(image).all() or image.min() < 0:
        raise ValueError(
            f"simulate takes an image [H, W] of finite intensities, 0 or more; given {image.dtype} {list(image.shape)}"
        )
    if motion not in ("triangle", "random"):
        raise ValueError(f"motion={motion!r} is unknown; use 'triangle' or 'random'")
    for name, value in numbers.items():
        fits, allowed = {
            "contrast_threshold": (value > 0, "a number above 0"),
            "log_offset": (value > 0, "a number above 0"),
            "saccade_us": (value >= 1, "1 or more"),
        }.get(name, (value >= 0, "0 or more"))
        if not fits or not math.isfinite(value):
            raise ValueError(f"{name}={value!r} is out of range; use {allowed}")


def saccade_corners(motion: str, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """The corners of the closed path, (down, right) in pixels: [4, 2]; their mean is 0."""
    corners = np.array([(0.0, 0.0), (1.0, 0.5), (0.0, 1.0)]) if motion == "triangle" else rng.uniform(0, 1, (3, 2))
    corners = amplitude * (corners - corners.mean(0))
    return np.concatenate([corners, corners[:1]])


def sample_log_intensity(
    image: np.ndarray, corners: np.ndarray, saccade_us: int, log_offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log intensity of every pixel at S times along the path: float64 [S, H * W], and the times in microseconds [S]."""
    places, times = [corners[:1]], [np.zeros(1)]
    for k in range(3):
        step = corners[k + 1] - corners[k]
        samples = max(
            1, math.ceil(math.hypot(*step) * math.pi / 2 / MAX_STEP_PIXELS)
        )  # the peak speed is pi / 2 times the mean
        u = np.arange(1, samples + 1) / samples
        places.append(corners[k] + np.outer((1 - np.cos(np.pi * u)) / 2, step))
        times.append((k + u) * saccade_us)
    place = np.concatenate(places)
    y = np.clip(np.arange(image.shape[0]) - place[:, :1], 0, image.shape[0] - 1)[:, :, None]  # [S, H, 1]
    x = np.clip(np.arange(image.shape[1]) - place[:, 1:], 0, image.shape[1] - 1)[:, None, :]  # [S, 1, W]
    intensity = sample_bilinear(image[None].astype(np.float64), y, x)[0]
    return np.log(intensity + log_offset).reshape(len(place), -1), np.concatenate(times)


def threshold_crossings(log_intensity: np.ndarray, t: np.ndarray, threshold: np.ndarray) -> EventColumns:
    """The threshold crossings of log intensities [S, P] at times [S]: pixel, polarity and time, int64 [n] each."""
    level = log_intensity[0].copy()
    crossings = []
    for before, after, t_before, t_after in zip(log_intensity, log_intensity[1:], t, t[1:], strict=False):
        steps = np.trunc((after - level) / threshold) * (after != before)  # rounding must not fire a pixel at rest
        pixels = np.flatnonzero(steps)
        count, step_size = np.abs(steps[pixels]).astype(np.int64), np.sign(steps[pixels]) * threshold[pixels]
        pixel = np.repeat(pixels, count)
        nth = np.arange(len(pixel)) - np.repeat(np.cumsum(count) - count, count) + 1  # 1, 2, ... at each pixel
        reached = level[pixel] + nth * np.repeat(step_size, count)
        fraction = (reached - before[pixel]) / (after[pixel] - before[pixel])
        when = np.floor(t_before + np.clip(fraction, 0, 1) * (t_after - t_before)).astype(np.int64)
        crossings.append((pixel, np.repeat(step_size > 0, count).astype(np.int64), when))
        level[pixels] += count * step_size
    pixel, polarity, when = (np.concatenate(parts) for parts in zip(*crossings, strict=True))
    return pixel, polarity, when


def noise_events(rng: np.random.Generator, pixels: int, duration_us: int, rate_hz: float) -> EventColumns:
    """Noise events, a Poisson process at every pixel: pixel, polarity and time, int64 [n] each."""
    number = int(rng.poisson(rate_hz * pixels * duration_us / 1e6))
    return rng.integers(pixels, size=number), rng.integers(2, size=number), rng.integers(duration_us, size=number)


def refractory_mask(pixel: np.ndarray, when: np.ndarray, refractory_us: int) -> np.ndarray:
    """Which events, sorted by time, come `refractory_us` or more after the last one that their pixel reported: bool [n]"""
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
