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
from ..models.probe import time_constants, watched
from ..neurons import Neuron
from .initial import BlockAtStart, measure, unchanged

SILENT, DEAD, SATURATED = 1e-3, 1e-5, 0.97  # mean of a block's output; of a layer's neurons, both
FADED, BLOWN = 1e-3, 1e3  # a gradient at the shallowest block over that at the deepest
SMALL, LARGE = 1e-7, 1e4  # a gradient at the deepest block: beyond, the head is at fault
STILL = 2e-3  # share of values that change over time
TAU = (1.05, 50.0)  # time steps beyond which a membrane remembers nothing, or too much
APART = 4.0  # deviations that running means may be off; a power of two that variances may be off
TRAINED = 20  # steps after which a branch should have left the identity, and estimates should have settled
TOO_FAST = {"sgd": 1.0, "adam": 0.02, "adamw": 0.02}  # learning rates for 256 samples
TOO_SLOW = 1e-5  # of those: nothing is learnt


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
    found = not_finite(net) or without_contrast(images)
    if found:
        return found  # all else would be nonsense
    steps = steps_trained(net)
    shown = Shown(net, images, training=steps < TRAINED)
    found += silent(net, shown) + saturated(net, shown) + time_unused(shown, images)
    found += frozen(net) or gradients(measure(net, images, labels), shown)
    found += never_left(net, shown, steps) + run_away(net)
    if steps >= TRAINED:
        found += estimates(net, images)
    found += other_than_built(net)
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
    """What fired when the network was shown a batch.

    output, branch:  means of a block's O and A, by its name
    layers:          means of the neurons of each layer, by its name, in the order in which they ran
    moving:          share of a block's values that are not at every step what they were at the first
    """

    def __init__(self, net: Network, images: Tensor, *, training: bool):
        fired: dict[str, float] = {}
        last = {id(block.last): name for name, block in net.blocks.items()}
        layers = {name: m for name, m in net.named_modules() if isinstance(m, ConvNormFire)}
        hooks = [layer.register_forward_hook(noting(fired, name)) for name, layer in layers.items()]
        try:
            with torch.no_grad(), unchanged(net, training=training), watched(net, details=True) as watches:
                net(images)
        finally:
            for hook in hooks:
                hook.remove()
        means = {name: (float(watch.branch[0].mean()), float(watch.output[0].mean())) for name, watch in watches.items()}
        self.branch = {name: branch for name, (branch, _) in means.items()}
        self.output = {name: output for name, (_, output) in means.items()}
        self.moving = {name: watch.moving for name, watch in watches.items()}
        self.steps = len(next(iter(watches.values())).output[0])
        # a block's last layer hands on what is connected already
        self.layers = {name: self.branch.get(last.get(id(layers[name]), ""), rate) for name, rate in fired.items()}


def noting(fired: dict[str, float], name: str) -> Any:
    return lambda _layer, _given, out: fired.__setitem__(name, float(out.float().mean()))


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


def without_contrast(images: Tensor) -> list[Finding]:
    if float(images.max()) > float(images.min()):
        return []
    advice = "check how samples are read and normalised"
    return [Finding("input without contrast", "network", f"every value of the batch is {float(images.min()):g}", advice)]


def silent(net: Network, shown: Shown) -> list[Finding]:
    """The first block whose output does not spike, or the first layer none of whose neurons do; all behind follow from it."""
    names = list(shown.output)
    for name, rate in shown.layers.items():
        block = next((of for of in names if name.startswith(f"{of}.")), None)
        if rate < DEAD and not (block and keeps_identity(net.blocks[block], name, block)):
            advice = "lower v_th, raise the norm's bias or weight there, or go back to before the learning rate that made them"
            behind = names[names.index(block) + 1 :] if block else names
            if block and shown.output[block] >= SILENT:
                said = f"{rate:.2g} spikes per neuron and step; {block} passes on what comes along its shortcut"
            else:
                said = f"{rate:.2g} spikes per neuron and step, {len(behind)} blocks behind it"
            return [Finding("silent", name if not block or name != f"{block}.{last_of(net, block)}" else block, said, advice)]
        if block and name == f"{block}.{last_of(net, block)}" and shown.output[block] < SILENT:
            behind = names[names.index(block) + 1 :]
            said = f"output {shown.output[block]:.2g} spikes per neuron and step, {len(behind)} blocks behind it"
            advice = "lower v_th, or raise the norm's bias there; use ADD or IAND in place of AND; zero_init in a SEW network"
            return [Finding("silent", block, said, advice)]
    return []


def last_of(net: Network, block: str) -> str:
    """The name of a block's last layer within the block."""
    return f"conv{len(net.blocks[block].branch)}"


