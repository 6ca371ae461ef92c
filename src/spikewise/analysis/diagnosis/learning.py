"""Checks of learning: gradients, branches, head."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.network import Network
from ...models.recorder import training_mode
from ...models.residual import Block
from ..block_stats import BlockStats, preserving_state
from ..structure import owning_block
from .activity import MIN_BLOCK_RATE, MIN_LAYER_RATE, ActivityTrace
from .finding import Finding
from .progress import MIN_TRAINED_STEPS, batch_norms, is_identity_layer

MIN_GRADIENT_RATIO, MAX_GRADIENT_RATIO = 1e-3, 1e3  # gradient at the first block over that at the last
MIN_HEAD_GRADIENT, MAX_HEAD_GRADIENT = 1e-7, 1e4  # gradient at the last block: beyond, the head is at fault
MIN_BRANCH_STEPS = 1000  # from there on branches, not only their norms, should have left the identity that zero init made
MIN_STEADY_RATE = 5e-3  # rate of a layer; below, batch norm has steep slopes
MAX_P_VALUE = 1e-4  # of wrong answers being chance


def check_gradients(net: Network, blocks: Sequence[BlockStats], trace: ActivityTrace) -> Finding | None:
    """A gradient that vanishes or explodes from the last block to the first, and where that begins."""
    last, first = blocks[-1].grad_output_norm, blocks[0].grad_input_norm
    silent = any(rate < MIN_BLOCK_RATE for rate in trace.output.values())
    at_last = f"{last:.2g} at {blocks[-1].name}"
    if last < MIN_HEAD_GRADIENT:  # by silence, reported already, or by the head
        return None if silent else Finding("no gradient", "head", at_last, "check the head's weights and the loss")
    if not last <= MAX_HEAD_GRADIENT:
        return Finding("exploding gradient", "head", at_last, "the head's weights are too large")
    ratio = first / last
    if silent or MIN_GRADIENT_RATIO <= ratio <= MAX_GRADIENT_RATIO:
        return None  # gradients through the norms of silent layers tell nothing
    outside = (b for b in reversed(blocks) if not MIN_GRADIENT_RATIO <= b.grad_input_norm / last <= MAX_GRADIENT_RATIO)
    location, evidence = next(outside, blocks[0]).name, f"{at_last}, {first:.2g} at {blocks[0].name}"
    rates = {name: rate for name, rate in trace.layers.items() if not is_identity_layer(net, name)}
    rarest = min(rates, key=rates.__getitem__, default="")
    if rarest and rates[rarest] < MIN_STEADY_RATE:
        evidence += f", and {rarest} hardly fires: {rates[rarest]:.2g}"
        advice = "lower v_th, or raise the norm's bias: batch norm has steep slopes where currents hardly vary"
    elif ratio < MIN_GRADIENT_RATIO:
        advice = "use SEW blocks, or a surrogate whose slope is near 1 at 1 - v_th; check for blocks that are nearly silent"
    else:
        advice = "lower alpha until the slope at 1 - v_th is at most 1; clip gradients; use SEW blocks with zero_init"
    problem = "vanishing gradient" if ratio < MIN_GRADIENT_RATIO else "exploding gradient"
    return Finding(problem, location, evidence, advice)


def check_unreached(net: Network, images: Tensor, labels: Tensor) -> Finding | None:
    """Layers that get no gradient at all, other than the first layers of blocks under zero init."""
    norms = {name.removesuffix(".norm"): norm for name, norm in batch_norms(net).items() if norm.affine}
    with preserving_state(net, training=True), torch.enable_grad():
        loss = F.cross_entropy(net(images), labels)
        parameters = [p for norm in norms.values() for p in (norm.weight, norm.bias)]
        grads = torch.autograd.grad(loss, parameters, allow_unused=True) if parameters else ()
    has_grad = [grad is not None and bool(grad.any()) for grad in grads]
    unreached = [name for i, name in enumerate(norms) if not any(has_grad[2 * i : 2 * i + 2])]
    closed = {owning_block(net, name) for name, norm in norms.items() if not bool(norm.weight.any())} - {None}
    cut = [name for name in unreached if owning_block(net, name) not in closed or not bool(norms[name].weight.any())]
    if not cut:
        return None
    evidence = f"exactly 0 at the norms of {len(cut)} of {len(norms)} layers, the deepest {cut[-1]}"
    advice = "take a surrogate with a slope wherever membranes lie (atan, alpha 2); its width may be too small"
    return Finding("weights without gradient", owning_block(net, cut[-1]) or cut[-1], evidence, advice)


def check_idle_branches(net: Network, trace: ActivityTrace, steps: int, *, silent: bool) -> Finding | None:
    """Branches that still add nothing after training; early, or in silent networks, judged by their norms alone."""
    if steps < MIN_TRAINED_STEPS:
        return None
    check_rates = not silent and steps >= MIN_BRANCH_STEPS
    idle = [
        name
        for name, block in net.blocks.items()
        if has_zero_last_norm(block) or (check_rates and is_constant_branch(name, block, trace))
    ]
    if not idle:
        return None
    evidence = f"after {steps:,} steps the branches of {len(idle)} of {len(net.blocks)} blocks are constant, first {idle[0]}"
    advice = "train longer or faster, without zero_init, or take fewer blocks"
    return Finding("never left the identity", idle[0], evidence, advice)


def has_zero_last_norm(block: Block) -> bool:
    """Whether a branch ends in a norm that lets nothing through; without a shortcut that would be silence."""
    weight = getattr(block.last_norm, "weight", None)
    return bool(block.meets) and weight is not None and not bool((weight.abs() > MIN_LAYER_RATE).any())


def is_constant_branch(name: str, block: Block, trace: ActivityTrace) -> bool:
    if block.meets in ("before", "currents"):
        return trace.distance.get(name, 1.0) < MIN_LAYER_RATE
    constant = block.identity_branch
    return constant is not None and abs(trace.branch[name] - constant) < MIN_LAYER_RATE


@torch.no_grad()
def check_head_bias(net: Network, images: Tensor) -> Finding | None:
    """A head whose bias decides, whatever the sample."""
    bias = getattr(net.head, "bias", None)
    if bias is None or len(bias) < 2:
        return None
    with training_mode(net, training=False):
        scores = net(images).float() - bias
    by_bias = float(bias.max() - bias.min())
    by_sample = float((scores.amax(0) - scores.amin(0)).max())
    by_class = float((scores.amax(1) - scores.amin(1)).max())
    if by_bias <= 10 or by_bias <= 10 * max(by_sample, by_class):
        return None
    evidence = f"its biases lie up to {by_bias:.3g} apart, what samples add at most {by_class:.3g}"
    return Finding("one class whatever is shown", "head", evidence, "start the head anew; check the labels' counts")


@torch.no_grad()
def check_class_order(net: Network, images: Tensor, labels: Tensor) -> Finding | None:
    """A trained network that is confident and always wrong: the classes are not those it was trained on."""
    with training_mode(net, training=False):
        confidence, answers = net(images).float().softmax(1).max(1)
    p_value = math.exp(sum(math.log1p(-min(float(p), 1 - 1e-7)) for p in confidence))  # of no right answer
    if bool((answers == labels).any()) or p_value > MAX_P_VALUE:
        return None
    claimed = 100 * float(confidence.mean())
    evidence = f"none of {len(labels)} answers is right, though they claim {claimed:.0f} % on average"
    advice = "check names and order of classes against the training's, and that the head is the checkpoint's"
    return Finding("classes in another order", "head", evidence, advice)
