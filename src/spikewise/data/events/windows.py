"""Windows cut from longer recordings: how their files are named."""

import re
from pathlib import PurePath

WINDOW = re.compile(r"(.+)\.window-(\d+)\.npz")


def window_name(recording: str, number: int) -> str:
    """The file name of a window: it keeps the recording, and where in it the window was, counted from 0."""
    return f"{recording}.window-{number:06}.npz"


def is_window(name: str) -> bool:
    """Whether a file name is one that `window_name` makes."""
    return WINDOW.fullmatch(name) is not None


def recording_of(name: str) -> tuple[str, int]:
    """The recording that a window was cut from, and the window's number; for any other file its own path, and 0."""
    found = WINDOW.fullmatch(PurePath(name).name)
    return (found[1], int(found[2])) if found else (name, 0)
