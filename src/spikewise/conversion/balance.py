"""Thresholds balanced on samples: what a spike of each layer is to stand for (E18)."""

import math
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..models.network import Network, require_positive
from ..models.recorder import hooked, training_mode
from ..wording import unknown_name
from .twin import relu_layers, require_convertible, with_thresholds

SPIKE_NORM_STEPS = 64


class Method(NamedTuple):
    """A way to balance thresholds.

    on_spikes:   whether they are those of the spiking network's own currents, layer by layer; else of the activations
    percentile:  of the values that a threshold shall not be below, if the caller does not say another one
    """

    about: str
    on_spikes: bool
    percentile: float


METHODS: dict[str, Method] = {
    "max": Method("each layer's largest activation (Diehl et al. 2015)", on_spikes=False, percentile=100.0),
    "percentile": Method("a percentile of each layer's activations (Rueckauer et al. 2017)", on_spikes=False, percentile=99.9),
    "spike-norm": Method(
        "layer by layer, the largest current of the spiking network itself (Sengupta et al. 2019)",
        on_spikes=True,
        percentile=100.0,
    ),
}


def balance_thresholds(
    net: Network,
    samples: Tensor,
    method: str = "percentile",
    *,
    percentile: float | None = None,
    steps: int | None = None,
    soft_reset: bool = True,
) -> dict[str, float]:
    """A threshold for each ReLU layer, by its name, in the units of its activations.

    Shapes:      samples [N, C, H, W], as in training, without augmentation; all are computed at once
    method:      of METHODS
    percentile:  of the values of a layer over all samples (and steps), above 0, at most 100, by nearest rank; None: as METHODS
                 has it. "max" has none
    steps:       "spike-norm": time steps for which the spiking network is run; None: 64
    soft_reset:  "spike-norm": the reset of its neurons, as in `with_thresholds`
    Raises:      ValueError for a value outside its range, an option that the method does not have, what cannot be converted,
                 and a layer that these samples leave silent
    """
    if method not in METHODS:
        raise ValueError(unknown_name("method", method, METHODS))
    entry = METHODS[method]
    if percentile is not None and method == "max":
        raise ValueError(f"percentile={percentile!r} is for 'percentile' and 'spike-norm'; 'max' has none: leave it out")
    if steps is not None and not entry.on_spikes:
        raise ValueError(f"steps={steps!r} is for 'spike-norm'; {method!r} runs no spiking network: leave it out")
    share = entry.percentile if percentile is None else percentile
    if not 0 < share <= 100:
        raise ValueError(f"percentile={share!r} is out of range; use a number above 0, at most 100")
    require_convertible(net)
    net.check_input(samples, dims=(4,))
    if entry.on_spikes:
        steps = SPIKE_NORM_STEPS if steps is None else steps
        require_positive(steps=steps)
        return spike_norm(net, samples, share, steps, soft_reset)
    return activation_thresholds(net, samples, share)


@torch.no_grad()
def activation_thresholds(net: Network, samples: Tensor, percentile: float) -> dict[str, float]:
    """The percentile of each layer's activations."""
    found: dict[str, float] = {}

    def record(name: str, _layer: nn.Module, _inputs: object, out: Tensor) -> None:
        found[name] = upper_value(name, out, percentile)

    with training_mode(net, training=False), ExitStack() as hooks:
        for name in relu_layers(net):
            hooks.enter_context(hooked(net.get_submodule(name), partial(record, name)))
        net(samples)
    return found


@torch.no_grad()
def spike_norm(net: Network, samples: Tensor, percentile: float, steps: int, soft_reset: bool) -> dict[str, float]:
    """Thresholds of the spiking network's own currents: those of a layer are known before it fires, so that the layers behind
    it see the spikes of balanced neurons. One pass sees to all.
    """
    names, found = relu_layers(net), {}
    twin = with_thresholds(net, dict.fromkeys(names, 1.0), T=steps, soft_reset=soft_reset)  # in the units of the activations

    def balance(name: str, _neuron: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        found[name] = upper_value(name, inputs[0], percentile)
        return (inputs[0] / found[name],)

    def stand_for(name: str, _spikes: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        return out * found[name]

    for name in names:
        layer: Any = twin.get_submodule(name)
        layer.neuron.register_forward_pre_hook(partial(balance, name))
        layer.spikes.register_forward_hook(partial(stand_for, name))
    twin(samples)
    return found


def upper_value(name: str, values: Tensor, percentile: float) -> float:
    """The value that `percentile` per cent of the values do not pass, by nearest rank.

    Raises:  ValueError where it is not above 0, or not finite
    """
    rank = max(1, math.ceil(values.numel() * percentile / 100))
    value = float(values.max() if rank == values.numel() else values.flatten().kthvalue(rank).values)
    if not (value > 0 and math.isfinite(value)):
        at = "largest value" if percentile == 100 else f"{percentile:g}th percentile"
        raise ValueError(
            f"{name}: the {at} of these samples is {value:g}, which is no threshold; "
            "give a trained network, more samples, or a higher percentile"
        )
    return value
