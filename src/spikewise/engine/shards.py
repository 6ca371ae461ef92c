"""Shards: the parts of a step's batch that are forwarded and differentiated one by one, and sums over them that know no order.

What batch norm sees is a shard. Eight shards of 32 on one device are what eight devices with 32 samples each compute without
synchronised norms, as published. Float addition depends on how numbers are grouped, integer addition does not: gradients of
shards become 64-bit integers in units of a power of two, the same for all shards of a tensor, and are added as such. So a step
is the same to the bit however its shards are distributed.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .distributed import ALONE, World

MIN_SHARD = 2  # samples: a smaller one has too few values for batch norm where an image has become a pixel
MAX_SCALE = 1000  # of the exponent: 2^1000 is still a float64
ABSENT = -1.0  # in the place of a tensor's largest term: no shard has a gradient


def shard_sizes(samples: int, shards: int) -> list[int]:
    """Into what a batch is cut: as evenly as it goes, the larger ones first; the last, small batch of an epoch into fewer."""
    count = max(1, min(shards, samples // MIN_SHARD))
    return [samples // count + (number < samples % count) for number in range(count)]


class GradientSum(ABC):
    """The gradients of a step's shards, and their weighted mean over all processes.

    parameters:  whose gradients they are
    world:       the processes that share the shards
    """

    def __init__(self, parameters: Sequence[Tensor], world: World = ALONE):
        self.parameters, self.world = parameters, world

    @abstractmethod
    def add(self, gradients: Sequence[Tensor | None], weight: float) -> None:
        """One more shard of this process: its gradients, None where a parameter has none, and its weight in the mean."""

    @abstractmethod
    def largest(self) -> Tensor:
        """What `finish` needs the maximum of, over all processes: float64 [parameters], ABSENT where there is no gradient."""

    @abstractmethod
    def totals(self, largest: list[float]) -> list[Tensor]:
        """The sum of each tensor that some shard has, over all processes, in the units of `unit`."""

    def unit(self, largest: float) -> float:
        """What a number of `totals` counts."""
        return 1.0

    def finish(self, largest: Tensor, weight: float) -> list[Tensor | None]:
        """The means, in the shapes and types of the parameters; None where no shard has a gradient.

        largest:  of all processes
        weight:   of all shards together
        """
        bounds = largest.tolist()
        totals = iter(self.totals(bounds))
        return [
            None
            if bound == ABSENT
            else torch.full_like(p, torch.nan)
            if not math.isfinite(bound)
            else torch.empty_like(p).copy_(next(totals).double() * self.unit(bound) / weight)
            for p, bound in zip(self.parameters, bounds, strict=True)
        ]


class ExactSum(GradientSum):
    """Sums of 64-bit integers, in units of a power of two per tensor that follows from its largest term in any shard.

    With n shards each sum is exact but for the rounding of each term to the tensor's unit: below n^2 2^-63 of the largest term,
    so below 2^-52 for up to 32 shards. What is not finite in one shard makes the whole tensor NaN.

    shards:  how many there are in all, at most
    """

    def __init__(self, parameters: Sequence[Tensor], shards: int, world: World = ALONE):
        super().__init__(parameters, world)
        self.room = 62 - math.ceil(math.log2(shards))  # bits of one term, so that no sum overflows
        self.terms: list[tuple[list[Tensor | None], float]] = []

    def add(self, gradients: Sequence[Tensor | None], weight: float) -> None:
        self.terms.append(([*gradients], weight))

    def largest(self) -> Tensor:
        largest = torch.full((len(self.parameters),), ABSENT, dtype=torch.float64, device=self.parameters[0].device)
        for gradients, weight in self.terms:
            for number, gradient in enumerate(gradients):
                if gradient is not None:
                    value = gradient.detach().abs().amax().double() * weight if gradient.numel() else largest.new_zeros(())
                    largest[number] = torch.maximum(largest[number], torch.where(value.isfinite(), value, torch.inf))
        return largest

    def unit(self, largest: float) -> float:
        return 2.0 ** -min(self.room - math.frexp(largest)[1], MAX_SCALE)

    def totals(self, largest: list[float]) -> list[Tensor]:
        totals = []
        for number, (p, bound) in enumerate(zip(self.parameters, largest, strict=True)):
            if bound == ABSENT or not math.isfinite(bound):
                continue
            total, scale = torch.zeros_like(p, dtype=torch.int64), 1 / self.unit(bound)
            for gradients, weight in self.terms:
                if (gradient := gradients[number]) is not None:
                    total += (gradient.detach().double() * weight * scale).round_().long()
            totals.append(total)
        self.world.sum_all(totals)
        return totals


class Float32Sum(GradientSum):
    """Sums in float32, in the order in which they come: half the bytes, other last digits for other numbers of processes."""

    def __init__(self, parameters: Sequence[Tensor], world: World = ALONE):
        super().__init__(parameters, world)
        self.sums: list[Tensor | None] = [None] * len(parameters)

    def add(self, gradients: Sequence[Tensor | None], weight: float) -> None:
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                term, before = gradient.detach().float() * weight, self.sums[number]
                self.sums[number] = term if before is None else before.add_(term)

    def largest(self) -> Tensor:
        present = [ABSENT if total is None else 0.0 for total in self.sums]
        return torch.tensor(present, dtype=torch.float64, device=self.parameters[0].device)

    def totals(self, largest: list[float]) -> list[Tensor]:
        totals = [
            torch.zeros_like(p, dtype=torch.float32) if total is None else total
            for p, total, bound in zip(self.parameters, self.sums, largest, strict=True)
            if bound != ABSENT
        ]
        self.world.sum_all(totals)
        return totals


def sum_in_order(values: Tensor) -> float:
    """The sum of numbers of all shards, float64 [n], in the order of the shards."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total
