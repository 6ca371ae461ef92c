"""What a network remembers between two frames, held by the caller."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..neurons import StateCell

Memory = str | int | float


def require_memory(memory: Memory) -> None:
    """Refuse what says not which frames count."""
    fits = memory == "all" or (isinstance(memory, int) and not isinstance(memory, bool) and memory >= 1)
    if not fits and not (isinstance(memory, float) and 0 < memory < 1):
        raise ValueError(
            f"memory={memory!r} is unknown; use 'all', a number of frames of 1 or more (int), or a decay per frame, "
            "above 0 and below 1 (float)"
        )


@dataclass(frozen=True)
class StreamState:
    """A network between two frames: nothing of it lives in the network.

    membranes:    name of a layer -> state of its neurons: the membrane [N, C, H, W], float32 or float64; of a neuron with a
                  state of its own, that state
    feature_sum:  sum of the features of the frames that count [N, F], float32 or float64: half precision would stop
                  growing after a few hundred frames; under a decay, each times decay^(its age)
    num_steps:    frames that count, or the sum of their weights; where streams of the batch began anew, one number for each [N]
    memory:       which frames the logits average: "all", an int for the latest of that number, or a decay of 0 to 1 per frame
    recent:       with a window, the features of its frames [N, F], the oldest first
    not_finite:   which streams have seen a frame that is not finite [N]: their membranes, and so their logits, mean nothing
    `torch.save` writes a state, and `torch.load` reads it with its default settings, where spikewise is imported.
    """

    membranes: dict[str, Any]
    feature_sum: Tensor
    num_steps: int | float | Tensor
    memory: Memory = "all"
    recent: tuple[Tensor, ...] = ()
    not_finite: Tensor | None = None

    @classmethod
    def begin(cls, features: Tensor, membranes: dict[str, Any], memory: Memory) -> "StreamState":
        """The state after the first frame, of these features [N, F], NaN where the frame is not finite."""
        features = at_least_float32(features)
        recent = (features,) if type(memory) is int else ()
        return cls(membranes, features, 1, memory, recent, features.isnan().any(1))

    def remember(self, features: Tensor, membranes: dict[str, Any]) -> "StreamState":
        """The state after one more frame, of these features, likewise."""
        features = at_least_float32(features)
        seen = features.isnan().any(1)
        return replace(
            self.average(features, membranes), not_finite=seen if self.not_finite is None else seen | self.not_finite
        )

    def average(self, features: Tensor, membranes: dict[str, Any]) -> "StreamState":
        if isinstance(self.memory, float):
            return replace(
                self,
                membranes=membranes,
                feature_sum=self.memory * self.feature_sum + features,
                num_steps=self.memory * self.num_steps + 1,
            )
        if self.memory == "all":
            return replace(self, membranes=membranes, feature_sum=self.feature_sum + features, num_steps=self.num_steps + 1)
        assert isinstance(self.memory, int), "require_memory saw it"
        recent = (*self.recent, features)[-self.memory :]
        steps = torch.clamp(self.num_steps + 1, max=self.memory) if isinstance(self.num_steps, Tensor) else len(recent)
        return replace(self, membranes=membranes, feature_sum=sum_in_order(recent), num_steps=steps, recent=recent)

    @property
    def mean_features(self) -> Tensor:
        """What the head sees: [N, F]."""
        steps = self.num_steps
        mean = (self.feature_sum / (steps[:, None] if isinstance(steps, Tensor) else steps)).to(self.feature_sum.dtype)
        return mean if self.not_finite is None else torch.where(self.not_finite[:, None], torch.nan, mean)

    def to(self, device: torch.device | str) -> "StreamState":
        """The same state on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def detach(self) -> "StreamState":
        """The same state without its history: cuts backpropagation through time here."""
        return self.map(torch.Tensor.detach)

    def map(self, function: Callable[[Tensor], Tensor]) -> "StreamState":
        """The same state with a function applied to each of its tensors."""
        steps = function(self.num_steps) if isinstance(self.num_steps, Tensor) else self.num_steps
        return replace(
            self,
            membranes=map_states(function, self.membranes),
            feature_sum=function(self.feature_sum),
            num_steps=steps,
            recent=tuple(map(function, self.recent)),
            not_finite=None if self.not_finite is None else function(self.not_finite),
        )


torch.serialization.add_safe_globals([StreamState])


def map_states(function: Callable[[Tensor], Tensor], states: dict[str, Any]) -> dict[str, Any]:
    """States of neurons with a function applied to each of their tensors: `torch.Tensor.detach`, for example."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, states)


def at_least_float32(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def sum_in_order(features: Sequence[Tensor] | Tensor) -> Tensor:
    """Sum in the order of time: the same number to the last bit for a sequence [T, N, F] and for a stream's running sum."""
    total = features[0]
    for step in features[1:]:
        total = total + step
    return total


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
                fits = v.dim() != len(shape) or (
                    v.shape[0] in (1, shape[0]) and (v.shape[2:] == shape[2:] or v.shape[2:].numel() == 1)
                )
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
