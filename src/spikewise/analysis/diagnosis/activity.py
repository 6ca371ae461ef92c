"""Checks of firing: silence, saturation, dead channels, output that does not change over time."""

import math
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from ...models.network import Network
from ...models.recorder import record_activity
from ...neurons import Neuron
from ...wording import count
from ..block_stats import preserving_state
from ..structure import convolutions, last_neurons_name, owning_block
from .finding import Finding
from .progress import is_identity_layer

MIN_BLOCK_RATE = 1e-3  # mean of a block's output
MIN_LAYER_RATE, MAX_LAYER_RATE = 1e-5, 0.97  # mean of a layer's neurons
MIN_REVIVED_RATE = 0.02  # mean of a block's output, after one that is nearly silent
MAX_BAD_CHANNEL_FRACTION = 0.5  # of a layer's channels: from there on dead or saturated ones are a problem
MAX_NORMALIZED_CURRENT = 5.0  # standard deviations that a normalised current may reach
MIN_TEMPORAL_CHANGE = 2e-3  # fraction of values that change over time
MAX_CURRENT = math.sqrt(torch.finfo(torch.float32).max)  # its square is still a number


class ActivityTrace:
    """What fired when the network was shown a batch.

    output, branch:  means of a block's O and A, by block; NaN for an O that is a current, and an A that is not known
    firing:          the block's output, or A where that is a current
    distance:        mean |O - S| of blocks that keep the shape
    layers:          means of a layer's neurons, by layer, in the order in which they ran
    channels:        the same, by channel
    moving:          fraction of a block's values (`firing`) that differ at some step from the first one
    steps:           time steps
    overflow:        the first layer whose currents are too large to be normalised, and how large
    """

    def __init__(self, net: Network, images: Tensor, *, training: bool):
        self.channels: dict[str, Tensor] = {}
        self.overflow: tuple[str, float] | None = None
        with (
            torch.no_grad(),
            preserving_state(net, training=training),
            record_activity(net, details=True) as watches,
            ExitStack() as hooks,
        ):
            for name, conv in convolutions(net).items():
                hooks.enter_context(conv.register_forward_hook(partial(self.record_current, name)))
            for name, module in net.neurons.items():
                hooks.enter_context(module.register_forward_hook(partial(self.record_layer, name)))
            net(images)
        rates = {name: [float(of.mean()) for of in watch.rates()] for name, watch in watches.items()}
        self.branch = {name: branch for name, (branch, _) in rates.items()}
        self.output = {name: output for name, (_, output) in rates.items()}
        self.firing = {name: self.branch[name] if watch.has_currents else self.output[name] for name, watch in watches.items()}
        self.distance = {
            name: watch.distance_sum / watch.num_values
            for name, watch in watches.items()
            if not net.blocks[name].has_projection
        }
        self.moving = {name: watch.temporal_change for name, watch in watches.items()}
        self.steps = len(next(iter(watches.values())).output[0])
        self.layers = {name: float(rates.mean()) for name, rates in self.channels.items()}

    def record_current(self, name: str, _conv: nn.Module, _inputs: object, current: Tensor) -> None:
        largest = float(current.detach().float().abs().max())
        if self.overflow is None and not largest < MAX_CURRENT:
            self.overflow = name, largest

    def record_layer(self, name: str, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        self.channels.setdefault(name, channel_rates(output))


def channel_rates(spikes: Tensor) -> Tensor:
    return spikes.detach().float().transpose(0, 2).flatten(1).mean(1)


def check_overflow(trace: ActivityTrace) -> Finding | None:
    if trace.overflow is None:
        return None
    name, largest = trace.overflow
    advice = "go back to a checkpoint from before, with a smaller learning rate, or float32 or bfloat16 in place of float16"
    return Finding("currents that overflow", name, f"up to {largest:.3g}", advice)


def check_silent(net: Network, trace: ActivityTrace) -> Finding | None:
    """The first silent layer, or block with nearly silent output; all later silence follows from it."""
    for name, rate in trace.layers.items():
        block, later = owning_block(net, name), blocks_behind(net, trace, name)
        is_last = block is not None and name == last_neurons_name(net, block)
        if rate < MIN_LAYER_RATE and not is_identity_layer(net, name):
            follows = f", {count(len(later), 'block')} behind it"
            if block is not None and not trace.output[block] < MIN_BLOCK_RATE:
                path = "branch" if name.endswith(".shortcut") else "shortcut"
                follows = f"; {block} passes on what comes along its {path}"
            location = block if block and is_last else name
            evidence = f"{rate:.2g} spikes per neuron and step{follows}"
            return Finding("silent", location, evidence, silent_advice(net, block if is_last else None))
        if block and is_last and trace.output[block] < MIN_BLOCK_RATE and not fires_again(trace, later):
            evidence = f"output {trace.output[block]:.2g} spikes per neuron and step, {count(len(later), 'block')} behind it"
            advice = "lower v_th, or raise the norm's bias there; use ADD or IAND in place of AND; zero_init in a SEW network"
            return Finding("silent", block, evidence, advice)
    return None


def blocks_behind(net: Network, trace: ActivityTrace, layer: str) -> list[str]:
    """The blocks all of whose neurons ran after those of this layer."""
    order = list(trace.layers)
    first = {block: next((i for i, name in enumerate(order) if name.startswith(f"{block}.")), -1) for block in net.blocks}
    return [block for block, position in first.items() if position > order.index(layer) and not layer.startswith(f"{block}.")]


def silent_advice(net: Network, block: str | None) -> str:
    """For a silent layer; `block`: the block whose last layer it is."""
    owner = net.blocks[block] if block else None
    if owner and owner.meets == "before" and not bool(getattr(owner.last_norm, "weight", torch.ones(1)).any()):
        return (
            "leave zero_init out: a spike alone does not bring these neurons to v_th; or take IF and v_th <= 1, or SEW blocks"
        )
    return "lower v_th, raise the norm's bias or weight there, or go back to before the learning rate that made them"


def fires_again(trace: ActivityTrace, later: list[str]) -> bool:
    """Whether later blocks fire again: IAND thins out spikes until a block changes the shape."""
    return any(trace.output[name] > MIN_REVIVED_RATE for name in later)


def check_dead_channels(net: Network, trace: ActivityTrace) -> Finding | None:
    """The first layer most of whose channels did not fire, and could not: too little current for v_th."""
    layers = net.spiking_layers
    for name, rates in trace.channels.items():
        neuron, norm = (getattr(layers.get(name), part, None) for part in ("neuron", "norm"))
        if not isinstance(neuron, Neuron) or not isinstance(norm, nn.BatchNorm2d) or not norm.affine:
            continue  # what their currents can reach, no norm tells
        if float(rates.mean()) < MIN_LAYER_RATE or is_identity_layer(net, name):
            continue  # the layer is silent, or meant to be
        max_current = (norm.bias + MAX_NORMALIZED_CURRENT * norm.weight.abs()).detach().float()
        max_membrane = max_current * trace.steps + max(0.0, neuron.v_rest)
        dead = (rates == 0) & (max_membrane.to(rates.device) < neuron.v_th)
        if float(dead.float().mean()) >= MAX_BAD_CHANNEL_FRACTION:
            evidence = (
                f"{int(dead.sum())} of {len(dead)} channels have not fired, their norm's bias and weight keep them below v_th"
            )
            advice = "start their norms anew, with bias 0 and weight 1; a smaller learning rate or weight decay"
            return Finding("dead channels", name, evidence, advice)
    return None


def check_saturated(net: Network, trace: ActivityTrace) -> Finding | None:
    """The first layer whose neurons fire nearly always, where that is not what makes its block the identity."""
    block_by_last = {last_neurons_name(net, name): name for name in net.blocks}
    for name, rates in trace.channels.items():
        block, saturated, rate = block_by_last.get(name), rates > MAX_LAYER_RATE, float(rates.mean())
        if block is not None and net.blocks[block].identity_branch == 1:
            continue
        if rate > MAX_LAYER_RATE or float(saturated.float().mean()) >= MAX_BAD_CHANNEL_FRACTION:
            advice = "raise v_th, lower the norm's bias or weight there, or the learning rate that made them"
            channels = f"{int(saturated.sum())} of {len(saturated)} channels nearly always"
            evidence = f"its neurons fire {100 * rate:.1f} % of the time, {channels}"
            return Finding("saturated", block or name, evidence, advice)
    return None


def check_static_output(trace: ActivityTrace, images: Tensor) -> Finding | None:
    """A first block that fires the same at every step of a still image; later ones differ by rounding."""
    alive = [name for name, rate in trace.firing.items() if rate >= MIN_BLOCK_RATE]
    still = images.dim() == 4 or bool((images == images[:1]).all())
    if not still or trace.steps < 2 or not alive or trace.moving[alive[0]] > MIN_TEMPORAL_CHANGE:
        return None
    evidence = f"{100 * trace.moving[alive[0]]:.2g} % of its values change over {count(trace.steps, 'step')}"
    advice = "membranes carry nothing over: raise tau, check v_th against the currents, or take T = 1"
    return Finding("state that never evolves", alive[0], evidence, advice)
