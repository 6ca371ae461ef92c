"""What can be said of a recording in a few numbers."""

from typing import Any

import numpy as np

from .events import Events


def summary(events: Events) -> dict[str, Any]:
    """Counts, times and places of a recording.

    Returns:  events; duration_s (first to last time); rate, events per second; sensor, "width x height" in pixels; brighter,
              the share of polarity 1; pixels, the share of the sensor that saw an event; busiest, the pixel with most of them
              and their number; ordered, whether times never run backwards
    """
    height, width = events.size
    n = len(events)
    seconds = float(int(events.t.max()) - int(events.t.min())) / 1e6 if n else 0.0
    at_pixel = np.bincount(events.y.astype(np.int64) * width + events.x, minlength=height * width)
    busiest = int(at_pixel.argmax()) if n else 0
    return {
        "events": n,
        "duration_s": seconds,
        "rate": n / seconds if seconds else 0.0,
        "sensor": f"{width} x {height}",
        "brighter": float(np.mean(events.polarity)) if n else 0.0,
        "pixels": float(np.count_nonzero(at_pixel)) / max(height * width, 1),
        "busiest": {"x": busiest % width, "y": busiest // width, "events": int(at_pixel[busiest])} if n else None,
        "ordered": bool(np.all(events.t[1:] >= events.t[:-1])),
    }
