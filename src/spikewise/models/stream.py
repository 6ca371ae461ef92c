"""A sequence frame by frame, through any module that is made of our layers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..neurons import Neuron
from .calls import takes_states
from .spiking_layer import SpikingLayer
from .stream_state import NeuronStates


def stream(module: nn.Module, frames: Tensor, states: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """See the next frames of a sequence through any module that is made of our layers.

    Piece by piece, the outputs are those of `module(all frames)`, which starts from rest.

    module:   called as module(frames, states=...), and hands `states` on to each spiking layer; a `Network` has `step`, too
    Shapes:   frames [T, N, ...], any T of 1 or more
    states:   what the last call returned, a dict of layers' names and their neurons' states; None at the first. It is not
              changed, and has gradients where these are on (`map_states(torch.Tensor.detach, states)` ends them)
    Returns:  what the module gives, and the states behind it
    Raises:   RuntimeError where batch norm in training would see these frames instead of the sequence; ValueError for states of
              another module, or of frames of another size, and for a layer that was not given `states`
    """
    inner = getattr(module, "_orig_mod", module)  # of torch.compile
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if any(norm.training for norm in norms):
        raise RuntimeError("streams run with batch norm in evaluation mode; call .eval() first")
    if states is not None and not isinstance(states, dict):
        raise ValueError(f"given states of type {type(states).__name__}; pass what the last call returned, or None at first")
    if not takes_states(type(inner).forward):
        advice = "use net.step" if hasattr(inner, "step") else "take states=None, and hand it on (SpikingSequential does)"
        raise ValueError(f"{type(inner).__name__}.forward takes no `states`, which a stream gives to spiking layers: {advice}")
    return run_streamed(inner, lambda given: module(frames, states=given), states)


def run_streamed(
    module: nn.Module, forward: Callable[[NeuronStates], Any], previous: dict[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """What `forward(states)` gives, run with the states that the last frames left, and those of all neurons behind it."""
    assign_state_keys(module)  # for every frame anew, as layers may be the user's
    states = NeuronStates(previous)
    out, collected = forward(states), states.collected()
    if previous is not None and set(previous) != set(collected):
        raise ValueError("the state has membranes this network does not have: it comes from another network")
    forgotten, all_neurons = sorted(set(spiking_layers(module)) - set(collected)), neurons(module)
    if len(all_neurons) > len(collected):  # neurons that a user's block calls by itself name their state as they like
        forgotten += sorted(set(all_neurons) - set(collected))
    if forgotten:
        raise ValueError(
            f"{forgotten[0] or type(module).__name__} was not given the stream's `states`: blocks and hooks must hand them on "
            "(models/layers.py: Fire holds neurons that stream)"
        )
    return out, collected


def assign_state_keys(module: nn.Module) -> None:
    for name, layer in spiking_layers(module).items():
        layer.state_key = name


def spiking_layers(module: nn.Module) -> dict[str, Any]:
    """The spiking layers of a module by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, SpikingLayer)}


def neurons(module: nn.Module) -> dict[str, nn.Module]:
    """What gives spikes in a module, as `Network.neurons`."""
    layers, found = spiking_layers(module), {}
    for name, part in module.named_modules():
        if isinstance(part, SpikingLayer):
            found[name] = part.spikes
        elif isinstance(part, Neuron) and name.removesuffix("neuron").removesuffix(".") not in layers:
            found[name] = part
    return found
