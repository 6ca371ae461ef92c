"""What layers with neurons have in common, and how what has no memory is called beside them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import NeuronParams
from ..kernels.packing import flatten_time, unflatten_time
from ..kernels.reference import compute_dtype
from ..neurons import Neuron, StateCell, neuron_kind
from .calls import is_watched
from .stream_state import NeuronStates

NeuronFactory = str | Callable[..., Neuron]  # a name in NEURONS, or a class or function that makes a layer's neurons


def framewise(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a stateless module to every frame at once.

    Shapes:  x [T, N, C, H, W] or [T, N, F], which the module sees as [T*N, ...] (no copy); images [N, C, H, W] as they are
    Raises:  ValueError for neurons, which must see time, and for a sequence of no frames
    """
    if isinstance(module, (Neuron, SpikingLayer)):  # no union of types: PyTorch 2.8 does not compile one
        raise ValueError(f"{type(module).__name__} has a state over time: call it with the sequence, not frame by frame")
    if x.dim() != 4 and not len(x):
        raise ValueError(f"given {list(x.shape)}, a sequence of no frames; T must be at least 1")
    return module(x) if x.dim() == 4 else unflatten_time(module(flatten_time(x)), x.shape[0])


class SpikingLayer(nn.Module):
    """What layers with neurons have in common: how these are called, and where a stream keeps their state.

    neuron:     the neurons, a Neuron or what you put in its place
    spikes:     a place for hooks: what the neurons fired
    packing:    whether training may keep outputs for backward as bit planes
    state_key:  the name of these neurons' state in a stream: set when it begins
    """

    neuron: Any
    spikes: nn.Module
    state_key: str
    packing: bool

    def add_neurons(self, neuron: NeuronFactory) -> None:
        self.neuron, self.spikes, self.state_key, self.packing = neuron_kind(neuron)(), nn.Identity(), "", True

    def neuron_params(self) -> NeuronParams | None:
        """What a kernel must know of the neurons; None where they must be called."""
        return self.neuron.fusible_params() if isinstance(self.neuron, Neuron) and not is_watched(self.neuron) else None

    def call_neurons(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """What the neurons, whatever they are, make of the currents x."""
        cell = self.cell_of(states, x.shape[1:], x.dtype)
        if cell is None:
            return self.neuron(x)
        if not isinstance(self.neuron, Neuron) or not self.neuron.is_ours("forward"):
            raise ValueError(
                f"{self.state_key}: {type(self.neuron).__name__} has a forward of its own, without state between frames; "
                "to stream, let it be a spikewise Neuron that says its step"
            )
        return self.neuron(x, cell=cell)

    def cell_of(self, states: NeuronStates | None, shape: torch.Size, dtype: torch.dtype) -> StateCell | None:
        """Where these neurons find their state, of currents of this shape per time step [N, ...]; None without a stream."""
        return None if states is None else states.cell(self.state_key, shape, compute_dtype(dtype))
