"""Checks of batch norms whose running statistics are not the data's."""

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from ...models.network import Network
from ...models.recorder import training_mode
from ...wording import count
from .finding import Finding
from .progress import MIN_TRAINED_STEPS, batch_norms, batches_seen, is_initial

MAX_MEDIAN_MISMATCH = 4.0  # medians over channels: of means in standard deviations, of variances in powers of two
MAX_CHANNEL_MISMATCH_LOG2 = 12.0  # of a single channel's variance
MIN_LAYER_INPUT = 1e-3  # mean absolute input of a layer; below, its currents tell little
PROBLEM = "batch statistics gone wrong"


def check_norm_updates(net: Network, steps: int) -> Finding | None:
    """The first norm that can't be right whatever the data."""
    norms, trained = batch_norms(net), steps >= MIN_TRAINED_STEPS
    counted = any(map(batches_seen, norms.values()))
    for name, norm in norms.items():
        assert norm.running_var is not None
        negative, seen, initial = int((norm.running_var < 0).sum()), batches_seen(norm), is_initial(norm)
        signs = (
            (negative > 0, f"{negative} of {norm.num_features} running variances are below 0"),
            (norm.momentum == 0, "momentum 0: its running estimates never move"),
            (net.training and not norm.training, "in evaluation mode while the network trains"),
            (trained and initial, f"mean 0 and variance 1 in all channels after {count(steps, 'step')}: they have never moved"),
            (trained and counted and seen < steps / 2, f"it has seen {seen:,} batches, others {steps:,}"),
            (steps == 0 and not initial, "they have moved, though no batch was seen and others have not"),
        )
        if evidence := next((evidence for holds, evidence in signs if holds), ""):
            advice = "train with all norms in training mode and momentum 0.1, or load the file's running estimates, too"
            return Finding(PROBLEM, name.removesuffix(".norm"), evidence, advice)
    return None


@torch.no_grad()
def check_running_stats(net: Network, images: Tensor) -> Finding | None:
    """The first norm whose running statistics are far from this batch's; later ones follow from it."""
    batch_stats: dict[str, tuple[float, Tensor, Tensor]] = {}

    def record(name: str, mean_input: float, y: Tensor) -> None:
        variance, mean = torch.var_mean(y.double(), (0, 2, 3), correction=0)
        batch_stats[name] = mean_input, variance, mean

    def record_conv(name: str, _conv: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        record(name, float(inputs[0].abs().mean(dtype=torch.float32)), out)

    def record_norm(name: str, _norm: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        record(name, 0.0, inputs[0])

    norms, layers = batch_norms(net), net.conv_layers
    with training_mode(net, training=False), ExitStack() as hooks:
        for name, norm in norms.items():
            layer = layers.get(name.removesuffix(".norm"))  # whose norm is no call of its own, where it is fused
            place, hook = (norm, record_norm) if layer is None else (layer.conv, record_conv)
            hooks.enter_context(place.register_forward_hook(partial(hook, name)))
        net(images)
    advice = "the data is scaled unlike in training, or few steps were seen: show it the training data again, in training mode"
    mismatches = ((name, describe_mismatch(norms[name], *seen)) for name, seen in batch_stats.items())
    return next(
        (Finding(PROBLEM, name.removesuffix(".norm"), evidence, advice) for name, evidence in mismatches if evidence), None
    )


def describe_mismatch(norm: nn.BatchNorm2d, mean_input: float, variance: Tensor, mean: Tensor) -> str:
    """How the running statistics differ from a batch's; "" where they agree."""
    assert norm.running_mean is not None and norm.running_var is not None
    running = norm.running_var.double() + norm.eps
    log_ratio = ((variance + norm.eps) / running).log2()
    offset = (mean - norm.running_mean).abs() / running.sqrt()
    active = torch.ones_like(variance, dtype=torch.bool) if mean_input > MIN_LAYER_INPUT else (variance > norm.eps)
    if bool(active.any()):
        by_variance, by_mean = float(log_ratio.abs()[active].median()), float(offset[active].median())
        if max(by_variance, by_mean) > MAX_MEDIAN_MISMATCH:
            return f"variance off by a factor of {2**by_variance:.3g}, mean by {by_mean:.3g} deviations (medians over channels)"
    too_wide = running / running.median() > 2**MAX_CHANNEL_MISMATCH_LOG2
    wrong = (log_ratio > MAX_CHANNEL_MISMATCH_LOG2) | ((log_ratio < -MAX_CHANNEL_MISMATCH_LOG2) & too_wide)
    if bool(wrong.any()):
        factor = 2 ** float(log_ratio.abs()[wrong].max())
        return f"variance off by a factor of up to {factor:.3g} in {int(wrong.sum())} of {len(wrong)} channels"
    return ""
