"""What every block does while a network runs: spikes by time step and sample, distance from the identity, gradients."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..kernels.packing import Spikes, values_of
from ..neurons import PLIF
from .layers import ConvNormFire, runs_again
from .network import Network

VALUES = 16  # integers of ADD that are counted one by one; those above are counted together


class Activity(NamedTuple):
    """What a block fires, per neuron and time step.

    branch, output:          means of A, the branch's last neurons, and of O, the block's output: O is above 1 only where ADD
                             makes integers. Of Spiking and Plain blocks both are the same neurons
    most:                    the largest value of O that was seen
    distance:                mean |O - S|, how far the block is from the identity; None where it changes the shape
    branch_by_time, output_by_time: means at each time step, [T]
    branch_by_class, output_by_class: means of the samples of each class, [classes], NaN of those that were not shown;
                             [] without labels
    values:                  shares of O that are 0, 1, 2, ..., 16, and above
    """

    branch: float
    output: float
    most: float
    distance: float | None
    branch_by_time: list[float]
    output_by_time: list[float]
    branch_by_class: list[float]
    output_by_class: list[float]
    values: list[float]


class Watch:
    """What is noted of one block, batch after batch.

    branch, output:  means by time step and sample, a tensor [T, N] per batch
    moving:          share of the latest batch's values of O that are not at every step what they were at the first
    gradient_in, gradient_out:  norms of dL/dS and dL/dO in the latest backward pass; NaN where there was none
    """

    def __init__(self, *, details: bool):
        self.details = details
        self.branch: list[Tensor] = []
        self.output: list[Tensor] = []
        self.moving = self.gradient_in = self.gradient_out = float("nan")
        self.most, self.apart, self.seen, self.counts = 0.0, 0.0, 0, [0] * (VALUES + 2)

    @torch.no_grad()
    def see_branch(self, spikes: Tensor) -> None:
        if runs_again():
            return
        self.branch.append(rates(spikes.detach()))

    @torch.no_grad()
    def see_block(self, _block: object, given: tuple[Any, ...], output: Tensor | Spikes) -> None:
        if runs_again():
            return
        x, out = values_of(given[0]), values_of(output)
        self.hook_gradients(x, out)
        s, o = x.detach(), out.detach()
        self.output.append(rates(o))
        self.most = max(self.most, float(o.max()))
        self.seen += o.numel()
        if s.shape == o.shape:
            self.apart += float((o - s).abs_().flatten(1).sum(1, dtype=torch.float32).double().sum())
        if self.details:
            self.moving = float((o != o[:1]).any(0).float().mean())
            for value in range(min(VALUES, int(self.most)) + 1):
                self.counts[value] += int((o == value).sum())
            self.counts[-1] += int((o > VALUES).sum())

    def hook_gradients(self, x: Tensor, out: Tensor) -> None:
        if x.requires_grad:
            x.register_hook(lambda g: setattr(self, "gradient_in", norm(g)))
        if out.requires_grad:
            out.register_hook(lambda g: setattr(self, "gradient_out", norm(g)))

    def activity(self, *, changes_shape: bool, labels: Tensor | None = None, classes: int = 0) -> Activity:
        """What was seen so far; `labels` of all samples, in their order."""
        branch, output = (torch.cat(of, 1).double().cpu() for of in (self.branch, self.output))
        by_class: tuple[list[float], list[float]] = ([], [])
        if labels is not None:
            for of, means in zip((branch, output), by_class, strict=True):
                means += [float(of[:, labels == label].mean()) for label in range(classes)]
        return Activity(
            branch=float(branch.mean()),
            output=float(output.mean()),
            most=self.most,
            distance=None if changes_shape else self.apart / self.seen,
            branch_by_time=branch.mean(1).tolist(),
            output_by_time=output.mean(1).tolist(),
            branch_by_class=by_class[0],
            output_by_class=by_class[1],
            values=[count / self.seen for count in self.counts],
        )


def summary(net: Network, watches: dict[str, Watch], scale: float = 1.0) -> dict[str, Any]:
    """One training step in numbers, for JSON: by block rates, largest value, distance from the identity, and the norm of dL/dS;
    tau by layer.

    scale:  what the loss was multiplied by
    """
    blocks = {}
    for name, block in net.blocks.items():
        seen = watches[name].activity(changes_shape=block.changes_shape)
        gradient = watches[name].gradient_in / scale
        blocks[name] = {
            "branch": seen.branch,
            "output": seen.output,
            "most": seen.most,
            "distance": seen.distance,
            "gradient": gradient if math.isfinite(gradient) else None,
        }
    return {"blocks": blocks, "tau": time_constants(net)}


def time_constants(net: Network) -> dict[str, float]:
    """Tau of every layer of PLIF neurons, in time steps."""
    return {name.removesuffix(".neuron"): module.tau for name, module in net.named_modules() if isinstance(module, PLIF)}


def rates(spikes: Tensor) -> Tensor:
    """Means [T, N] of [T, N, C, H, W], in float32: counts below 2^24 are exact."""
    return spikes.flatten(2).mean(2, dtype=torch.float32)


def norm(gradient: Tensor) -> float:
    dtype = torch.promote_types(gradient.dtype, torch.float32)  # float64 networks keep theirs
    return float(torch.linalg.vector_norm(gradient.detach(), dtype=dtype))


@contextmanager
def watched(net: Network, *, details: bool = False) -> Iterator[dict[str, Watch]]:
    """While open, what every block does is noted, by its name. Nothing that the network computes changes.

    details:  note, too, how often each value is there, and which change over time: dearer
    Raises:   ValueError for a network that does not spike
    """
    if not net.spiking:
        raise ValueError("a ReLU network does not spike, so it has no firing rates")
    watches = {name: Watch(details=details) for name in net.blocks}
    with ExitStack() as stack:
        for name, block in net.blocks.items():
            assert isinstance(block.last, ConvNormFire), "spiking blocks end in spiking layers"
            block.last.observe = watches[name].see_branch
            stack.callback(setattr, block.last, "observe", None)
            stack.callback(block.register_forward_hook(watches[name].see_block).remove)
        yield watches


@contextmanager
def in_mode(net: nn.Module, *, training: bool) -> Iterator[None]:
    """While open, the network is in training mode or not; behind, each of its modules is as it was, frozen norms too."""
    before = [(module, module.training) for module in net.modules()]
    try:
        net.train(training)
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


@torch.no_grad()
def firing_rates(net: Network, batches: Iterable[Tensor | tuple[Tensor, Tensor]]) -> dict[str, Activity]:
    """What each block fires over some batches, in evaluation mode; the network is left as it was.

    Shapes:   batches of images [N, C, H, W] or frames [T, N, C, H, W], all of the same T, alone or with labels [N]
    Returns:  name of the block -> Activity, in the order of depth
    Raises:   ValueError for a network that does not spike, or without a batch
    """
    labels = []
    with in_mode(net, training=False), watched(net, details=True) as watches:
        for batch in batches:
            samples, of_batch = batch if isinstance(batch, tuple) else (batch, None)
            net(samples)
            labels.append(of_batch)
    if not labels:
        raise ValueError("no batch to measure firing rates on; give one or more")
    known = [of_batch.cpu() for of_batch in labels if of_batch is not None]
    all_labels = torch.cat(known) if len(known) == len(labels) else None
    return {
        name: watches[name].activity(changes_shape=block.changes_shape, labels=all_labels, classes=net.num_classes)
        for name, block in net.blocks.items()
    }
