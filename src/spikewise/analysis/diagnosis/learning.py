"""Signs of what learns, and how: gradients, branches, head, settings of a run."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import Config, Optim
from ...models.network import Network
from ...models.recorder import training_mode
from ...models.residual import Block, SEWBlock, SpikingBlock
from ...recipes import RECIPES
from ..initial import BlockAtStart, unchanged
from .activity import DEAD, SILENT, Shown, identity_branch, keeps_identity
from .finding import TRAINED, Finding
from .given import AS_TRAINED, block_of, layers_of, same

FADED, BLOWN = 1e-3, 1e3  # a gradient at the shallowest block over that at the deepest
SMALL, LARGE = 1e-7, 1e4  # a gradient at the deepest block: beyond, the head is at fault
LONG = 1000  # steps after which branches, too, should have left the identity that zero init made, not their norms only
RARE = 5e-3  # rate of a layer that batch norm makes steep
TOO_FAST = {"sgd": 1.0, "adam": 0.02, "adamw": 0.02}  # learning rates for 256 samples
TOO_SLOW = 1e-5  # of those: nothing is learnt
TIMES = 4.0  # how far above it, or its recipe's, a learning rate per sample may be
CHANCE = 1e-4  # probability below which it was none


def gradients(net: Network, blocks: Sequence[BlockAtStart], shown: Shown) -> list[Finding]:
    """A gradient that fades or grows on its way from the last block to the first, and where that begins."""
    last, first = blocks[-1].gradient_out, blocks[0].gradient
    quiet = any(rate < SILENT for rate in shown.output.values())
    if last < SMALL and quiet:
        return []  # said already
    if not SMALL <= last <= LARGE:
        disease = "no gradient" if last < SMALL else "exploding gradient"
        advice = "check the head's weights and the loss" if last < SMALL else "the head's weights are too large"
        return [Finding(disease, "head", f"{last:.2g} at {blocks[-1].name}", advice)]
    ratio = first / last
    if quiet or FADED <= ratio <= BLOWN:
        return []  # norms of what is silent make of gradients what they like
    where = next((block.name for block in reversed(blocks) if not FADED <= block.gradient / last <= BLOWN), blocks[0].name)
    evidence = f"{last:.2g} at {blocks[-1].name}, {first:.2g} at {blocks[0].name}"
    rarest = min(
        (name for name in shown.layers if not keeps_identity_of(net, name)), key=lambda name: shown.layers[name], default=""
    )
    if rarest and shown.layers[rarest] < RARE:
        evidence += f", and {rarest} hardly fires: {shown.layers[rarest]:.2g}"
        advice = "lower v_th, or raise the norm's bias: batch norm has steep slopes where currents hardly vary"
    elif ratio < FADED:
        advice = "use SEW blocks, or a surrogate whose slope is near 1 at 1 - v_th; check for blocks that are nearly silent"
    else:
        advice = "lower alpha until the slope at 1 - v_th is at most 1; clip gradients; use SEW blocks with zero_init"
    return [Finding("vanishing gradient" if ratio < FADED else "exploding gradient", where, evidence, advice)]


def keeps_identity_of(net: Network, layer: str) -> bool:
    block = block_of(net, layer)
    return block is not None and keeps_identity(net.blocks[block], layer, block)


def unreached(net: Network, images: Tensor, labels: Tensor) -> list[Finding]:
    """Layers none of whose weights gets a gradient, where that is not what zero init makes of a block's first layers."""
    layers = dict(layers_of(net))
    with unchanged(net, training=True), torch.enable_grad():
        loss = F.cross_entropy(net(images), labels)
        parameters = [p for layer in layers.values() for p in (layer.norm.weight, layer.norm.bias)]
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    reached = [grad is not None and bool(grad.any()) for grad in found]
    of_layer = {name: any(reached[2 * i : 2 * i + 2]) for i, name in enumerate(layers)}
    waits = {name for name, block in net.blocks.items() if not bool(block.last_layer.norm.weight.any())}
    cut = [
        name
        for name, gets in of_layer.items()
        if not gets and not (block_of(net, name) in waits and layers[name] is not net.blocks[str(block_of(net, name))].last)
    ]
    if not cut:
        return []
    evidence = f"exactly 0 at the norms of {len(cut)} of {len(layers)} layers, the deepest {cut[-1]}"
    advice = "take a surrogate with a slope wherever membranes lie (atan, alpha 2); its width may be too small"
    return [Finding("weights without gradient", block_of(net, cut[-1]) or cut[-1], evidence, advice)]


