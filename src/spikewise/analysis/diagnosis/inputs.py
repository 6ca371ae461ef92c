"""Checks of the samples and the weights, before anything that is computed from them."""

import math

import torch
from torch import Tensor

from ...models.network import Network
from ...models.recorder import time_constants
from ..structure import convolutions
from .finding import Finding

MAX_INPUT_VALUE = 32.0  # of a normalised image
MIN_WEIGHT_SCALE, MAX_WEIGHT_SCALE = 1e-3, 100.0  # root mean square of a filter's weights over He's
TAU_RANGE = (1.05, 50.0)  # time steps: a membrane below remembers nothing, above too much
INPUT_ADVICE = "check how samples are read and normalised"


def check_input(images: Tensor, *, trained: bool) -> Finding | None:
    wrong = int((~torch.isfinite(images)).sum())
    if wrong:
        evidence = f"{wrong:,} of {images.numel():,} values of the batch are NaN or infinite"
        return Finding("input that is no numbers", "network", evidence, INPUT_ADVICE)
    if float(images.max()) == float(images.min()):
        return Finding(
            "input without contrast", "network", f"every value of the batch is {float(images.min()):g}", INPUT_ADVICE
        )
    samples = images if images.dim() == 4 else images.transpose(0, 1)
    if len(samples) > 1 and bool((samples == samples[:1]).all()):
        return Finding("samples all the same", "network", f"{len(samples)} samples of the batch don't differ", INPUT_ADVICE)
    largest = float(images.abs().max())
    if images.dim() == 4 and largest > MAX_INPUT_VALUE and not trained:  # trained: running statistics tell
        advice = "divide by 255 and normalise; batch norm hides the scale until evaluation, where it must be that of training"
        return Finding("input out of scale", "network", f"values up to {largest:.4g}", advice)
    return None


def check_finite(net: Network) -> Finding | None:
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong = int((~torch.isfinite(tensor)).sum())
            evidence = f"{wrong:,} of {tensor.numel():,} values are NaN or infinite"
            advice = "go back to a checkpoint from before, with a smaller learning rate or float32"
            return Finding("weights that are no numbers", name, evidence, advice)
    return None


@torch.no_grad()
def check_weights(net: Network) -> Finding | None:
    """The first convolution with weights that no training makes: out of scale, all alike, or copied."""
    checked: dict[str, Tensor] = {}
    for name, conv in convolutions(net).items():
        weight = conv.weight
        filters = weight.flatten(1).float()
        scale = filters.double().square().mean(1).sqrt() / math.sqrt(2 / filters.shape[1])
        advice = "start this layer anew; batch norm hides the scale of weights, but their gradients go with its inverse"
        if float(scale.median()) < MIN_WEIGHT_SCALE:
            evidence = "all are 0" if not bool(filters.any()) else f"{float(scale.median()):.2g} of the usual size"
            return Finding("weights out of scale", name, evidence, advice)
        if too_large := int((scale > MAX_WEIGHT_SCALE).sum()):
            evidence = f"{too_large} of {len(scale)} filters, up to {float(scale.max()):.3g} times the usual size"
            return Finding("weights out of scale", name, evidence, advice)
        if len(filters) > 2 and bool((filters == filters[:1]).all()):
            advice = "start this layer anew, at random: what is the same gets the same gradient, for ever"
            return Finding("filters all the same", name, f"{len(filters)} filters are one", advice)
        twin = next((other for other in checked if torch.equal(checked[other], weight)), "")
        if twin and filters.numel() > 16:
            advice = "load or start each layer by its own: two of the same are no depth"
            return Finding("weights of another layer", name, f"they are those of {twin}", advice)
        checked[name] = weight
    return None


def check_frozen(net: Network) -> Finding | None:
    parameters = dict(net.named_parameters())
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if not frozen:
        return None
    evidence = f"{len(frozen)} of {len(parameters)} parameters take no gradient, first {frozen[0]}"
    return Finding("frozen weights", frozen[0].rpartition(".")[0], evidence, "set requires_grad, if they are to learn")


def check_time_constants(net: Network) -> Finding | None:
    """The first PLIF layer whose neurons remember nothing, or let nothing in."""
    for name, tau in time_constants(net).items():
        if not TAU_RANGE[0] <= tau <= TAU_RANGE[1]:
            layer = net.get_submodule(name)
            decay_input = getattr(getattr(layer, "neuron", layer), "decay_input", True)
            slow = "hardly lets anything in" if decay_input else "hardly forgets"
            effect = "remembers next to nothing" if tau < TAU_RANGE[0] else slow
            advice = "give w a smaller learning rate (optim.w_lr 0.1), or begin with another tau"
            return Finding("tau has run away", name, f"tau = {tau:.4g} steps: it {effect}", advice)
    return None
