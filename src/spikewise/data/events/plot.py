"""Plots of recordings and samples: frames side by side, an animation, and events in space and time."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...wording import count
from .downsample import downsample, largest_within
from .events import Events
from .frames import frames_by_duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# vermilion and blue, which colour-blind people can tell apart
ON_COLOR, OFF_COLOR, BACKGROUND = (213, 94, 0), (0, 114, 178), (255, 255, 255)
MAX_POINTS = 60_000  # of a plot in space and time; more would hide each other
TIME_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0}
CLOCK_HEIGHT, CLOCK_COLOR = 22, (70, 70, 70)  # of the strip below an animation
MAX_FRAMES = 100  # of a picture
MAX_SIDE = 640  # pixels of the longer side of an animation
MIN_WIDTH = 10.5  # inches of a picture in space and time, below which its labels would lie outside
MAX_SMALL_SIDE = 200  # of a frame in a row, which has about as many pixels: none of the sensor's may be left out


def plot_recording(events: Events, path: Path, *, frames: int = 8, seconds: float | None = None) -> None:
    """Plot a recording: .gif, an animation; .png, its frames in a row above its events in space and time.

    frames:   frames in the row, 1 to 100; an animation has four times as many
    seconds:  length of the animation, above 0 and up to 3600; None: that of the recording, between 1 and 10 seconds
    Raises:   ValueError for another kind of file, a number out of its range, or a recording without events
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"frames={frames}; use 1 to {MAX_FRAMES}")
    if seconds is not None and not 0 < seconds <= 3600:
        raise ValueError(f"seconds={seconds}; use a number above 0, up to 3600")
    if not len(events):
        raise ValueError("there is nothing to plot: the recording has no events")
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".png"):
        raise ValueError(f"{path} is neither .gif (an animation) nor .png (frames, and events in space and time)")
    try:
        if suffix == ".gif":
            pictures = frames_by_duration(downsample_sensor(events), 4 * frames)
            write_gif(pictures, path, seconds or min(10.0, max(1.0, events.duration / 1e6)), clock(events, 4 * frames))
        else:
            draw_recording(events, frames).savefig(path)
    except OSError as error:
        raise OSError(error.errno, f"{path} can't be written: {error.strerror or error}") from None


def downsample_sensor(events: Events, max_side: int = MAX_SIDE) -> Events:
    """The recording on a sensor of at most `max_side` pixels a side, so that its frames fit a plot, and memory."""
    return downsample(events, largest_within(events.size, (max_side, max_side))) if max(events.size) > max_side else events


def events_to_rgb(counts: np.ndarray, max_count: float) -> np.ndarray:
    """Counts of events as an RGB image: OFF events blue, ON events vermilion, or mixed. [2, H, W] -> [H, W, 3], uint8

    max_count:  the count that gets full colour
    """
    off, on = np.minimum(counts / max(max_count, 1e-9), 1.0)[..., None]
    background = np.array(BACKGROUND)
    ink = off * (background - OFF_COLOR) + on * (background - ON_COLOR)
    return np.clip(background - ink, 0, 255).astype(np.uint8)


def color_scale(frames: np.ndarray) -> float:
    """The count that gets full colour: the 98th percentile of the pixels with events."""
    seen = frames[frames > 0]
    return float(np.percentile(seen, 98)) if seen.size else 1.0


def upscale(picture: np.ndarray, min_side: int) -> np.ndarray:
    """Each pixel as a square, so that the shorter side is about `min_side` pixels."""
    times = max(1, round(min_side / min(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def time_unit(events: Events) -> tuple[str, float]:
    """The unit in which the times of a recording are shown, and its microseconds."""
    return next((unit, size) for unit, size in TIME_UNITS.items() if events.duration >= 2 * size or size == 1)


def clock(events: Events, frames: int) -> list[str]:
    """When each of so many frames begins, after the earliest event: in one unit, with decimals that tell them apart."""
    unit, size = time_unit(events)
    step = events.duration / frames / size
    decimals = max(0, 1 - math.floor(math.log10(step))) if step else 0
    return [f"{k * step:,.{decimals}f} {unit}" for k in range(frames)]


def write_gif(frames: np.ndarray, path: Path, seconds: float, times: Sequence[str]) -> None:
    """Frames [T, 2, H, W] as an animated GIF that loops, each above its time."""
    max_count, pictures, font = color_scale(frames), [], ImageFont.load_default(13)
    for frame, time in zip(frames, times, strict=True):
        pixels = upscale(events_to_rgb(frame, max_count), 256)
        picture = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + CLOCK_HEIGHT), CLOCK_COLOR)
        picture.paste(Image.fromarray(pixels))
        place = picture.width - 6, pixels.shape[0] + CLOCK_HEIGHT // 2
        ImageDraw.Draw(picture).text(place, time, fill=BACKGROUND, font=font, anchor="rm")
        pictures.append(picture)
    wait = max(20, round(1000 * seconds / len(pictures)))  # milliseconds; many viewers slow down anything faster than 20
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=wait, loop=0)


