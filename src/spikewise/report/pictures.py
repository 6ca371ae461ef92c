"""Samples as pictures inside the page: images as they are, event frames below each other for the page to play."""

import base64
import io
from typing import NamedTuple

import numpy as np

from ..data.events.plot import color_scale, events_to_rgb
from ..data.input_spec import InputSpec
from ..engine.evaluate import Answers

NUM_PICTURES = 12
MAX_SIDE, MAX_FRAMES = 160, 64  # of a picture in pixels; of a recording


class Picture(NamedTuple):
    """A sample, its class, and what the network says of it.

    uri:     a PNG inside an address; its `frames` pictures lie below each other
    height, width:  of one of them
    """

    uri: str
    frames: int
    height: int
    width: int
    source: str
    label: str
    predicted: str
    probability: float


def choose_samples(answers: Answers, limit: int = NUM_PICTURES) -> list[int]:
    """The surest mistakes, up to half, then samples that were told, one of each class in turn."""
    right = np.array(answers.labels) == answers.predicted
    probability = np.array(answers.probability)
    mistakes = np.flatnonzero(~right)
    mistakes = mistakes[np.argsort(-probability[mistakes], kind="stable")][: limit // 2]
    told = np.flatnonzero(right)
    labels = np.array(answers.labels)[told]
    turn = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)], int)
    told = told[np.lexsort((labels, turn))][: limit - len(mistakes)]
    return [*mistakes.tolist(), *told.tolist()]


def picture_of(sample: np.ndarray, spec: InputSpec | None, answers: Answers, index: int) -> Picture:
    names = answers.class_names
    pixels = to_rgb(sample, spec)
    frames, height, width, _ = pixels.shape
    return Picture(
        uri=png_uri(pixels.reshape(frames * height, width, 3)),
        frames=frames,
        height=height,
        width=width,
        source=str(answers.sources[index]).rpartition("/")[2],
        label=names[answers.labels[index]],
        predicted=names[answers.predicted[index]],
        probability=answers.probability[index],
    )


def to_rgb(sample: np.ndarray, spec: InputSpec | None) -> np.ndarray:
    """Pictures of a sample, uint8 [frames, height, width, 3]: an image [C, H, W] is one, frames [T, C, H, W] are up to 64."""
    if sample.ndim == 4 and sample.shape[1] == 2:
        scale = color_scale(sample)
        return np.stack([shrink(events_to_rgb(frame, scale)) for frame in sample[:MAX_FRAMES]])
    images = sample[None] if sample.ndim == 3 else sample[:MAX_FRAMES]
    images = images.transpose(0, 2, 3, 1)
    if spec is not None and spec.kind == "photographs":
        images = images * np.array(spec.std) + np.array(spec.mean)
    if images.shape[-1] != 3:
        images = images.mean(-1, keepdims=True).repeat(3, -1)
    return np.stack([shrink((255 * np.clip(image, 0, 1)).round().astype(np.uint8)) for image in images])


def shrink(pixels: np.ndarray) -> np.ndarray:
    """An image [H, W, 3] of at most MAX_SIDE pixels a side."""
    from PIL import Image

    if max(pixels.shape[:2]) <= MAX_SIDE:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.asarray(image)


def png_uri(pixels: np.ndarray) -> str:
    from PIL import Image

    with io.BytesIO() as content:
        Image.fromarray(pixels).save(content, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
