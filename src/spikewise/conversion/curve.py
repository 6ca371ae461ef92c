"""What a network of still images answers after so many time steps: one stream gives all of them."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data import Dataset
from ..engine.evaluate import Score, labelled_batches, score_sums
from ..engine.loader import EvalBatches
from ..models.network import Network, require_positive
from ..models.stream import run_streamed
from ..models.stream_state import NeuronStates

CHUNK = 16  # time steps that are computed at once


@torch.no_grad()
def score_by_steps(
    net: Network, data: Dataset, steps: Sequence[int], device: torch.device, *, batch: int = 64
) -> dict[int, Score]:
    """The score after each number of time steps, in increasing order: one run over the longest gives all.

    net:     a spiking network, in evaluation mode
    data:    still images
    steps:   numbers of time steps, 1 or more
    batch:   samples computed at once
    Raises:  ValueError for a ReLU network, for recordings, for no steps or numbers below 1
    """
    if not net.spiking:
        raise ValueError("a ReLU network answers at once; give a spiking one")
    if not steps:
        raise ValueError("no numbers of steps were given; give one or more")
    for number in steps:
        require_positive(steps=number)
    if data.sample(0).ndim != 3:
        raise ValueError(f"{data.name} holds recordings, which bring their own time steps; give still images")
    stops, batches = sorted(set(steps)), EvalBatches(data, batch)
    totals = {stop: torch.zeros(3, dtype=torch.float64) for stop in stops}  # loss, correct, correct_top5
    for samples, labels in labelled_batches(net, batches, range(len(batches)), device):
        for stop, logits in logits_by_steps(net, samples, stops):
            totals[stop] += score_sums(logits, labels).cpu()
    total = len(data.labels)
    return {stop: Score(int(sums[1]), total, float(sums[0]) / total, int(sums[2])) for stop, sums in totals.items()}


def logits_by_steps(net: Network, images: Tensor, stops: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """The logits [N, num_classes] of still images [N, C, H, W] after each of these numbers of steps, in increasing order."""
    net.check_input(images, dims=(4,))
    states: dict[str, Any] | None = None
    total, done = torch.zeros((), device=images.device), 0
    for stop in stops:
        while done < stop:
            frames = images.expand(min(CHUNK, stop - done), *images.shape)
            features, states = run_streamed(net, partial(features_of, net, frames), states)
            total, done = total + features.sum(0), done + len(frames)
        yield stop, net.head(total / done)


def features_of(net: Network, frames: Tensor, states: NeuronStates) -> Tensor:
    return net.forward_features(frames, states, {})
