"""The command `spikewise stream`: a recording, or a pipe, before a network as a live camera would be."""

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from ..durations import format_duration
from ..wording import count
from .events import Reading, ReadingOptions, Time
from .options import Connect, Device, Json, ModelName, RunOrFile, given

if TYPE_CHECKING:
    from ..data.events.live import LiveFrames, Packet
    from ..data.input_spec import InputSpec
    from ..engine.live import Decision, Watcher

AS_IT_IS = Reading()
PIPE_OPTIONS = ("sensor", "time_unit", "columns")  # of `Reading`, which a pipe has, too
PICTURES_PER_SECOND = 15
SHARE_OF_TIME = 0.1  # that pictures may take: the network waits for them
LARGEST = 64  # pixels of the picture's longer side
SHADES, BAR = 4, 24  # of each colour; characters
ON, OFF = np.array([90, 190, 255]), np.array([255, 120, 60])  # red, green, blue


def stream(
    run: RunOrFile,
    source: Annotated[Positional[str], arg(metavar="INPUT")],
    speed: Annotated[float, arg(help="how many times as fast as it was recorded; inf: as fast as the network")] = 1.0,
    memory: Annotated[
        str, arg(metavar="all|INT|FLOAT", help="frames that a decision averages: all, the last INT, or fading by FLOAT a frame")
    ] = "all",
    time_window: Time = None,
    event_count: Annotated[int | None, arg(metavar="INT")] = None,
    top: Annotated[int | None, arg(metavar="INT", help="how many classes to give; default 3, or all of fewer")] = None,
    device: Device = "auto",
    name: ModelName = None,
    connect: Connect = None,
    reading: ReadingOptions = AS_IT_IS,
    as_json: Json = False,
) -> None:
    """Decide on every frame of a recording, or a pipe, as a live camera delivers it.

    Args:
        source: a recording of any known format; -: a pipe of lines t x y p
        time_window: of each frame, as 10ms; default as trained
        event_count: events of each frame; default as trained
    """
    from ..data.events.live import DamagedStream
    from ..engine.live import Watcher

    watcher = Watcher(run, memory=parse_memory(memory), device=device, top=top, **given(name=name, connect=connect))
    sizes = {"time_window": time_window, "event_count": event_count}
    opened = open_pipe if source == "-" else open_recording
    packets, frames = opened(Path(source), watcher.spec, speed, reading, sizes)
    damage = None
    try:
        show(watcher.watch(packets, frames), watcher, as_json=as_json)
    except DamagedStream as error:
        damage = error
    if frames.late:
        print(f"spikewise: {count(frames.late, 'event')} came after their frame, and were left out", file=sys.stderr)
    if damage is not None:
        print(f"spikewise: {damage}; the stream ends there", file=sys.stderr)
        raise SystemExit(1)


def parse_memory(text: str) -> str | int | float:
    """The memory of `Network.step`; a word that is none is refused there."""
    if text.isdecimal():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def open_recording(
    path: Path, spec: "InputSpec", speed: float, reading: Reading, sizes: dict[str, int | None]
) -> tuple[Iterator["Packet"], "LiveFrames"]:
    """The packets of a file, of a damaged one those before the damage, and what makes frames of them."""
    from ..data.events import apply_filters
    from ..data.events.formats.reading import DamagedFile
    from ..data.events.live import DamagedStream, LiveFrames, play
    from ..engine.live import live_spec

    if not speed > 0:
        raise ValueError(f"--speed {speed:g} is none; use a number above 0, 1 for real time, inf for as fast as it goes")
    damage = None
    try:
        events = reading.read(path)
    except DamagedFile as error:
        damage, events = error, reading.read(path, salvage=True)
    events = spec.fit_sensor(apply_filters(events, spec.frame_spec.filter), path)
    if not len(events):
        raise ValueError("; ".join((f"{path} has no events", *events.notes)))
    frame_spec, said = live_spec(spec, events, **sizes)
    for note in filter(None, (*events.notes, said)):
        print(f"note: {note}", file=sys.stderr)

    def packets() -> Iterator["Packet"]:
        yield from play(events, frame_spec, speed)
        if damage is not None:
            raise DamagedStream(str(damage))

    return packets(), LiveFrames(frame_spec, spec.max_count)


def open_pipe(
    path: Path, spec: "InputSpec", speed: float, reading: Reading, sizes: dict[str, int | None]
) -> tuple[Iterator["Packet"], "LiveFrames"]:
    """The packets of standard input, and what makes frames of them."""
    from ..data.events.live import LiveFrames
    from ..data.events.pipe import NAME, TextPipe
    from ..engine.live import live_spec

    if speed != 1:
        raise ValueError("--speed is for a recording; a pipe comes at its own pace: leave it out")
    told = {field.name: getattr(reading, field.name) for field in dataclasses.fields(Reading)}
    if useless := [name for name, value in told.items() if value != getattr(AS_IT_IS, name) and name not in PIPE_OPTIONS]:
        flag = {"start": "from", "end": "to"}.get(useless[0], useless[0]).replace("_", "-")
        raise ValueError(f"--{flag} is for a recording in a file, not for a pipe; leave it out")
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("- reads a pipe of lines t x y p, and nothing is piped in: CAMERA | spikewise stream RUN -")
    frame_spec, _ = live_spec(spec, None, **sizes)
    size = reading.sensor or spec.sensor or (spec.shape[1], spec.shape[2])
    descriptor = sys.stdin.fileno()
    pipe = TextPipe(lambda size: os.read(descriptor, size), size, columns=reading.columns, time_unit=reading.time_unit)
    packets = (packet._replace(events=spec.fit_sensor(packet.events, str(NAME))) for packet in pipe.packets())
    return packets, LiveFrames(frame_spec, spec.max_count)


