"""What a trained network was shown, and what its outputs are called; and other inputs, made like that.

Pillow is imported when an image is made: a network's file is read without it.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..durations import format_duration
from ..wording import count
from .events.bins import SPLITS
from .events.downsample import Crop, downsample, pixel_tables
from .events.events import Events
from .events.formats import SUFFIXES as EVENT_SUFFIXES
from .events.formats import may_be_recording, read_events
from .events.frames import FrameSpec, clip_counts
from .events.recordings import say_notes_of_first
from .images.normalize import DEFAULT_SIZE, MEAN, STD, normalize, require_view

if TYPE_CHECKING:
    from PIL import Image

FAR = 10  # times longer than recordings of training, or with fewer events: the answer is worth little


@dataclass(frozen=True)
class InputSpec:
    """The input of a network, and what its outputs are called: `net.input_spec`, which travels with the weights.

    A run writes it. Of a network from elsewhere you say it: `net.input_spec = InputSpec(class_names=("cat", "dog"))`.

    data:         name of the data set; "": none of the registry
    kind:         "photographs" of any size, cropped and normalized; "images" of one size, 0 to 1; "events", binned into frames
    class_names:  of the outputs, by class index, each once; () where they are not known
    shape:        (C, H, W) of an image or of a frame, sides of 1 to 4096 pixels
    mean, std:    of photographs: red, green, blue, 1 is white; None: ImageNet's
    num_frames, split_by:  of events
    sensor, crop:  of events of a larger sensor, (height, width): they are cropped and binned onto `shape` as training's were;
                   None: the sensor is that of `shape`
    max_count:     of events in a pixel of a frame; 0: no limit
    frame_options: of events, further fields of `FrameSpec` that are not its defaults
    usual_duration, usual_events:  of the recordings of training, their median, in microseconds and events; 0: not known
    Raises:       ValueError for what does not fit
    """

    data: str = ""
    kind: Literal["photographs", "images", "events"] = "photographs"
    class_names: tuple[str, ...] = ()
    shape: tuple[int, int, int] = (3, DEFAULT_SIZE, DEFAULT_SIZE)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    num_frames: int = 0
    split_by: str = "count"
    sensor: tuple[int, int] | None = None
    crop: Crop = "none"
    max_count: int = 0
    frame_options: Mapping[str, Any] = field(default_factory=dict)
    usual_duration: int = 0
    usual_events: int = 0

    def __post_init__(self):
        for name in ("class_names", "shape", "mean", "std", "sensor", "crop"):
            if isinstance(value := getattr(self, name), list):  # JSON has no tuples
                object.__setattr__(self, name, tuple(value))
        self.require("kind", self.kind in ("photographs", "images", "events"), "'photographs', 'images' or 'events'")
        names, whole = self.class_names, isinstance(self.class_names, tuple)
        fits = whole and all(isinstance(name, str) for name in names) and len({*names}) == len(names)
        self.require("class_names", fits, "different names, one for each output, in their order")
        fits = isinstance(self.shape, tuple) and len(self.shape) == 3
        fits = fits and all(type(side) is int and 1 <= side <= 4096 for side in self.shape)
        fits = fits and (self.shape[0] == 3 or self.kind != "photographs")
        self.require("shape", fits, "(channels, height, width), sides of 1 to 4096 pixels, photographs with 3 channels")
        if self.kind == "photographs":
            for name, default in (("mean", MEAN), ("std", STD)):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, default)
            require_view(mean=self.mean, std=self.std)
        if self.kind == "events":
            self.require("num_frames", type(self.num_frames) is int and self.num_frames >= 1, "1 or more")
            self.require("split_by", self.split_by in SPLITS, " or ".join(map(repr, SPLITS)))
            _ = self.frame_spec  # refuses what does not fit
            self.require("max_count", type(self.max_count) is int and self.max_count >= 0, "0 or more")
            if self.sensor is not None:
                fits = isinstance(self.sensor, tuple) and len(self.sensor) == 2
                fits = fits and all(type(side) is int and 1 <= side <= 8192 for side in self.sensor)
                self.require("sensor", fits, "(height, width), 1 to 8192 pixels, or None for that of the shape")
                pixel_tables(self.sensor, self.shape[1:], self.crop)  # refuses a crop outside

    def require(self, name: str, fits: bool, allowed: str) -> None:
        if not fits:
            raise ValueError(f"InputSpec: {name}={getattr(self, name)!r} does not fit {self.kind}; use {allowed}")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "InputSpec":
        """Of a file's header.

        Raises:  ValueError for what is none
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in content.items() if key in fields})
        except (TypeError, ValueError) as error:
            raise ValueError(f"its header's description of the input is damaged: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """For a file's header; what is not known of recordings is left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value or not key.startswith("usual_")}

    @property
    def needs_format_3(self) -> bool:
        """Whether an earlier version would make other frames of this in silence."""
        return bool(self.frame_options or self.sensor or self.max_count)

    @property
    def frame_spec(self) -> FrameSpec:
        """How recordings become frames."""
        return FrameSpec(self.num_frames, self.split_by, **self.frame_options)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of files that can be such an input, in small letters."""
        if self.kind == "events":
            return EVENT_SUFFIXES
        from .images.decode import SUFFIXES

        return tuple(SUFFIXES)

    def may_be_input(self, path: Path) -> bool:
        """Whether a file with such a suffix is one: of text, which may be anything, its first bytes tell."""
        return self.kind != "events" or may_be_recording(path)

    def preprocess(self, source: Any) -> np.ndarray:
        """An input as evaluation makes it of a sample: float32 [C, H, W], of events frames [T, 2, H, W].

        source:  a path; an image of Pillow, or an array, uint8 [H, W, 3] (or [H, W]) or floating point from 0 to 1,
                 [H, W, 3] or [3, H, W]; of events, a path or Events
        Raises:  ValueError, OSError in one sentence
        """
        if self.kind == "events":
            return self.bin_events(source)[0]
        from PIL.Image import Resampling

        from .images.photographs import resize_center_crop

        image = load_image(source)
        channels, height, width = self.shape
        if self.kind == "photographs":
            assert self.mean is not None and self.std is not None, "photographs are normalized"
            return normalize(np.asarray(resize_center_crop(image, (height, width))), self.mean, self.std)
        if image.size != (width, height):
            image = image.resize((width, height), Resampling.BILINEAR)
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32) / np.float32(255)
        return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def bin_events(self, source: Any) -> tuple[np.ndarray, str]:
        """Frames of a path or Events, as `preprocess` gives them; and why the answer may be worth little, "" for no reason.

        Raises:  ValueError, OSError in one sentence
        """
        events = source if isinstance(source, Events) else read_events(Path(source))
        doubt = self.doubt(events)
        events = self.frame_spec.select(events)
        say_notes_of_first("predict", name_of(source), events.notes)
        if not len(events):
            raise ValueError("; ".join((f"{name_of(source)} has no events", *events.notes)))
        frames = self.frame_spec.frames(self.fit_sensor(events, source))
        return clip_counts(frames, self.max_count).astype(np.float32, copy=False), doubt

    def doubt(self, events: Events) -> str:
        """How a recording is far from those of training: much longer, or with few events; "" where it is not."""
        found = []
        if self.usual_duration and events.duration > FAR * self.usual_duration:
            lasts, usual = (format_duration(time / 1e6) for time in (events.duration, self.usual_duration))
            found.append(
                f"it lasts {lasts}, recordings of training {usual}: `spikewise stream` follows a long one, --from and --to of "
                "`spikewise events convert` take a part"
            )
        if len(events) < max(self.num_frames, self.usual_events / FAR):
            usual = f", recordings of training {self.usual_events:,}" if self.usual_events else ""
            found.append(f"it has {count(len(events), 'event')} for {count(self.num_frames, 'frame')}{usual}")
        return "; ".join(found)

    def frame(self, events: Events) -> np.ndarray:
        """The latest events of a camera as one frame for `net.step`: float32 [1, 2, H, W], counts as frames in training hold.

        events:  as many, or of as much time, as a frame in training
        Raises:  ValueError for other frames than counts, which need the events before, too, and for a filter; for a larger
                 sensor than that of training
        """
        self.require("kind", self.kind == "events", "a network of recordings")
        options = self.frame_options
        if options.get("representation", "counts") != "counts" or options.get("filter"):
            raise ValueError(f"frames of {dict(options)} can't be made one by one; make those of a whole recording: preprocess")
        frame = FrameSpec(1, self.split_by).frames(self.fit_sensor(events))
        return clip_counts(frame, self.max_count).astype(np.float32, copy=False)

    def fit_sensor(self, events: Events, source: Any = None) -> Events:
        """A recording, or a part of a stream, on the pixels that the network was trained on, cropped and binned as then.

        source:  what messages call it; None: the Events
        Raises:  ValueError for a larger sensor than that of training
        """
        trained = self.sensor or self.shape[1:]
        if events.size != trained:
            have, need = (" x ".join(map(str, size)) for size in (events.size, trained))
            if events.size[0] > trained[0] or events.size[1] > trained[1]:
                name = name_of(events if source is None else source)
                raise ValueError(
                    f"{name} has a sensor of {have} pixels, this network was trained on {need}; to see it as such, bin it with "
                    "`spikewise events convert --size`, or say --sensor there, if its sensor is smaller than the file tells"
                )
            events = dataclasses.replace(events, size=trained)
        own = isinstance(source, str | Path)  # read from a file, and nobody else's
        return events if self.sensor is None else downsample(events, self.shape[1:], self.crop, in_place=own)


def load_image(source: Any) -> "Image.Image":
    """An image, RGB and upright, of a path, an image of Pillow or an array."""
    from PIL import Image

    from .images.decode import compose_on_black, decode

    if isinstance(source, str | Path):
        with Path(source).open("rb") as content:
            try:
                return decode(content)
            except ValueError as error:
                raise ValueError(f"{source} {error}") from None
    if isinstance(source, Image.Image):
        return compose_on_black(source) if source.has_transparency_data else source.convert("RGB")
    pixels = np.asarray(source)
    if not np.issubdtype(pixels.dtype, np.number):
        raise ValueError(f"given a {type(source).__name__}; give one path, one image of Pillow or one array")
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, -1)
    if pixels.ndim == 3 and pixels.shape[-1] != 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[-1] == 3:
        if pixels.dtype == np.uint8:
            return Image.fromarray(np.ascontiguousarray(pixels))
        if np.issubdtype(pixels.dtype, np.floating) and pixels.size and pixels.min() >= 0 and pixels.max() <= 1:
            return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    low, high = (pixels.min(), pixels.max()) if pixels.size else ("none", "none")
    raise ValueError(
        f"given an array {list(pixels.shape)} {pixels.dtype} from {low} to {high}; give uint8 [H, W, 3], or floating point "
        "from 0 to 1, [H, W, 3] or [3, H, W], or one channel [H, W]"
    )


def name_of(source: Any) -> str:
    """What messages call a source."""
    return str(source) if isinstance(source, str | Path) else f"the {type(source).__name__}"


@functools.cache
def match_classes(ours: tuple[str, ...], theirs: tuple[str, ...], where: str) -> tuple[int, ...]:
    """The network's class index of each class of a data set, matched by name.

    Raises:  ValueError that names the classes that one of them lacks
    """
    if said := class_changes(ours, theirs, added="the network does not know", missing="the data has no class"):
        raise ValueError(f"{where}: the classes are not those the network was trained on: {said}")
    return tuple(ours.index(name) for name in theirs)


def class_changes(before: Collection[str], now: Collection[str], *, added: str = "new", missing: str = "missing") -> str:
    """Which classes only one of two lists has, by name; "" where both have the same.

    added, missing:  words before those that only `now`, and only `before`, has
    """
    pairs = (now, before, added), (before, now, missing)
    differing = [(words, [name for name in these if name not in set(those)]) for these, those, words in pairs]
    said = "; ".join(
        f"{words} {', '.join(map(repr, names[:3]))}{f' and {len(names) - 3:,} more' if len(names) > 3 else ''}"
        for words, names in differing
        if names
    )
    return f"{said} (renamed?)" if [len(names) for _, names in differing] == [1, 1] else said