def keeps_identity(block: Block, layer: str, name: str) -> bool:
    """Whether this is the last layer of a block whose silent branch makes it the identity, and zero init left it so."""
    is_last = layer == f"{name}.conv{len(block.branch)}"
    return is_last and identity_branch(block) == 0 and not bool(block.last.norm.weight.any())


def saturated(net: Network, shown: Shown) -> list[Finding]:
    """The first layer whose neurons fire nearly always, where that is not what makes its block the identity."""
    always = {f"{name}.{last_of(net, name)}" for name, block in net.blocks.items() if identity_branch(block) == 1}
    for name, rate in shown.layers.items():
        if rate > SATURATED and name not in always:
            block = next((of for of in net.blocks if name == f"{of}.{last_of(net, of)}"), name)
            advice = "raise v_th, lower the norm's bias or weight there, or the learning rate that made them"
            return [Finding("saturated", block, f"its neurons fire {100 * rate:.1f} % of the time", advice)]
    return []


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
    alive = [name for name, rate in shown.output.items() if rate >= SILENT]
    if images.dim() == 5 or shown.steps < 2 or not alive or shown.moving[alive[0]] > STILL:
        return []
    evidence = f"{100 * shown.moving[alive[0]]:.2g} % of its values change over {shown.steps} steps"
    advice = "membranes carry nothing over: raise tau, check v_th against the currents, or take T = 1"
    return [Finding("state that never evolves", alive[0], evidence, advice)]


def frozen(net: Network) -> list[Finding]:
    still = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    if not still:
        return []
    total = len(list(net.parameters()))
    evidence = f"{len(still)} of {total} parameters take no gradient, first {still[0]}"
    return [Finding("frozen weights", still[0].rpartition(".")[0], evidence, "set requires_grad, if they are to learn")]


def gradients(blocks: Sequence[BlockAtStart], shown: Shown) -> list[Finding]:
    """A gradient that fades or grows on its way from the last block to the first, and where that begins."""
    last, first = blocks[-1].gradient_out, blocks[0].gradient
    if last < SMALL:
        if any(rate < SILENT for rate in shown.output.values()):
            return []  # said already
        return [Finding("no gradient", "head", f"{last:.2g} at {blocks[-1].name}", "check the head's weights and the loss")]
    if last > LARGE:
        return [Finding("exploding gradient", "head", f"{last:.2g} at {blocks[-1].name}", "the head's weights are too large")]
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
        constant = identity_branch(block)
        if constant is not None and abs(shown.branch[name] - constant) < DEAD:
            idle.append(name)
    if not idle:
        return []
    evidence = f"after {steps:,} steps the branches of {len(idle)} of {len(net.blocks)} blocks are constant, first {idle[0]}"
    return [
        Finding("never left the identity", idle[0], evidence, "train longer or faster, without zero_init, or take fewer blocks")
    ]


def run_away(net: Network) -> list[Finding]:
    """The first PLIF layer whose neurons remember nothing, or let nothing in."""
    for name, tau in time_constants(net).items():
        if not TAU[0] <= tau <= TAU[1]:
            decay_input = getattr(net.get_submodule(f"{name}.neuron"), "decay_input", True)
            slow = "hardly lets anything in" if decay_input else "hardly forgets"
            what = "remembers next to nothing" if tau < TAU[0] else slow
            advice = "give w a smaller learning rate (optim.w_lr 0.1), or begin with another tau"
            return [Finding("tau has run away", name, f"tau = {tau:.4g} steps: it {what}", advice)]
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


def other_than_built(net: Network) -> list[Finding]:
    """What was changed in a network since it was built: what a checkpoint says of it is no longer so."""
    spec = net.spec
    said: list[tuple[str, str, Any, Any]] = [("T", "network", net.T, spec.get("T"))]
    lasts = {f"{name}.{last_of(net, name)}.neuron" for name in net.blocks if spec.get("last_surrogate")}
    for name, module in net.named_modules():
        if isinstance(module, Neuron):
            keys = ("alpha", "v_th") if name in lasts else ("surrogate", "alpha", "v_th")
            said += [(key, name, getattr(module, key), spec.get(key)) for key in keys]
    return [
        Finding(f"{key} is not the checkpoint's", where, f"here {now}, checkpoint {then}", "use the network as it was trained")
        for key, where, now, then in said
        if then is not None and not same(then, now)
    ][:1]


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
    elif rate < TOO_SLOW * most:
        evidence = f"{how.optimizer} at {how.peak_lr:.3g} for batches of {how.batch}"
        found.append(Finding("learning rate out of scale", "run", evidence, "so small that nothing is learnt; see the recipes"))
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
