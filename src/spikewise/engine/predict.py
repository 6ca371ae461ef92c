"""Classes of new images and recordings, by a trained network."""

import copy
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.class_folders import find_files
from ..data.input_spec import InputSpec, name_of
from ..models import Network
from ..models.network import INPUT_ADVICE, require_positive
from ..models.weights import load_pretrained
from ..wording import count, option
from .build import choose_device, weights_channels_last
from .evaluate import load_run
from .loader import to_device
from .run.folder import is_run


@dataclass(frozen=True)
class Prediction:
    """What a network says of one input.

    source:   what was given: a path, or what else
    classes:  (name, probability), the most probable first; () where the input could not be read
    error:    why it could not; "" where it could
    note:     why the answer may be worth little: how a recording is far from those of training
    """

    source: Any
    classes: tuple[tuple[str, float], ...]
    error: str = ""
    note: str = ""


class Predictor:
    """Predicts the classes of images or recordings, batch by batch; what cannot be read does not stop the others.

    weights:  a network, a run folder or a weights file that says what it was trained on
    device:   auto, cpu, cuda or mps
    batch:    inputs computed at once
    T:        time steps for which an image is shown; None: as trained
    top:      how many classes are given; None: 5, or all where there are fewer
    Raises:   as `load_pretrained`; ValueError for weights that do not say what the network was trained on
    """

    def __init__(
        self,
        weights: Network | str | Path,
        *,
        device: str = "auto",
        batch: int = 32,
        T: int | None = None,
        top: int | None = None,
        **overrides: Any,
    ):
        require_positive(batch=batch, **{name: value for name, value in (("top", top), ("T", T)) if value is not None})
        self.device, self.batch = choose_device(device), batch
        if isinstance(weights, Network) and overrides:
            raise ValueError(f"{option(min(overrides))} is for weights files; the network is built already")
        if isinstance(weights, Network):
            net = copy.deepcopy(weights)
        else:
            net = load_run(weights, **overrides)[0] if is_run(weights) else load_pretrained(weights, **overrides)
        net = self.net = weights_channels_last(net).float().to(self.device).eval()
        if net.input_spec is None:
            raise ValueError(f"{name_of(weights)} {INPUT_ADVICE}")
        self.spec: InputSpec = net.input_spec
        if top is not None and top > net.num_classes:
            raise ValueError(f"{option('top', top)}: this network has {count(net.num_classes, 'class')}")
        self.top = min(5, net.num_classes) if top is None else top
        if T is not None:
            if self.spec.kind == "events":
                raise ValueError(f"{option('T', T)} is for images; recordings are cut into frames as in training")
            net.T = T

    def __call__(self, sources: Iterable[Any]) -> Iterator[Prediction]:
        """The prediction of each source, in their order; any number of them."""
        remaining = iter([sources] if isinstance(sources, str | Path) else sources)
        while chunk := list(islice(remaining, self.batch)):
            found = [self.read(source) for source in chunk]
            samples = [sample for sample, _ in found if isinstance(sample, Tensor)]
            probabilities = iter(self.probabilities(samples)) if samples else iter(())
            for source, (sample, note) in zip(chunk, found, strict=True):
                if isinstance(sample, Tensor):
                    yield Prediction(source, self.rank(next(probabilities)), note=note)
                else:
                    yield Prediction(source, (), sample)

    def read(self, source: Any) -> tuple[Tensor | str, str]:
        """The network's input, or why there is none; and what is to be said beside the answer."""
        try:
            if self.spec.kind == "events":
                frames, note = self.spec.bin_events(source)
                return torch.from_numpy(frames), note
            return torch.from_numpy(self.spec.preprocess(source)), ""
        except OSError as error:
            return f"{name_of(source)}: {error.strerror or error}", ""
        except ValueError as error:
            return str(error), ""

    @torch.no_grad()
    def probabilities(self, samples: list[Tensor]) -> Tensor:
        """[N, classes], float32, on the CPU."""
        batch = torch.stack(samples, samples[0].dim() - 3)
        return self.net(to_device(batch, self.device)).float().softmax(1).cpu()

    def rank(self, probabilities: Tensor) -> tuple[tuple[str, float], ...]:
        values, indices = probabilities.topk(min(self.top, len(probabilities)))
        names = self.net.class_names or tuple(map(str, range(len(probabilities))))
        return tuple((names[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True))


def expand_folders(paths: Iterable[Path], spec: InputSpec) -> tuple[list[Path], int]:
    """Files as they are, of folders all that can be an input, sorted by name; and how many other files were skipped.

    Raises:  ValueError for a folder without an input
    """
    found, skipped = [], 0
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = find_files(path.parent, path.name or os.curdir, spec.suffixes, spec.may_be_input)
        if not files.samples:
            raise ValueError(f"{path} holds no file of {spec.kind} ({', '.join(spec.suffixes)})")
        found += [path.parent / name for name in files.samples]
        skipped += len(files.hidden) + len(files.unknown)
    return found, skipped
