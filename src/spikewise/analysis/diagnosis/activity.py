"""Signs of what fires: silence, saturation, dead channels, time that passes unused."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from ...models.layers import ConvNormFire
from ...models.network import Network
from ...models.recorder import record_activity
from ...models.residual import Block, SEWBlock, SpikingBlock, identity_branch_value
from ..initial import unchanged
from .finding import Finding
from .given import block_of, last_of, layers_of

SILENT, DEAD, SATURATED = 1e-3, 1e-5, 0.97  # mean of a block's output; of a layer's neurons, both
AWAKE = 0.02  # mean of a block's output, behind one that is nearly silent
GROWING = 0.25  # weights of a norm that zero init set to 0: one that has learnt but little has not brought its branch to fire
HALF = 0.5  # share of a layer's channels that may be dead, or fire always
REACH = 5.0  # deviations that a normalised current may reach
STILL = 2e-3  # share of values that change over time
MOST = math.sqrt(torch.finfo(torch.float32).max)  # current whose square still is a number


class Shown:
    """What fired when the network was shown a batch.

    output, branch:  means of a block's O and A, by its name
    distance:        mean |O - S| of blocks that keep the shape
    layers:          means of the neurons of each layer, by its name, in the order in which they ran
    channels:        the same, by channel
    moving:          share of a block's values that are not at every step what they were at the first
    overflow:        the first layer whose currents are too large to be normalised, and how large
    """

    def __init__(self, net: Network, images: Tensor, *, training: bool):
        self.channels: dict[str, Tensor] = {}
        self.overflow: tuple[str, float] | None = None
        hooks = [layer.conv.register_forward_hook(partial(self.see_current, name)) for name, layer in layers_of(net)]
        hooks += [
            layer.register_forward_hook(partial(self.see_layer, name))
            for name, layer in layers_of(net)
            if isinstance(layer, ConvNormFire)
        ]
        try:
            with torch.no_grad(), unchanged(net, training=training), record_activity(net, details=True) as watches:
                for name, block in net.blocks.items():  # before they are connected
                    assert isinstance(block.last_layer, ConvNormFire), "spiking blocks end in spiking layers"
                    block.last_layer.observe = partial(self.see_branch, last_of(net, name), block.last_layer.observe)
                net(images)
        finally:
            for hook in hooks:
                hook.remove()
        self.branch = {name: float(watch.branch[0].mean()) for name, watch in watches.items()}
        self.output = {name: float(watch.output[0].mean()) for name, watch in watches.items()}
        self.distance = {
            name: watch.distance_sum / watch.num_values for name, watch in watches.items() if not net.blocks[name].has_projection
        }
        self.moving = {name: watch.temporal_change for name, watch in watches.items()}
        self.steps = len(next(iter(watches.values())).output[0])
        self.layers = {name: float(rates.mean()) for name, rates in self.channels.items()}

    def see_current(self, name: str, _conv: nn.Module, _given: object, out: Tensor) -> None:
        largest = float(out.detach().float().abs().max())
        if self.overflow is None and not largest < MOST:
            self.overflow = name, largest

    def see_branch(self, name: str, noted: object, spikes: Tensor) -> None:
        assert callable(noted), "the probe watches every block"
        noted(spikes)
        self.channels[name] = by_channel(spikes)

    def see_layer(self, name: str, _layer: nn.Module, _given: object, out: Tensor) -> None:
        self.channels.setdefault(name, by_channel(out))


def by_channel(spikes: Tensor) -> Tensor:
    return spikes.detach().float().mean((0, 1, 3, 4))


def overflowing(shown: Shown) -> list[Finding]:
    if shown.overflow is None:
        return []
    name, largest = shown.overflow
    advice = "go back to a checkpoint from before, with a smaller learning rate, or float32 or bfloat16 in place of float16"
    return [Finding("currents that overflow", name, f"up to {largest:.3g}", advice)]


def silent(net: Network, shown: Shown) -> list[Finding]:
    """The first block whose output does not spike, or the first layer none of whose neurons do; all behind follow from it."""
    names = list(shown.output)
    for name, rate in shown.layers.items():
        block = block_of(net, name)
        ends = block is not None and name == last_of(net, block)
        behind = names[names.index(block) + 1 :] if block else names
        if rate < DEAD and not (block and keeps_identity(net.blocks[block], name, block)):
            advice = how_to_wake(net, block if ends else None)
            goes_on = block is not None and shown.output[block] >= SILENT
            way = "branch" if name.endswith(".shortcut") else "shortcut"
            passes = f"; {block} passes on what comes along its {way}"
            said = f"{rate:.2g} spikes per neuron and step" + (passes if goes_on else f", {len(behind)} blocks behind it")
            return [Finding("silent", block if ends and block else name, said, advice)]
        if block and ends and shown.output[block] < SILENT and not wakes(shown, behind):
            said = f"output {shown.output[block]:.2g} spikes per neuron and step, {len(behind)} blocks behind it"
            advice = "lower v_th, or raise the norm's bias there; use ADD or IAND in place of AND; zero_init in a SEW network"
            return [Finding("silent", block, said, advice)]
    return []


def how_to_wake(net: Network, block: str | None) -> str:
    """Advice for a silent layer; of `block`, if it is its last."""
    last = net.blocks[block].last_layer.norm if block and isinstance(net.blocks[block], SpikingBlock) else None
    if last is not None and not bool(last.weight.any()):
        return (
            "leave zero_init out: a spike alone does not bring these neurons to v_th; or take IF and v_th <= 1, or SEW blocks"
        )
    return "lower v_th, raise the norm's bias or weight there, or go back to before the learning rate that made them"


def wakes(shown: Shown, behind: list[str]) -> bool:
    """Whether blocks behind a nearly silent one fire again: IAND thins out spikes until a block changes the shape."""
    return any(shown.output[name] > AWAKE for name in behind)


def dead_channels(net: Network, shown: Shown) -> list[Finding]:
    """The first layer most of whose channels did not fire, and could not: the current is out of reach of the threshold."""
    for name, rates in shown.channels.items():
        layer, block = net.get_submodule(name), block_of(net, name)
        assert isinstance(layer, ConvNormFire)
        if float(rates.mean()) < DEAD or (block and keeps_identity(net.blocks[block], name, block)):
            continue  # the layer is silent, or meant to be
        neuron, norm = layer.neuron, layer.norm
        reached = (norm.bias + REACH * norm.weight.abs()).detach().float() * shown.steps + max(0.0, neuron.v_rest)
        dead = (rates == 0) & (reached.to(rates.device) < neuron.v_th)
        if float(dead.float().mean()) >= HALF:
            said = (
                f"{int(dead.sum())} of {len(dead)} channels have not fired, their norm's bias and weight keep them below v_th"
            )
            advice = "start their norms anew, with bias 0 and weight 1; a smaller learning rate or weight decay"
            return [Finding("dead channels", name, said, advice)]
    return []


def keeps_identity(block: Block, layer: str, name: str) -> bool:
    """Whether this is the last layer of a block whose silent branch makes it the identity, as zero init left it, or nearly."""
    is_last = layer == f"{name}.conv{len(block.branch)}"
    return is_last and identity_branch(block) == 0 and bool((block.last_layer.norm.weight.abs() < GROWING).all())


def saturated(net: Network, shown: Shown) -> list[Finding]:
    """The first layer whose neurons fire nearly always, where that is not what makes its block the identity."""
    always = {last_of(net, name) for name, block in net.blocks.items() if identity_branch(block) == 1}
    for name, rates in shown.channels.items():
        on, rate = rates > SATURATED, float(rates.mean())
        if name not in always and (rate > SATURATED or float(on.float().mean()) >= HALF):
            block = next((of for of in net.blocks if name == last_of(net, of)), name)
            advice = "raise v_th, lower the norm's bias or weight there, or the learning rate that made them"
            evidence = f"its neurons fire {100 * rate:.1f} % of the time, {int(on.sum())} of {len(on)} channels nearly always"
            return [Finding("saturated", block, evidence, advice)]
    return []


def identity_branch(block: Block) -> int | None:
    """The constant branch that makes the block the identity: 0 or 1; None: none does."""
    if not isinstance(block, SEWBlock):
        return None
    try:
        return identity_branch_value(block.connect)
    except ValueError:
        return None


def time_unused(shown: Shown, images: Tensor) -> list[Finding]:
    """A still image of which the first block makes the same at every time step; later ones differ by rounding alone."""
    alive = [name for name, rate in shown.output.items() if rate >= SILENT]
    still = images.dim() == 4 or bool((images == images[:1]).all())
    if not still or shown.steps < 2 or not alive or shown.moving[alive[0]] > STILL:
        return []
    evidence = f"{100 * shown.moving[alive[0]]:.2g} % of its values change over {shown.steps} steps"
    advice = "membranes carry nothing over: raise tau, check v_th against the currents, or take T = 1"
    return [Finding("state that never evolves", alive[0], evidence, advice)]
