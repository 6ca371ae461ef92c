"""Activation checkpointing: of a block or a stage, backward keeps what came in, and computes the rest again."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..kernels.calls import channels_inner
from ..kernels.packing import Spikes, said_of, unpack

Checkpointing = Literal["none", "block", "stage"]


def require_checkpointing(word: str) -> None:
    if word not in get_args(Checkpointing):
        raise ValueError(f"checkpointing={word!r} is unknown; use {', '.join(get_args(Checkpointing))}")


def computed_again(segment: Callable[[Any], Any], x: Tensor | Spikes) -> Any:
    """`segment(x)`; for backward x alone is kept, as bit planes where it has them.

    Gradients are the same to the bit, also where a part of the user's own draws random numbers, which are drawn again; running
    estimates move once (`layers.runs_again`).
    """
    x = x.checked() if isinstance(x, Spikes) else x
    if not isinstance(x, Spikes) or x.packed is None:
        return checkpoint(segment, x, use_reentrant=False)
    values, most = x.values, x.most
    shape, dtype, inner = values.shape, values.dtype, channels_inner(values.flatten(0, 1))
    first = [] if torch.compiler.is_compiling() else [values.detach()]  # compilers take no list that changes

    def from_planes(stand_in: Tensor, packed: Tensor) -> Any:
        again = first.pop() if first else unpack(packed, shape, dtype, inner=inner)
        return segment(said_of(_Restore.apply(stand_in, again), packed, most))

    return checkpoint(from_planes, _StandIn.apply(values), x.packed, use_reentrant=False)


class _StandIn(torch.autograd.Function):
    """A tensor of the same shape that takes no memory; gradients pass."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return values.new_zeros(()).expand(values.shape)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Restore(torch.autograd.Function):
    """The values in place of their stand-in; gradients pass."""

    @staticmethod
    def forward(_: Any, stand_in: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
