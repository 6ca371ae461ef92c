"""Activation checkpointing: of a block or a stage, backward keeps what came in, and computes the rest again."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..kernels.layout import is_channels_last
from ..kernels.packing import known, note, unpack

Checkpointing = Literal["none", "block", "stage"]
COMPILES = torch.__version__ >= "2.11"  # older (2.8) compile the second forward, too: running statistics would move twice


def require_checkpointing(word: str) -> None:
    if word not in get_args(Checkpointing):
        raise ValueError(f"checkpointing={word!r} is unknown; use {', '.join(get_args(Checkpointing))}")


def eager_where_not_compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that PyTorch's compiler leaves as it is, where it would not compile it right."""
    reason = "networks with checkpointing are compiled by PyTorch 2.11 and newer"
    return function if COMPILES else torch.compiler.disable(function, reason=reason)


@eager_where_not_compiled
def checkpointed(segment: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`segment(x)`; for backward x alone is kept, as bit planes where it has them.

    Gradients are the same to the bit, also where a part of the user's own draws random numbers, which are drawn again; running
    statistics move once (`calls.is_recomputing`).
    """
    found = known(x)
    if found is None or found.planes is None:
        return checkpoint(segment, x, use_reentrant=False)
    max_value, shape, dtype, channels_last = found.max_value, x.shape, x.dtype, is_channels_last(x)
    first = [x.detach()]

    def run_from_planes(placeholder: Tensor, planes: Tensor) -> Tensor:
        values = first.pop() if first else unpack(planes, shape, dtype, channels_last=channels_last)
        return segment(note(_Substitute.apply(placeholder, values), max_value, planes))

    return checkpoint(run_from_planes, _Placeholder.apply(x), found.planes, use_reentrant=False)


class _Placeholder(torch.autograd.Function):
    """A tensor of the same shape that takes no memory; gradients pass."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return values.new_zeros(()).expand(values.shape)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Substitute(torch.autograd.Function):
    """The values in place of their stand-in; gradients pass."""

    @staticmethod
    def forward(_: Any, placeholder: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
