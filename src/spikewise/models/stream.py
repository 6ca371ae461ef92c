"""What a network remembers between two frames, held by the caller."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..neurons import StateCell


@dataclass(frozen=True)
class StreamState:
    """A network between two frames: nothing of it lives in the network.

    membranes:    name of a layer -> state of its neurons: the membrane [N, C, H, W], float32 or float64; of a neuron with a
                  state of its own, that state
    feature_sum:  sum of the features of all frames so far [N, F]
    num_steps:    frames seen
    """

    membranes: dict[str, Any]
    feature_sum: Tensor
    num_steps: int

    def to(self, device: torch.device | str) -> "StreamState":
        """The same state on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def detach(self) -> "StreamState":
        """The same state without its history: cuts backpropagation through time here."""
        return self.map(torch.Tensor.detach)

    def map(self, function: Callable[[Tensor], Tensor]) -> "StreamState":
        """The same state with a function applied to each of its tensors."""
        apply = lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf  # noqa: E731
        return StreamState(tree_map(apply, self.membranes), function(self.feature_sum), self.num_steps)


class NeuronStates:
    """Hands each layer the state of its neurons after the last frame, and collects those after this one."""

    def __init__(self, previous: dict[str, Any] | None):
        self.previous = previous
        self.cells: dict[str, StateCell] = {}

    def cell(self, layer: str, shape: torch.Size, dtype: torch.dtype) -> StateCell:
        """The state that `layer` left behind, to be replaced; empty at the first frame.

        Raises:  ValueError for a state of another network, or of frames of another size or dtype
        """
        state = None
        if self.previous is not None:
            if layer not in self.previous:
                raise ValueError(f"the state has no membrane for {layer!r}: it comes from another network")
            state = self.previous[layer]
        for v in tree_leaves(state):
            if not isinstance(v, Tensor):
                continue
            if isinstance(state, Tensor):  # a membrane
                fits = v.shape == shape and v.dtype == dtype
            else:  # of a neuron with states of its own: of every pixel, or of something else
                fits = v.dim() != len(shape) or v.shape[2:] == shape[2:] or v.shape[2:].numel() == 1
            if not fits:
                raise ValueError(
                    f"the state's membrane of {layer!r} is {list(v.shape)} {v.dtype}, this frame needs {list(shape)} {dtype}: "
                    "it comes from frames of another size or dtype"
                )
        if layer in self.cells:
            raise ValueError(f"{layer} runs twice in a frame, and has one state: give each use a layer of its own to stream")
        self.cells[layer] = StateCell(state)
        return self.cells[layer]

    def collected(self) -> dict[str, Any]:
        return {name: cell.state for name, cell in self.cells.items()}
