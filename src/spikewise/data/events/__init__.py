"""Recordings of event cameras: read, binned into frames, simulated, drawn."""

from ... import aliases
from .events import Events
from .filters import FILTERS, apply_filters
from .formats import FORMATS, read_events, write_events
from .frames import FRAME_BINNERS, FrameSpec, frames_by_count, frames_by_duration, to_frames
from .recordings import EventDataset
from .representations import REPRESENTATIONS
from .simulate import simulate
from .summary import summarize_events

__all__ = [
    "FILTERS",
    "FORMATS",
    "FRAME_BINNERS",
    "REPRESENTATIONS",
    "EventDataset",
    "Events",
    "FrameSpec",
    "apply_filters",
    "frames_by_count",
    "frames_by_duration",
    "read_events",
    "simulate",
    "summarize_events",
    "to_frames",
    "write_events",
]

__getattr__ = aliases.old_contents(__name__)
