"""Shards: the parts of a step's batch that are forwarded and differentiated one by one, and sums over them that know no order.

What batch norm sees is a shard. Eight shards of 32 on one device are what eight devices with 32 samples each compute without
synchronised norms, as published. Float addition depends on how numbers are grouped, integer addition does not: gradients of
shards become 64-bit integers in units of a power of two, the same for all shards of a tensor, and are added as such. So a step
is the same to the bit however its shards are distributed.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MIN_SHARD = 2  # samples: a smaller one has too few values for batch norm where an image has become a pixel
MAX_SCALE = 1000  # of the exponent: 2^1000 is still a float64

Reduce = Callable[[Tensor], Tensor]


def shard_sizes(samples: int, shards: int) -> list[int]:
    """Into what a batch is cut: as evenly as it goes, the larger ones first; the last, small batch of an epoch into fewer."""
    count = max(1, min(shards, samples // MIN_SHARD))
    return [samples // count + (number < samples % count) for number in range(count)]


class GradientSum:
    """The gradients of a step's shards, and their weighted sum.

    shards:      how many there are in all, on every process
    reduce_max:  makes the elementwise maximum over all processes of a float64 tensor
    reduce_sum:  makes the sum over all processes of an int64 tensor

    With n shards each sum is exact but for the rounding of each term to the tensor's unit: below n^2 2^-63 of the largest term,
    so below 2^-52 for up to 32 shards. What is not finite in one shard makes the whole tensor NaN.
    """

    def __init__(self, shards: int, reduce_max: Reduce = lambda x: x, reduce_sum: Reduce = lambda x: x):
        self.room = 62 - math.ceil(math.log2(shards))  # bits of one term, so that no sum overflows
        self.reduce_max, self.reduce_sum = reduce_max, reduce_sum
        self.terms: list[tuple[list[Tensor | None], float]] = []

    def add(self, gradients: Sequence[Tensor | None], weight: float) -> None:
        """One more shard of this process: its gradients, None where a parameter has none, and its share of the batch."""
        self.terms.append(([*gradients], weight))

    def finish(self, like: Sequence[Tensor]) -> list[Tensor | None]:
        """The sums, in the shapes and types of `like`; None where no shard has a gradient."""
        largest = torch.zeros(len(like), dtype=torch.float64, device=like[0].device)
        for gradients, weight in self.terms:
            for number, gradient in enumerate(gradients):
                if gradient is not None and gradient.numel():
                    value = gradient.detach().abs().amax().double() * weight
                    largest[number] = torch.maximum(largest[number], torch.where(value.isfinite(), value, torch.inf))
        largest = self.reduce_max(largest).cpu()
        return [
            None
            if all(gradients[number] is None for gradients, _ in self.terms)
            else self.sum_of(number, float(largest[number]), x)
            for number, x in enumerate(like)
        ]

    def sum_of(self, number: int, largest: float, like: Tensor) -> Tensor:
        """The sum of one tensor, whose largest term is known."""
        if not math.isfinite(largest):
            return torch.full_like(like, torch.nan)
        total = torch.zeros(like.shape, dtype=torch.int64, device=like.device)
        scale = 2.0 ** min(self.room - math.frexp(largest)[1], MAX_SCALE)
        for gradients, weight in self.terms:
            if (gradient := gradients[number]) is not None:
                total += (gradient.detach().double() * weight * scale).round_().long()
        return torch.empty_like(like).copy_(self.reduce_sum(total).double() / scale)


def sum_in_order(values: Tensor) -> float:
    """The sum of numbers of all shards, float64 [n], in the order of the shards."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total