def never_left(net: Network, shown: Shown, steps: int, *, quiet: bool) -> list[Finding]:
    """Branches that still add nothing after training; of silent networks, and early, only those whose norms have not moved."""
    if steps < TRAINED:
        return []
    late = not quiet and steps >= LONG
    idle = [name for name, block in net.blocks.items() if weightless(block) or (late and adds_nothing(name, block, shown))]
    if not idle:
        return []
    evidence = f"after {steps:,} steps the branches of {len(idle)} of {len(net.blocks)} blocks are constant, first {idle[0]}"
    return [
        Finding("never left the identity", idle[0], evidence, "train longer or faster, without zero_init, or take fewer blocks")
    ]


def weightless(block: Block) -> bool:
    """Whether a branch ends in a norm that lets nothing through; where there is no shortcut, that is silence."""
    return isinstance(block, SEWBlock | SpikingBlock) and not bool((block.last_layer.norm.weight.abs() > DEAD).any())


def adds_nothing(name: str, block: Block, shown: Shown) -> bool:
    if isinstance(block, SpikingBlock):
        return shown.distance.get(name, 1.0) < DEAD
    constant = identity_branch(block)
    return constant is not None and abs(shown.branch[name] - constant) < DEAD


@torch.no_grad()
def one_sided(net: Network, images: Tensor) -> list[Finding]:
    """A head whose bias decides, whatever is shown."""
    bias = net.head.bias
    with training_mode(net, training=False):
        logits = net(images).float()
    if bias is None or len(bias) < 2:
        return []
    apart = float(bias.max() - bias.min())
    shown = logits - bias
    by_input = float((shown.amax(0) - shown.amin(0)).max())  # of a class, over samples
    by_class = float((shown.amax(1) - shown.amin(1)).max())
    if apart > 10 and apart > 10 * max(by_input, by_class):
        evidence = f"its biases lie up to {apart:.3g} apart, what samples add at most {by_class:.3g}"
        return [Finding("one class whatever is shown", "head", evidence, "start the head anew; check the labels' counts")]
    return []


@torch.no_grad()
def other_classes(net: Network, images: Tensor, labels: Tensor) -> list[Finding]:
    """A trained network that is sure of its answers and always wrong: the classes are not those it was trained on."""
    with training_mode(net, training=False):
        sure, answers = net(images).float().softmax(1).max(1)
    if bool((answers == labels).any()):
        return []
    chance = math.exp(sum(math.log1p(-min(float(p), 1 - 1e-7)) for p in sure))
    if chance > CHANCE:
        return []
    evidence = f"none of {len(labels)} answers is right, though they claim {100 * float(sure.mean()):.0f} % on average"
    advice = "check names and order of classes against the training's, and that the head is the checkpoint's"
    return [Finding("classes in another order", "head", evidence, advice)]


def settings(net: Network, config: Config) -> list[Finding]:
    """What a config says, and the network, or common sense, does not."""
    found = []
    for key in ("T", "surrogate", "alpha", "v_th", "connect", "neuron", "tau"):
        ours, theirs = net.spec.get(key), getattr(config.model, key, None)
        if ours is not None and theirs is not None and not same(ours, theirs):
            evidence = f"config {theirs}, checkpoint {ours}"
            found.append(Finding(f"{key} is not the checkpoint's", "network", evidence, f"{AS_TRAINED}, or train it again"))
    return found + learning_rate(config)


def learning_rate(config: Config) -> list[Finding]:
    how, disease = config.optim, "learning rate out of scale"
    rate, most = per_256(how), TOO_FAST[how.optimizer]
    evidence = f"{how.optimizer} at {how.peak_lr:.3g} for batches of {how.batch}"
    recipe = RECIPES[config.recipe]().optim if config.recipe in RECIPES else None
    if recipe is not None and recipe.optimizer == how.optimizer and rate > TIMES * per_256(recipe):
        whose = "published" if "/" in config.recipe else "recipe's"
        advice = (
            f"take about {recipe.peak_lr * how.batch / recipe.batch:.2g}: "
            f"the {whose} {recipe.peak_lr:.3g} for {how.optimizer.upper()} is for {recipe.batch} samples"
        )
        return [Finding(disease, "run", evidence, advice)]
    if how.peak_lr > most or rate > TIMES * most:
        advice = f"take about {most / 10 * min(1.0, how.batch / 256):.2g}: the published 0.1 for SGD is for 256 samples"
        return [Finding(disease, "run", evidence, advice)]
    if rate < TOO_SLOW * most:
        return [Finding(disease, "run", evidence, "so small that nothing is learnt; see the recipes")]
    return []


def per_256(how: Optim) -> float:
    return how.peak_lr * 256 / how.batch
