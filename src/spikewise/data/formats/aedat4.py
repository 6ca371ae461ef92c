"""AEDAT 4, what DV writes, through the package aedat."""

from pathlib import Path

import numpy as np

from ..events import Events
from . import raw as files


def read_aedat4(path: Path, size: tuple[int, int] | None = None) -> Events:
    """Events of the file's first stream of events; other streams are left out.

    Raises:  ValueError for a damaged file, one without events, or where the package is missing; OSError
    """
    aedat = files.extra("aedat", path)
    files.bytes_of(path)
    try:
        decoder = aedat.Decoder(path)
        streams = {number: about for number, about in decoder.id_to_stream().items() if about["type"] == "events"}
        if not streams:
            raise ValueError("it has no stream of events")
        number, about = min(streams.items())
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == number]
    except OSError:
        raise
    except BaseException as error:  # a panic of the library, written in Rust, is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}; copy it again") from None
    events = np.concatenate(packets) if packets else np.empty(0, [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
    size = size or (int(about["height"]), int(about["width"]))
    t, x, y, on = (events[name] for name in events.dtype.names or ())
    return files.recording(path, (t.astype(np.int64), x.copy(), y.copy(), on.astype(np.uint8)), size)
