"""What a frame holds of its events (F2)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .bin_events import bin_events, cell_of, num_cells
from .bins import Bins, time_range
from .events import Events


def event_counts(events: Events, bins: Bins, tau: float) -> np.ndarray:
    """Events per frame, polarity and pixel: int32 [T, 2, H, W]; they add up to the number of events."""
    return bin_events(events, bins.position(events), bins.edges)


def time_surface(events: Events, bins: Bins, tau: float) -> np.ndarray:
    """exp(-age / tau) of the latest event of each polarity and pixel, at the end of each frame; 0 before the first.

    A frame ends at the first microsecond after it; one by count, at the time of its latest event. Events of
    earlier frames go on to count.

    Shapes:  n events -> float32 [T, 2, H, W], 0 to 1
    tau:     microseconds, above 0
    Source:  Lagorce et al. 2017 (HOTS), over the whole sensor; tonic's ToTimesurface
    """
    cells, frames, ends = cell_of(events), bins.frame_of(events), bins.ends(events)
    order = np.argsort(frames, kind="stable")
    starts = np.searchsorted(frames[order], np.arange(len(ends) + 1))
    latest, seen = np.full(num_cells(events), np.iinfo(np.int64).min), np.zeros(num_cells(events), dtype=bool)
    surfaces = np.zeros((len(ends), *seen.shape), dtype=np.float32)
    for k, end in enumerate(ends):
        new = order[starts[k] : starts[k + 1]]
        np.maximum.at(latest, cells[new], events.t[new])
        seen[cells[new]] = True
        age = difference(end, latest[seen]) + bins.by_time
        surfaces[k, seen] = np.exp(-age / tau)
    return surfaces.reshape(-1, 2, *events.size)


def voxel_grid(events: Events, bins: Bins, tau: float) -> np.ndarray:
    """Each event shared by the two of T points in time that it lies between, the nearer one taking more; by polarity.

    With t* = (T - 1) (t - first) / (last - first), an event gives max(0, 1 - |k - t*|) to frame k. The signed
    grid of the source is grid[:, 1] - grid[:, 0].

    Shapes:  n events -> float32 [T, 2, H, W]; they add up to the number of events
    Source:  Zhu et al. 2019; tonic's ToVoxelGrid of B bins is the first B frames of this one with T = B + 1, signed
    """
    first, last = time_range(events)
    T, cells, size = len(bins.edges), cell_of(events), num_cells(events)
    place = difference(events.t, np.int64(first)) * ((T - 1) / max(last - first, 1))
    frame = np.clip(place.astype(np.int64), 0, max(T - 2, 0))
    later = np.clip(place - frame, 0, 1)  # the share of the later of the two
    at = frame * size + cells
    places, shares = (np.append(at, at + size), np.append(1 - later, later)) if T > 1 else (at, 1 - later)
    grid = np.bincount(places, shares, minlength=T * size)
    return grid.astype(np.float32).reshape(-1, 2, *events.size)


def difference(later: np.ndarray | np.int64, earlier: np.ndarray | np.int64) -> np.ndarray:
    """The difference of int64, not negative, as float64: exact before it is rounded, where int64 would overflow."""
    return np.asarray(later.astype(np.uint64) - earlier.astype(np.uint64), np.float64)


class Representation(NamedTuple):
    """What a frame holds: a function of (events, bins, tau), and a line for `spikewise list`."""

    function: Callable[[Events, Bins, float], np.ndarray]
    description: str


REPRESENTATIONS = {
    "counts": Representation(event_counts, "events per pixel and polarity"),
    "time_surface": Representation(
        time_surface, "exp(-age / tau) of the latest event per pixel and polarity, at a frame's end"
    ),
    "voxel_grid": Representation(voxel_grid, "events shared linearly by the two nearest of T points in time, per polarity"),
}
