"""Input and weights that make all else nonsense, and what was changed in a network since it was built."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...kernels.connect import CONNECT
from ...models.layers import ConvNorm
from ...models.network import Network
from ...models.recorder import time_constants
from ...models.residual import SEWBlock
from ...neurons import Neuron
from .finding import Finding

BRIGHT = 32.0  # largest value of a normalised picture
HEAVY, LIGHT = 100.0, 1e-3  # root mean square of a filter's weights over He's: beyond, no training made them
TAU = (1.05, 50.0)  # time steps beyond which a membrane remembers nothing, or too much
READ = "check how samples are read and normalised"
AS_TRAINED = "use the network as it was trained"


def wrong_input(images: Tensor, *, trained: bool) -> list[Finding]:
    wrong = int((~torch.isfinite(images)).sum())
    if wrong:
        evidence = f"{wrong:,} of {images.numel():,} values of the batch are NaN or infinite"
        return [Finding("input that is no numbers", "network", evidence, READ)]
    if float(images.max()) == float(images.min()):
        return [Finding("input without contrast", "network", f"every value of the batch is {float(images.min()):g}", READ)]
    samples = images if images.dim() == 4 else images.transpose(0, 1)
    if len(samples) > 1 and bool((samples == samples[:1]).all()):
        return [Finding("samples all the same", "network", f"{len(samples)} samples of the batch don't differ", READ)]
    largest = float(images.abs().max())
    if images.dim() == 4 and largest > BRIGHT and not trained:  # of trained networks, the estimates tell
        advice = "divide by 255 and normalise; batch norm hides the scale until evaluation, where it must be that of training"
        return [Finding("input out of scale", "network", f"values up to {largest:.4g}", advice)]
    return []


def not_finite(net: Network) -> list[Finding]:
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong = int((~torch.isfinite(tensor)).sum())
            evidence = f"{wrong:,} of {tensor.numel():,} values are NaN or infinite"
            advice = "go back to a checkpoint from before, with a smaller learning rate or float32"
            return [Finding("weights that are no numbers", name, evidence, advice)]
    return []


@torch.no_grad()
def odd_weights(net: Network) -> list[Finding]:
    """The first convolution whose weights no start and no training made: out of scale, all alike, or another layer's."""
    seen: list[tuple[str, Tensor]] = []
    for name, layer in layers_of(net):
        filters = layer.conv.weight.detach().flatten(1).float()
        size = filters.double().square().mean(1).sqrt() / math.sqrt(2 / filters.shape[1])
        advice = "start this layer anew; batch norm hides the scale of weights, but their gradients go with its inverse"
        if float(size.median()) < LIGHT:
            said = "all are 0" if not bool(filters.any()) else f"{float(size.median()):.2g} of the usual size"
            return [Finding("weights out of scale", name, said, advice)]
        if float(size.max()) > HEAVY:
            said = f"{int((size > HEAVY).sum())} of {len(size)} filters, up to {float(size.max()):.3g} times the usual size"
            return [Finding("weights out of scale", name, said, advice)]
        if len(filters) > 2 and bool((filters == filters[:1]).all()):
            advice = "start this layer anew, at random: what is the same gets the same gradient, for ever"
            return [Finding("filters all the same", name, f"{len(filters)} filters are one", advice)]
        twin = next(
            (of for of, other in seen if other.shape == layer.conv.weight.shape and torch.equal(other, layer.conv.weight)), ""
        )
        if twin and filters.numel() > 16:
            advice = "load or start each layer by its own: two of the same are no depth"
            return [Finding("weights of another layer", name, f"they are those of {twin}", advice)]
        seen.append((name, layer.conv.weight))
    return []


def layers_of(net: Network) -> Iterator[tuple[str, ConvNorm]]:
    return ((name, module) for name, module in net.named_modules() if isinstance(module, ConvNorm))


def frozen(net: Network) -> list[Finding]:
    advice = "set requires_grad, if they are to learn"
    still = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    if still:
        evidence = f"{len(still)} of {len(list(net.parameters()))} parameters take no gradient, first {still[0]}"
        return [Finding("frozen weights", still[0].rpartition(".")[0], evidence, advice)]
    return []


def run_away(net: Network) -> list[Finding]:
    """The first PLIF layer whose neurons remember nothing, or let nothing in."""
    for name, tau in time_constants(net).items():
        if not TAU[0] <= tau <= TAU[1]:
            decay_input = getattr(net.get_submodule(f"{name}.neuron"), "decay_input", True)
            slow = "hardly lets anything in" if decay_input else "hardly forgets"
            what = "remembers next to nothing" if tau < TAU[0] else slow
            advice = "give w a smaller learning rate (optim.plif_lr_multiplier 0.1), or begin with another tau"
            return [Finding("tau has run away", name, f"tau = {tau:.4g} steps: it {what}", advice)]
    return []


def other_than_built(net: Network) -> list[Finding]:
    """What was changed in a network since it was built: what a checkpoint says of it is no longer so."""
    spec, missing = net.spec, object()
    said: list[tuple[str, str, Any, Any]] = [("T", "network", net.T, spec.get("T"))]
    lasts = {f"{name}.conv{len(block.branch)}.neuron" for name, block in net.blocks.items() if spec.get("last_surrogate")}
    for name, module in net.named_modules():
        if isinstance(module, Neuron):
            keys = ("surrogate", "alpha", "v_th", "v_reset", "detach_reset")
            said += [
                (key, name, getattr(module, key), spec.get(key, missing))
                for key in keys
                if name not in lasts or key != "surrogate"
            ]
        if isinstance(module, SEWBlock) and isinstance(spec.get("connect"), str):
            said.append(("connect", name, word_of(module), spec["connect"]))
    return [
        Finding(f"{key} is not the checkpoint's", where, f"here {now}, checkpoint {then}", AS_TRAINED)
        for key, where, now, then in said
        if then is not missing and (then is not None or key == "v_reset") and not same(then, now)
    ][:1]


def word_of(block: SEWBlock) -> str:
    return next((word for word, function in CONNECT.items() if function is block.connect), "a function")


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float | int) and isinstance(theirs, float | int):
        return math.isclose(ours, theirs)
    return str(ours).upper() == str(theirs).upper() or (callable(ours) and CONNECT.get(str(theirs).upper()) is ours)


def last_of(net: Network, block: str) -> str:
    """The name of a block's last layer."""
    return f"{block}.conv{len(net.blocks[block].branch)}"


def block_of(net: Network, layer: str) -> str | None:
    return next((block for block in net.blocks if layer.startswith(f"{block}.")), None)
