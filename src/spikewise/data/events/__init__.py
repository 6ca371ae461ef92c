"""Recordings of event cameras: read, binned into frames, simulated, drawn."""

from ... import aliases
from .events import Events
from .formats import FORMATS, read_events, write_events
from .frames import FRAME_BINNERS, frames_by_count, frames_by_duration
from .recordings import EventDataset
from .simulate import simulate
from .summary import summarize_events

__all__ = [
    "FORMATS",
    "FRAME_BINNERS",
    "EventDataset",
    "Events",
    "frames_by_count",
    "frames_by_duration",
    "read_events",
    "simulate",
    "summarize_events",
    "write_events",
]

__getattr__ = aliases.old_contents(__name__)
