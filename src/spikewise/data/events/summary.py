"""A recording in a few numbers."""

from typing import Any

import numpy as np

from .events import Events


def summarize_events(events: Events) -> dict[str, Any]:
    """Statistics of a recording.

    Returns:  events, their number; duration_s, from the first to the last; rate, events per second; sensor, "width x height"
              in pixels; is_sensor_told, False where it is the smallest that fits; on_fraction, the fraction of ON events
              (polarity 1); active_pixels, the fraction of pixels with an event; most_active_pixel, its place and number of
              events, None without events; is_time_sorted, whether times never run backwards; notes, what the file's reader
              skipped, dropped, mended or doubts, in words
    """
    height, width = events.size
    n, seconds = len(events), events.duration / 1e6
    per_pixel = np.bincount(events.y.astype(np.int64) * width + events.x, minlength=height * width)
    most_active = int(per_pixel.argmax()) if n else 0
    place = {"x": most_active % width, "y": most_active // width, "events": int(per_pixel[most_active])} if n else None
    return {
        "events": n,
        "duration_s": seconds,
        "rate": n / seconds if seconds else 0.0,
        "sensor": f"{width} x {height}",
        "is_sensor_told": events.is_size_told,
        "on_fraction": float(np.mean(events.polarity)) if n else 0.0,
        "active_pixels": float(np.count_nonzero(per_pixel)) / max(height * width, 1),
        "most_active_pixel": place,
        "is_time_sorted": bool(np.all(events.t[1:] >= events.t[:-1])),
        "notes": list(events.notes),
    }
