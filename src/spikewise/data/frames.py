"""Events to frames: counts per polarity and pixel."""

import numpy as np

from .events import Events


def frames_by_count(events: Events, T: int) -> np.ndarray:
    """Cut a recording into T frames of equally many events; the last takes the remainder.

    Shapes:  n events -> counts [T, 2, H, W], int32: channel 0 polarity 0, channel 1 polarity 1; they add up to n
    Source:  the published rule (floor(n / T) events per frame), as for DVS128 Gesture and CIFAR10-DVS
    Raises:  ValueError for T below 1
    """
    if T < 1:
        raise ValueError(f"T={T} frames; use 1 or more")
    height, width = events.size
    n = len(events)
    per_frame = n // T
    frame = np.minimum(np.arange(n) // per_frame, T - 1) if per_frame else np.full(n, T - 1)
    cell = ((frame * 2 + events.polarity) * height + events.y) * width + events.x
    return np.bincount(cell, minlength=T * 2 * height * width).astype(np.int32).reshape(T, 2, height, width)
