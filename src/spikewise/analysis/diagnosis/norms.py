"""Signs of batch norms whose running estimates are not the data's."""

import torch
from torch import Tensor, nn

from ...models.layers import ConvNorm
from ...models.network import Network
from ...models.recorder import training_mode
from .finding import TRAINED, Finding, batches_seen, never_moved, norms_of
from .given import layers_of

APART = 4.0  # deviations that running means may be off; a power of two that variances may be off: medians over channels
ALONE = 12.0  # the power of two of a single channel
ACTIVE = 1e-3  # mean of what a layer is given, below which its currents say little
WRONG = "batch statistics gone wrong"


def neglected(net: Network, steps: int) -> list[Finding]:
    """The first norm that can't be right whatever it is shown."""
    advice = "train with all norms in training mode and momentum 0.1, or load the file's running estimates, too"
    for name, norm in norms_of(net).items():
        said = ""
        assert norm.running_var is not None
        if bool((norm.running_var < 0).any()):
            said = f"{int((norm.running_var < 0).sum())} of {norm.num_features} running variances are below 0"
        elif norm.momentum == 0:
            said = "momentum 0: its running estimates never move"
        elif net.training and not norm.training:
            said = "in evaluation mode while the network trains"
        elif steps >= TRAINED and never_moved(norm):
            said = f"mean 0 and variance 1 in all channels after {steps:,} steps: they have never moved"
        elif steps >= TRAINED and batches_seen(norm) < steps / 2 and any(map(batches_seen, norms_of(net).values())):
            said = f"it has seen {batches_seen(norm):,} batches, others {steps:,}"
        elif steps == 0 and not never_moved(norm):
            said = "they have moved, though no batch was seen and others have not"
        if said:
            return [Finding(WRONG, name.removesuffix(".norm"), said, advice)]
    return []


@torch.no_grad()
def estimates(net: Network, images: Tensor) -> list[Finding]:
    """The first norm in depth whose running estimates are far from what a batch shows: those behind see what it makes."""
    advice = "the data is scaled unlike in training, or few steps were seen: show it the training data again, in training mode"
    seen: dict[str, tuple[float, Tensor, Tensor]] = {}

    def noting(name: str):
        def note(_conv: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            variance, mean = torch.var_mean(out.double(), (0, 2, 3), correction=0)
            seen[name] = float(given[0].abs().mean(dtype=torch.float32)), variance, mean

        return note

    layers = dict(layers_of(net))
    hooks = [layer.conv.register_forward_hook(noting(name)) for name, layer in layers.items()]
    try:
        with training_mode(net, training=False):
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
    for name, layer in layers.items():
        said = apart(layer, *seen[name])
        if said:
            return [Finding(WRONG, name, said, advice)]
    return []


def apart(layer: ConvNorm, given: float, variance: Tensor, mean: Tensor) -> str:
    """How running estimates are off; "" where they are not."""
    norm = layer.norm
    assert norm.running_mean is not None and norm.running_var is not None
    running = norm.running_var.double() + norm.eps
    ratio = ((variance + norm.eps) / running).log2()
    off = (mean - norm.running_mean).abs() / running.sqrt()
    lit = torch.ones_like(variance, dtype=torch.bool) if given > ACTIVE else (variance > norm.eps)
    if bool(lit.any()):
        of_variance, of_mean = float(ratio.abs()[lit].median()), float(off[lit].median())
        if max(of_variance, of_mean) > APART:
            return f"variance off by a factor of {2**of_variance:.3g}, mean by {of_mean:.3g} deviations (medians over channels)"
    too_wide = running / running.median() > 2**ALONE
    alone = (ratio > ALONE) | ((ratio < -ALONE) & too_wide)
    if bool(alone.any()):
        factor = 2 ** float(ratio.abs()[alone].max())
        return f"variance off by a factor of up to {factor:.3g} in {int(alone.sum())} of {len(alone)} channels"
    return ""
