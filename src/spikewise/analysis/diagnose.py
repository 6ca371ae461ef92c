"""What is wrong with a network that does not learn: which block is sick, how that shows, and what to change."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import Config
from ..kernels.connect import CONNECT
from ..models.blocks import Block, SEWBlock, branch_of_identity
from ..models.layers import ConvNorm, ConvNormFire
from ..models.network import Network
from ..neurons import PLIF
from .initial import BlockAtStart, measure

SILENT, SATURATED = 1e-3, 0.97  # mean of a block's output; of a branch's neurons
FADED, BLOWN = 1e-3, 1e3  # a gradient at the shallowest block over that at the deepest
STILL = 2e-3  # share of values that change over time
TAU = (1.05, 50.0)  # time steps beyond which a membrane remembers nothing, or too much
APART = 4.0  # deviations that running means may be off; a power of two that variances may be off
TRAINED = 20  # steps after which a branch should have left the identity, and estimates should have settled
TOO_FAST = {"sgd": 1.0, "adam": 0.02, "adamw": 0.02}  # learning rates for 256 samples


class Finding(NamedTuple):
    """One disease.

    where:     block or layer; "network" or "run" where it is no single one's
    evidence:  numbers
    advice:    what to change
    """

    disease: str
    where: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.disease} ({self.evidence}); {self.advice}"


def diagnose(net: Network, images: Tensor, labels: Tensor, config: Config | None = None) -> list[Finding]:
    """Examine a network on one batch; nothing found: it looks healthy. The network is left as it was.

    Rates are those of evaluation if the network was trained, of training if not: untrained estimates say nothing.

    Shapes:  images [N, C, H, W] or frames [T, N, C, H, W]; labels [N]
    config:  of the run, if there is one
    Raises:  ValueError for a network that does not spike
    """
    if not net.spiking:
        raise ValueError("a ReLU network has none of these diseases; give a spiking one")
    found = not_finite(net)
    if found:
        return found  # all else would be nonsense
    steps = steps_trained(net)
    blocks = measure(net, images, labels)
    shown = Shown(net, images, training=steps < TRAINED)
    found += silent(shown) + saturated(net, shown) + time_unused(shown, images)
    found += gradients(blocks, shown)
    found += never_left(net, shown, steps) + time_constants(net)
    if steps >= TRAINED:
        found += estimates(net, images)
    if config is not None:
        found += settings(net, config)
    return found


def steps_trained(net: Network) -> int:
    """Training steps that its norms have seen."""
    counts = [
        int(m.num_batches_tracked) for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m.num_batches_tracked is not None
    ]
    return max(counts, default=0)


class Shown:
    """What the blocks fired when the network was shown a batch: per block, the mean of O[t] and of A[t] at every step."""

    def __init__(self, net: Network, images: Tensor, *, training: bool):
        self.names = list(net.blocks)
        self.output: dict[str, Tensor] = {}
        self.branch: dict[str, Tensor] = {}
        self.moving: dict[str, float] = {}  # share of the values that are not at every step what they were at the first
        buffers, was_training = [buffer.clone() for buffer in net.buffers()], net.training
        hooks = []
        for name, block in net.blocks.items():
            assert isinstance(block.last, ConvNormFire)
            block.last.observe = lambda spikes, name=name: self.note_branch(name, spikes)
            hooks.append(block.register_forward_hook(lambda _b, _g, out, name=name: self.note_output(name, out)))
        try:
            net.train(training)
            with torch.no_grad():
                net(images)
        finally:
            for hook in hooks:
                hook.remove()
            for block in net.blocks.values():
                block.last.observe = None  # type: ignore[assignment]
            with torch.no_grad():
                for buffer, before in zip(net.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            net.train(was_training)

    def note_branch(self, name: str, spikes: Tensor) -> None:
        self.branch[name] = spikes.float().flatten(1).mean(1)

    def note_output(self, name: str, out: Tensor) -> None:
        self.output[name] = out.float().flatten(1).mean(1)
        self.moving[name] = float((out != out[:1]).any(0).float().mean())


def not_finite(net: Network) -> list[Finding]:
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong = int((~torch.isfinite(tensor)).sum())
            return [
                Finding(
                    "weights that are no numbers",
                    name,
                    f"{wrong:,} of {tensor.numel():,} values are NaN or infinite",
                    "go back to a checkpoint from before, with a smaller learning rate or float32",
                )
            ]
    return []


def silent(shown: Shown) -> list[Finding]:
    """The first block whose output does not spike; all behind it follow from it."""
    for name in shown.names:
        rate = float(shown.output[name].mean())
        if rate < SILENT:
            behind = len(shown.names) - shown.names.index(name) - 1
            advice = "lower v_th, or raise the norm's bias there; use ADD or IAND in place of AND; zero_init in a SEW network"
            return [Finding("silent", name, f"output {rate:.2g} spikes per neuron and step, {behind} blocks behind it", advice)]
    return []


def saturated(net: Network, shown: Shown) -> list[Finding]:
    """Branches whose neurons fire nearly always, where that is not what makes the block the identity."""
    found = []
    for name, block in net.blocks.items():
        rate = float(shown.branch[name].mean())
        if rate > SATURATED and identity_branch(block) != 1:
            advice = "raise v_th, lower the norm's bias or weight there, or the learning rate that made them"
            found.append(Finding("saturated", name, f"its neurons fire {100 * rate:.1f} % of the time", advice))
    return found[:1]


def identity_branch(block: Block) -> int | None:
    """The constant branch that makes the block the identity: 0 or 1; None: none does."""
    if not isinstance(block, SEWBlock):
        return None
    try:
        return branch_of_identity(block.connect)
    except ValueError:
        return None


def time_unused(shown: Shown, images: Tensor) -> list[Finding]:
    """A still image of which the first block makes the same at every time step; later ones differ by rounding alone."""
    steps = len(next(iter(shown.output.values())))
    alive = [name for name in shown.names if float(shown.output[name].mean()) >= SILENT]
    if images.dim() == 5 or steps < 2 or not alive or shown.moving[alive[0]] > STILL:
        return []
    evidence = f"{100 * shown.moving[alive[0]]:.2g} % of its values change over {steps} steps"
    advice = "membranes carry nothing over: raise tau, check v_th against the currents, or take T = 1"
    return [Finding("state that never evolves", alive[0], evidence, advice)]


def gradients(blocks: Sequence[BlockAtStart], shown: Shown) -> list[Finding]:
    """A gradient that fades or grows on its way from the last block to the first, and where that begins."""
    last, first = blocks[-1].gradient, blocks[0].gradient
    if not last:
        if any(float(shown.output[name].mean()) < SILENT for name in shown.names):
            return []  # said already
        return [Finding("no gradient", blocks[-1].name, "0 at the last block", "check the loss, the surrogate and alpha")]
    ratio = first / last
    if FADED <= ratio <= BLOWN:
        return []
    where = next((block.name for block in reversed(blocks) if not FADED <= block.gradient / last <= BLOWN), blocks[0].name)
    evidence = f"{last:.2g} at {blocks[-1].name}, {first:.2g} at {blocks[0].name}"
    if ratio < FADED:
        advice = "use SEW blocks, or a surrogate whose slope is near 1 at 1 - v_th; check for blocks that are nearly silent"
        return [Finding("vanishing gradient", where, evidence, advice)]
    advice = "lower alpha until the slope at 1 - v_th is at most 1; clip gradients; use SEW blocks with zero_init"
    return [Finding("exploding gradient", where, evidence, advice)]


def never_left(net: Network, shown: Shown, steps: int) -> list[Finding]:
    """Branches that still add nothing after training."""
    if steps < TRAINED:
        return []
    idle = []
    for name, block in net.blocks.items():
        rate, constant = float(shown.branch[name].mean()), identity_branch(block)
        if constant is not None and abs(rate - constant) < 1e-6:
            idle.append(name)
    if not idle:
        return []
    evidence = f"after {steps:,} steps the branches of {len(idle)} of {len(net.blocks)} blocks are constant, first {idle[0]}"
    return [
        Finding("never left the identity", idle[0], evidence, "train longer or faster, without zero_init, or take fewer blocks")
    ]


def time_constants(net: Network) -> list[Finding]:
    for name, layer in net.named_modules():
        if isinstance(layer, PLIF) and not TAU[0] <= layer.tau <= TAU[1]:
            forgets = layer.tau < TAU[0]
            what = (
                "remembers next to nothing" if forgets else "hardly lets anything in" if layer.decay_input else "hardly forgets"
            )
            advice = "give w a smaller learning rate (optim.w_lr 0.1), or begin with another tau"
            return [
                Finding("tau has run away", name.removesuffix(".neuron"), f"tau = {layer.tau:.4g} steps: it {what}", advice)
            ]
    return []


@torch.no_grad()
def estimates(net: Network, images: Tensor) -> list[Finding]:
    """Running estimates of a norm that are far from what a batch shows."""
    worst: tuple[float, str, str] = (0.0, "", "")
    layers = {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm)}
    for name, layer in layers.items():
        seen: list[Tensor] = []
        hook = layer.conv.register_forward_hook(lambda _m, _g, out, seen=seen: seen.append(out.float()))
        was_training = net.training
        try:
            net.eval()
            net(images)
        finally:
            hook.remove()
            net.train(was_training)
        norm, y = layer.norm, seen[0]
        assert norm.running_mean is not None and norm.running_var is not None
        variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        alive = (variance > 1e-8) & (norm.running_var > 1e-8)
        ratio = (variance / norm.running_var).log2().abs()[alive]
        off = ((mean - norm.running_mean).abs() / (norm.running_var + norm.eps).sqrt())[alive]
        if not int(alive.sum()):
            continue
        score = max(float(ratio.median()), float(off.median()))
        if score > max(APART, worst[0]):
            said = f"variance off by a factor of {2 ** float(ratio.median()):.3g}, mean by {float(off.median()):.3g} deviations"
            worst = (score, name, said)
            break  # the first in depth: those behind see what it made
    if not worst[1]:
        return []
    advice = "the data is scaled unlike in training, or few steps were seen: show it the training data again, in training mode"
    return [Finding("batch statistics gone wrong", worst[1], f"{worst[2]} (medians over channels)", advice)]


def settings(net: Network, config: Config) -> list[Finding]:
    """What a config says, and the network, or common sense, does not."""
    found = []
    for key in ("T", "surrogate", "alpha", "v_th", "connect", "neuron", "tau"):
        ours, theirs = net.spec.get(key), getattr(config.model, key, None)
        if ours is not None and theirs is not None and not same(ours, theirs):
            advice = "use the network as it was trained, or train it again"
            found.append(Finding(f"{key} is not the checkpoint's", "network", f"config {theirs}, checkpoint {ours}", advice))
    how = config.optim
    rate, most = how.peak_lr * 256 / how.batch, TOO_FAST[how.optimizer]
    if how.peak_lr > most or rate > 8 * most:
        evidence = f"{how.optimizer} at {how.peak_lr:.3g} for batches of {how.batch}"
        advice = f"take about {most / 10 * min(1.0, how.batch / 256):.2g}: the published 0.1 for SGD is for 256 samples"
        found.append(Finding("learning rate out of scale", "run", evidence, advice))
    return found


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float | int) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs)
    return str(ours).upper() == str(theirs).upper() or (callable(ours) and CONNECT.get(str(theirs).upper()) is ours)


def random_labels(net: Network, images: Tensor) -> Tensor:
    """Labels for samples that brought none."""
    samples = len(images) if images.dim() == 4 else images.shape[1]
    return torch.arange(samples, device=images.device) % net.num_classes


__all__ = ["Finding", "diagnose", "random_labels"]
