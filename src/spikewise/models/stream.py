"""What a network remembers between two frames, held by the caller."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """A network between two frames: nothing of it lives in the network.

    membranes:  name of a layer -> membrane of its neurons [N, C, H, W], float32 or float64
    total:      sum of the features of all frames so far [N, F]
    num_steps:  frames seen
    """

    membranes: dict[str, Tensor]
    total: Tensor
    num_steps: int

    def to(self, device: torch.device | str) -> "State":
        """The same state on another device."""
        return State({k: v.to(device) for k, v in self.membranes.items()}, self.total.to(device), self.num_steps)

    def detach(self) -> "State":
        """The same state without its history: cuts backpropagation through time here."""
        return State({k: v.detach() for k, v in self.membranes.items()}, self.total.detach(), self.num_steps)


class Carry:
    """Hands each layer its membrane of the last frame and collects those of this one."""

    def __init__(self, before: dict[str, Tensor] | None):
        self.before = before
        self.after: dict[str, Tensor] = {}

    def take(self, layer: str, shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
        """The membrane `layer` left behind; None at the first frame.

        Raises:  ValueError for a state of another network, or of frames of another size or dtype
        """
        if self.before is None:
            return None
        v = self.before.get(layer)
        if v is None:
            raise ValueError(f"the state has no membrane for {layer!r}: it comes from another network")
        if v.shape != shape or v.dtype != dtype:
            raise ValueError(
                f"the state's membrane of {layer!r} is {list(v.shape)} {v.dtype}, this frame needs {list(shape)} {dtype}: "
                "it comes from frames of another size or dtype"
            )
        return v

    def keep(self, layer: str, v: Tensor) -> None:
        self.after[layer] = v
