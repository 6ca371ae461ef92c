"""What every block does while a network runs: spikes by time step and sample, distance from the identity, gradients."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..neurons import Neuron
from .calls import is_recomputing
from .network import Network
from .spiking_layer import SpikingLayer

NAN = float("nan")
MAX_COUNTED_VALUE = 16  # integers of ADD that are counted one by one; those above are counted together


class BlockActivity(NamedTuple):
    """What a block fires, per neuron and time step.

    branch, output:          means of A, the branch's last neurons, and of O, the block's output: O is above 1 only where ADD
                             makes integers. Of Spiking and Plain blocks both are the same neurons. NaN for an A that the block
                             does not tell, and for an O that is a current: it has values below 0 or between integers
    max_value:               the largest value of O that was seen; NaN of currents
    distance:                mean |O - S|, how far the block is from the identity; None where it changes the shape
    branch_by_time, output_by_time: means at each time step, [T]; NaN as above
    branch_by_class, output_by_class: means of the samples of each class, [classes], NaN of those that were not shown;
                             [] without labels
    values:                  shares of O that are 0, 1, 2, ..., 16, and above; NaN of currents
    """

    branch: float
    output: float
    max_value: float
    distance: float | None
    branch_by_time: list[float]
    output_by_time: list[float]
    branch_by_class: list[float]
    output_by_class: list[float]
    values: list[float]


class BlockRecorder:
    """What is noted of one block, batch after batch.

    branch, output:  means by time step and sample, a tensor [T, N] per batch; `branch` stays empty where A is not known
    has_currents:    whether a value of O was no spike and no integer
    temporal_change: share of the latest batch's values of O that are not at every step what they were at the first; of A where
                     O is a current
    gradient_in, gradient_out:  norms of dL/dS and dL/dO in the latest backward pass; NaN where there was none
    """

    def __init__(self, *, details: bool):
        self.details = details
        self.branch: list[Tensor] = []
        self.output: list[Tensor] = []
        self.has_currents = False
        self.temporal_change = self.branch_change = self.gradient_in = self.gradient_out = NAN
        self.max_value, self.distance_sum, self.num_values, self.counts = 0.0, 0.0, 0, [0] * (MAX_COUNTED_VALUE + 2)

    @torch.no_grad()
    def record_branch(self, _module: object, _args: object, spikes: Tensor) -> None:
        if is_recomputing():
            return
        self.branch.append(mean_rates(spikes.detach()))
        if self.details:
            self.branch_change = temporal_change(spikes)

    @torch.no_grad()
    def record_block(self, _block: object, args: tuple[Any, ...], out: Tensor) -> None:
        if is_recomputing():
            return
        x = args[0]
        self.hook_gradients(x, out)
        s, o = x.detach(), out.detach()
        self.output.append(mean_rates(o))
        self.has_currents = self.has_currents or not bool(((o >= 0) & (o == o.round())).all())
        self.max_value = max(self.max_value, float(o.max()))
        self.num_values += o.numel()
        if s.shape == o.shape:
            self.distance_sum += float((o - s).abs_().flatten(1).sum(1, dtype=torch.float32).double().sum())
        if self.details:
            self.temporal_change = self.branch_change if self.has_currents else temporal_change(o)
            for value in range(min(MAX_COUNTED_VALUE, int(self.max_value)) + 1):
                self.counts[value] += int((o == value).sum())
            self.counts[-1] += int((o > MAX_COUNTED_VALUE).sum())

    def hook_gradients(self, x: Tensor, out: Tensor) -> None:
        if x.requires_grad:
            x.register_hook(lambda g: setattr(self, "gradient_in", grad_norm(g)))
        if out.requires_grad:
            out.register_hook(lambda g: setattr(self, "gradient_out", grad_norm(g)))

    def activity(self, *, has_projection: bool, labels: Tensor | None = None, classes: int = 0) -> BlockActivity:
        """What was seen so far; `labels` of all samples, in their order."""
        branch, output = self.rates()
        by_class: tuple[list[float], list[float]] = ([], [])
        if labels is not None:
            for of, means in zip((branch, output), by_class, strict=True):
                means += [float(of[:, labels == label].mean()) for label in range(classes)]
        return BlockActivity(
            branch=float(branch.mean()),
            output=float(output.mean()),
            max_value=NAN if self.has_currents else self.max_value,
            distance=None if has_projection else self.distance_sum / self.num_values,
            branch_by_time=branch.mean(1).tolist(),
            output_by_time=output.mean(1).tolist(),
            branch_by_class=by_class[0],
            output_by_class=by_class[1],
            values=[NAN if self.has_currents else count / self.num_values for count in self.counts],
        )

    def rates(self) -> tuple[Tensor, Tensor]:
        """Rates of A and O by time step and sample, [T, N], float64; NaN for what has none."""
        output = torch.cat(self.output, 1).double().cpu()
        unknown = torch.full_like(output, NAN)
        branch = torch.cat(self.branch, 1).double().cpu() if self.branch else unknown
        return branch, unknown if self.has_currents else output


def step_summary(net: Network, recorders: dict[str, BlockRecorder], scale: float = 1.0) -> dict[str, Any]:
    """One training step in numbers, for JSON: by block rates, largest value, distance from the identity, and the norm
    of dL/dS; tau by layer.

    scale:  what the loss was multiplied by
    """
    blocks = {}
    for name, block in net.blocks.items():
        seen = recorders[name].activity(has_projection=block.has_projection)
        gradient = recorders[name].gradient_in / scale
        blocks[name] = {
            "branch": finite_or_none(seen.branch),
            "output": finite_or_none(seen.output),
            "most": finite_or_none(seen.max_value),
            "distance": seen.distance,
            "gradient": finite_or_none(gradient),
        }
    return {"blocks": blocks, "tau": time_constants(net)}


def time_constants(net: Network) -> dict[str, float]:
    """Tau of every layer of neurons that learn it, in time steps."""
    neurons = ((name, module) for name, module in net.named_modules() if isinstance(module, Neuron))
    return {name.removesuffix(".neuron"): tau for name, neuron in neurons if (tau := neuron.time_constant) is not None}


def finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def temporal_change(values: Tensor) -> float:
    """Share of values [T, ...] that are not at every step what they were at the first."""
    return float((values != values[:1]).any(0).float().mean())


def mean_rates(spikes: Tensor) -> Tensor:
    """Means [T, N] of [T, N, C, H, W], in float32: counts below 2^24 are exact."""
    return spikes.flatten(2).mean(2, dtype=torch.float32)


def grad_norm(gradient: Tensor) -> float:
    dtype = torch.promote_types(gradient.dtype, torch.float32)  # float64 networks keep theirs
    return float(torch.linalg.vector_norm(gradient.detach(), dtype=dtype))


@contextmanager
def record_activity(net: Network, *, details: bool = False) -> Iterator[dict[str, BlockRecorder]]:
    """While open, what every block does is noted, by its name. Nothing that the network computes changes.

    details:  note, too, how often each value is there, and which change over time: dearer
    Raises:   ValueError for a network that does not spike
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike, so it has no firing rates")
    recorders = {name: BlockRecorder(details=details) for name in net.blocks}
    with ExitStack() as stack:
        for name, block in net.blocks.items():
            if (last := block.last_neurons) is not None:
                place = last.spikes if isinstance(last, SpikingLayer) else last
                stack.enter_context(hooked(place, recorders[name].record_branch))
            stack.enter_context(hooked(block, recorders[name].record_block))
        yield recorders


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """While open, a forward hook of the module."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def training_mode(net: nn.Module, *, training: bool) -> Iterator[None]:
    """While open, the network is in training mode or not; behind, each of its modules is as it was, frozen norms too."""
    before = [(module, module.training) for module in net.modules()]
    try:
        net.train(training)
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


@torch.no_grad()
def firing_rates(net: Network, batches: Iterable[Tensor | tuple[Tensor, Tensor]]) -> dict[str, BlockActivity]:
    """What each block fires over some batches, in evaluation mode; the network is left as it was.

    Shapes:   batches of images [N, C, H, W] or frames [T, N, C, H, W], all of the same T, alone or with labels [N]
    Returns:  name of the block -> BlockActivity, in the order of depth
    Raises:   ValueError for a network that does not spike, or without a batch
    """
    labels = []
    with training_mode(net, training=False), record_activity(net, details=True) as recorders:
        for batch in batches:
            samples, of_batch = batch if isinstance(batch, tuple) else (batch, None)
            net(samples)
            labels.append(of_batch)
    if not labels:
        raise ValueError("no batch to measure firing rates on; give one or more")
    known = [of_batch.cpu() for of_batch in labels if of_batch is not None]
    all_labels = torch.cat(known) if len(known) == len(labels) else None
    return {
        name: recorders[name].activity(has_projection=block.has_projection, labels=all_labels, classes=net.num_classes)
        for name, block in net.blocks.items()
    }