def new_figure(**how: Any) -> "Figure":
    """An empty figure.

    Raises:  ValueError where matplotlib is missing
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("plots need the package matplotlib: pip install 'spikewise[plots]'") from None
    return Figure(dpi=150, layout="constrained", **how)


def draw_recording(events: Events, frames: int) -> "Figure":
    """A row of frames, and below it every event (or a sample of them) by place and time."""
    counts = frames_by_duration(downsample_sensor(events, MAX_SMALL_SIDE), frames)
    max_count = color_scale(counts)
    figure = new_figure(figsize=(max(1.5 * frames, MIN_WIDTH), 5.6))
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(1, 2.2)))
    for ax, frame, time in zip(above.subplots(1, frames, squeeze=False)[0], counts, clock(events, frames), strict=True):
        ax.imshow(events_to_rgb(frame, max_count), interpolation="nearest")
        ax.set_title(time, fontsize=8)
        ax.set(xticks=[], yticks=[])
    plot_event_cloud(below.add_subplot(projection="3d", computed_zorder=False), events)
    return figure


def plot_frame_sheet(frames: np.ndarray, path: Path) -> None:
    """Frames [T, 2, H, W] of any representation in a grid, numbered, in colours of one scale.

    Raises:  ValueError for more frames than a picture shows, or where matplotlib is missing; OSError
    """
    if len(frames) > MAX_FRAMES:
        raise ValueError(
            f"{len(frames):,} frames are too many for a picture, which shows up to {MAX_FRAMES}; write .npy or .npz"
        )
    titles, shown = [f"{k}" for k in range(len(frames))], shrink(frames, MAX_SMALL_SIDE)
    try:
        contact_sheet(list(shown[:, None]), titles, path, columns=min(8, len(frames)), max_count=color_scale(shown))
    except OSError as error:
        raise OSError(error.errno, f"{path} can't be written: {error.strerror or error}") from None


def shrink(frames: np.ndarray, max_side: int) -> np.ndarray:
    """Frames [T, 2, H, W] of at most `max_side` pixels a side, each the largest value of a square of pixels."""
    side = -(-max(frames.shape[2:]) // max_side)
    padded = np.pad(frames, [(0, 0), (0, 0), *((0, -length % side) for length in frames.shape[2:])])
    T, channels, height, width = padded.shape
    return padded.reshape(T, channels, height // side, side, width // side, side).max((3, 5))


def plot_event_cloud(ax: Any, events: Events) -> None:
    """Events as points: time to the right, rows from the top down as in the frames, columns away from the viewer."""
    step = -(-len(events) // MAX_POINTS)
    unit, size = time_unit(events)
    t = (events.t[::step] - events.t.min()) / size
    x, y, polarity = events.x[::step], events.y[::step], events.polarity[::step]
    height, width = events.size
    colours = np.array([OFF_COLOR, ON_COLOR])[polarity] / 255
    look = {"s": 1.2, "alpha": min(1.0, 0.15 + 6000 / len(t)), "linewidths": 0, "depthshade": False}
    look["clip_on"] = False  # the cloud is wider than the square that 3-D axes are cut to
    ax.scatter(t, x, y, c=colours, **look)
    ax.set_box_aspect((2.6, width / max(width, height), height / max(width, height)), zoom=2.0)
    ax.set(xlabel=f"time ({unit})", xlim=(0, max(float(t.max()), 1e-3)))
    ax.set(ylim=(-0.5, width - 0.5), zlim=(height - 0.5, -0.5))  # whole pixels; the row 0 on top
    # numbers at both ends of the short axes would lie on each other where these meet
    ax.set(yticks=[], zticks=[], ylabel=f"x: 0 to {width - 1}", zlabel=f"y: 0 (top) to {height - 1}")
    ax.tick_params(labelsize=7, pad=-3)
    for axis, pad in ((ax.xaxis, -6), (ax.yaxis, -8), (ax.zaxis, -8)):
        axis.labelpad = pad
        axis.label.set_size(8)
        axis.set_rotate_label(False)
    ax.view_init(elev=16, azim=-70)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.pane.set_visible(False)
    ax.grid(visible=False)
    shown = f"one in {step} of " if step > 1 else ""
    ax.set_title(f"{shown}{count(len(events), 'event')}: ON (vermilion), OFF (blue)", fontsize=8)


def contact_sheet(
    samples: Sequence[np.ndarray], titles: Sequence[str], path: Path, *, columns: int = 5, max_count: float | None = None
) -> None:
    """Samples in a grid: images [C, H, W], 0 to 1, or frames [T, 2, H, W], summed over time.

    max_count:  the sum that gets full colour; None: of each sample by itself
    """
    rows = -(-len(samples) // columns)
    figure = new_figure(figsize=(1.8 * columns, 2.0 * rows))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in grid:
        ax.axis("off")
    for ax, sample, title in zip(grid, samples, titles, strict=False):
        if sample.ndim == 4:
            counts = sample.sum(0)
            ax.imshow(events_to_rgb(counts, max_count or color_scale(counts)), interpolation="nearest")
        else:
            shown = (sample - sample.min()) / max(float(sample.max() - sample.min()), 1e-9)
            ax.imshow(shown.transpose(1, 2, 0) if len(shown) == 3 else shown[0], cmap="gray", interpolation="nearest")
        ax.set_title(title, fontsize=8)
    figure.savefig(path)