def show(decisions: Iterable["Decision"], watcher: "Watcher", *, as_json: bool) -> None:
    """A picture on a terminal, else a line for each decision; at the end the latencies, also where the stream breaks off."""
    import rich.console

    console = rich.console.Console(highlight=False)
    try:
        if as_json or not console.is_terminal or console.options.ascii_only:
            print_lines(decisions, as_json=as_json)
        else:
            draw_pictures(decisions, watcher, console)
    finally:
        if watcher.frames:
            middle, worst = (watcher.latencies.percentile(percent) for percent in (50, 99))
            facts = {"frames": watcher.frames, "latency_p50_ms": milliseconds(middle), "latency_p99_ms": milliseconds(worst)}
            shown = f"{count(watcher.frames, 'frame')}, latency p50 {format_duration(middle)}, p99 {format_duration(worst)}"
            print(json.dumps(facts) if as_json else shown, flush=True)


def print_lines(decisions: Iterable["Decision"], *, as_json: bool) -> None:
    for one in decisions:
        if as_json:
            classes = [{"class": name, "probability": finite(value)} for name, value in one.classes]
            facts = {"frame": one.frame, "seconds": one.seconds, "classes": classes}
            print(json.dumps(facts | {"latency_ms": milliseconds(one.latency), "events": one.num_events}), flush=True)
        else:
            shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in one.classes)
            print(f"{one.frame:6} {one.seconds:10.3f} s  {shown}  {format_duration(one.latency)}", flush=True)


def milliseconds(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def finite(probability: float) -> float | None:
    """A probability as JSON has it: null for NaN."""
    return round(probability, 6) if math.isfinite(probability) else None


def draw_pictures(decisions: Iterable["Decision"], watcher: "Watcher", console: Any) -> None:
    """The newest frame and its classes, some times a second, whatever the number of frames; the last one stays."""
    from rich.live import Live

    due, latest = 0.0, None
    with Live(console=console, auto_refresh=False) as live:
        for latest in decisions:
            if (now := time.monotonic()) >= due:
                live.update(draw(latest, watcher), refresh=True)
                took = time.monotonic() - now
                due = now + max(1 / PICTURES_PER_SECOND, took / SHARE_OF_TIME)
        if latest is not None:
            live.update(draw(latest, watcher), refresh=True)


def draw(one: "Decision", watcher: "Watcher") -> Any:
    """A frame in half blocks, its classes with bars, and the latencies."""
    from rich.console import Group
    from rich.segment import Segment, Segments
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text

    rows, parts = colours(one.image), []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        pairs = zip(map(tuple, upper.tolist()), map(tuple, lower.tolist()), strict=True)
        for (above, below), run in groupby(pairs):
            style = Style.parse("rgb({},{},{}) on rgb({},{},{})".format(*above, *below))
            parts.append(Segment("▀" * len([*run]), style))
        parts.append(Segment.line())
    picture = Segments(parts)
    table = Table.grid(padding=(0, 1))
    for name, value in one.classes:
        share = value if math.isfinite(value) else 0.0
        table.add_row(Text(name), f"{'█' * round(BAR * share):<{BAR}}", f"{100 * value:5.1f} %")
    middle, worst = (format_duration(watcher.latencies.percentile(percent)) for percent in (50, 99))
    line = f"frame {one.frame:,}, {one.seconds:.2f} s, {count(one.num_events, 'event')}"
    return Group(picture, table, Text(f"{line}; latency {format_duration(one.latency)}, p50 {middle}, p99 {worst}"))


def colours(image: np.ndarray) -> np.ndarray:
    """A frame [2, H, W] as red, green and blue, uint8 [h, w, 3]: an even number of rows, at most LARGEST pixels a side."""
    _, height, width = image.shape
    step = -(-max(height, width) // LARGEST)
    rows = -(-height // step)
    padded = np.zeros((2, (rows + rows % 2) * step, -(-width // step) * step), np.float32)
    padded[:, :height, :width] = image
    pooled = padded.reshape(2, padded.shape[1] // step, step, padded.shape[2] // step, step).max((2, 4))
    off, on = np.ceil(SHADES * pooled / max(float(pooled.max()), 1e-9)) / SHADES
    return np.minimum(on[..., None] * ON + off[..., None] * OFF, 255).astype(np.uint8)
