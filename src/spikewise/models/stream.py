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

    def take(self, layer: str) -> Tensor | None:
        """The membrane `layer` left behind; None at the first frame."""
        if self.before is None:
            return None
        if layer not in self.before:
            raise ValueError(f"the state has no membrane for {layer!r}: it comes from another network")
        return self.before[layer]

    def keep(self, layer: str, v: Tensor) -> None:
        self.after[layer] = v
