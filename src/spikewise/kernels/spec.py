"""What the fused operation is told: the neuron, the connection, what is wanted; and the tensors it works on.

These named tuples are the operation. The operators' schemas, and how a flat call is taken apart, are made from their fields;
what is no tensor is one list of numbers, as a call of an operator costs by its arguments.
"""

import functools
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .connect import add, and_, iand
from .surrogate import (
    SURROGATES,
    atan,
    erf,
    fast_sigmoid,
    rectangular,
    scaled_atan,
    sigmoid,
    triangular,
)


class Connect(IntEnum):
    """The connections that kernels know, by the numbers that C and Triton share."""

    NONE = 0
    ADD = 1
    AND = 2
    IAND = 3


class Surrogate(IntEnum):
    """The surrogates that kernels know, by the numbers that C and Triton share."""

    ATAN = 0
    SIGMOID = 1
    RECTANGULAR = 2
    TRIANGULAR = 3
    FAST_SIGMOID = 4
    ERF = 5
    SCALED_ATAN = 6


CONNECT_CODES: dict[Callable, Connect] = {add: Connect.ADD, and_: Connect.AND, iand: Connect.IAND}
SURROGATE_CODES: dict[Callable, Surrogate] = {
    atan: Surrogate.ATAN,
    sigmoid: Surrogate.SIGMOID,
    rectangular: Surrogate.RECTANGULAR,
    triangular: Surrogate.TRIANGULAR,
    fast_sigmoid: Surrogate.FAST_SIGMOID,
    erf: Surrogate.ERF,
    scaled_atan: Surrogate.SCALED_ATAN,
}


class NeuronParams(NamedTuple):
    """The coefficients of E1 and the rules of E2-E4: all that tells one neuron of one state from another.

    a, b, c:       numbers, or tensors: of one element when they are learned (PLIF)
    v_th:          threshold, above the resting potential; a number, or a tensor that broadcasts over [N, ...]
    v_reset:       membrane after a spike; None subtracts v_th instead (soft reset)
    surrogate:     a name in SURROGATES; alpha, its slope parameter, > 0
    detach_reset:  whether backward treats the reset's spike as a constant
    """

    a: float | Tensor
    b: float | Tensor
    c: float | Tensor
    v_th: float | Tensor = 1.0
    v_reset: float | Tensor | None = 0.0
    surrogate: str = "atan"
    alpha: float = 2.0
    detach_reset: bool = True

    @property
    def v_rest(self) -> float | Tensor:
        """The membrane before the first step."""
        return 0.0 if self.v_reset is None else self.v_reset

    def unfusible_reason(self) -> str:
        """Why only the reference computes this neuron; empty where the fused kernels do, too."""
        if SURROGATES.get(self.surrogate) not in SURROGATE_CODES:
            return f"the surrogate {self.surrogate!r} is not one of those built in"
        if any(isinstance(value, Tensor) for value in (self.v_th, self.v_reset, self.alpha)):
            return "threshold, reset and alpha are tensors, not numbers"
        if any(isinstance(value, Tensor) and value.numel() != 1 for value in (self.a, self.b, self.c)):
            return "its coefficients a, b, c are not one number each"
        return ""


class NormParams(NamedTuple):
    """A batch norm: weight and bias [C], and the statistics to normalise with; without any, those of the batch are taken."""

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5
    mean: Tensor | None = None
    variance: Tensor | None = None


class PoolWindow(NamedTuple):
    """Square max pooling."""

    size: int
    stride: int
    padding: int = 0


class FireTensors(NamedTuple):
    """What `norm_fire` reads; None where it is absent.

    y             convolution output [T, N, C, H, W], or one frame [N, C, H, W] that is read `repeat_steps` times
    scale, shift  batch norm as one product and one sum per channel: [C], float32
    coefficients  a, b, c of E1 where they are learned: [3], float32; None: they are numbers of the spec
    shortcut      connected with the spikes (E6): [T, N, C, H, W]
    current       added to the normalised value (E8): [T, N, C, H, W]
    v             membrane before the first step: [N, C, H, W], float32; None: at rest
    """

    y: Tensor
    scale: Tensor
    shift: Tensor
    coefficients: Tensor | None = None
    shortcut: Tensor | None = None
    current: Tensor | None = None
    v: Tensor | None = None


class FireSpec(NamedTuple):
    """What is known of a call before any tensor: static and hashable, what a kernel specialises on.

    pool              size, stride and padding of a max pooling of the output; only with `repeat_steps`, without shortcut
    return_membrane   whether the membrane after the last step is wanted
    num_planes        bit planes of the output that are wanted beside it; 0: none
    a, b, c           coefficients of E1, where no tensor holds them
    """

    v_th: float = 1.0
    v_reset: float | None = 0.0
    surrogate: Surrogate = Surrogate.ATAN
    alpha: float = 2.0
    detach_reset: bool = True
    connect: Connect = Connect.NONE
    repeat_steps: int = 0
    pool: PoolWindow | None = None
    return_membrane: bool = False
    num_planes: int = 0
    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    @property
    def hard_reset(self) -> bool:
        return self.v_reset is not None

    @property
    def v_rest(self) -> float:
        return self.v_reset or 0.0


class FireOutput(NamedTuple):
    """What `norm_fire` writes; empty tensors where something is not wanted."""

    out: Tensor
    v_last: Tensor
    planes: Tensor
    pool_indices: Tensor


class FireGrads(NamedTuple):
    """What `norm_fire_backward` is given beside forward's tensors.

    grad_out, grad_v_last  gradients of the output and of the last membrane
    mean, inverse_std      what y was normalised with: [C], float32
    pool_indices           which place of its window each pooled output came from
    """

    grad_out: Tensor
    grad_v_last: Tensor | None
    mean: Tensor
    inverse_std: Tensor
    pool_indices: Tensor | None = None


class GradSpec(NamedTuple):
    """Which gradients are wanted beside y's and those per channel."""

    want_shortcut: bool = False
    want_current: bool = False
    want_v: bool = False
    want_coefficients: bool = False


class FireBackwardOutput(NamedTuple):
    """Gradients; empty tensors where none is wanted.

    grad_y         with the statistics as constants; `batch_norm_backward_` adds what flows back through them
    channel_grads  of the norm's bias and weight, and of the mean and the variance that y was normalised with: [4, C], float32
    """

    grad_y: Tensor
    grad_shortcut: Tensor
    grad_current: Tensor
    grad_v: Tensor
    grad_coefficients: Tensor
    channel_grads: Tensor


SCHEMA_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?"}


def schema(*records: type) -> str:
    """The arguments (or results) of an operator that takes the tensors of these records one after another."""
    return ", ".join(f"{SCHEMA_TYPES[kind]} {name}" for record in records for name, kind in record.__annotations__.items())


def split(args: Sequence[Any], *records: Any) -> list[Any]:
    """The records of a flat call."""
    found, begin = [], 0
    for record in records:
        end = begin + len(record._fields)
        found.append(record._make(args[begin:end]))
        begin = end
    return found


def numbers(spec: FireSpec, want: GradSpec | None = None) -> list[float]:
    """All that an operator is told beside its tensors, as one list. `specs` takes it apart."""
    size, stride, padding = (0, 0, 0) if spec.pool is None else spec.pool
    reset = (0.0, False) if spec.v_reset is None else (spec.v_reset, True)
    rules = (spec.v_th, *reset, spec.surrogate, spec.alpha, spec.detach_reset, spec.connect, spec.repeat_steps)
    found = [*rules, size, stride, padding, spec.return_membrane, spec.num_planes, spec.a, spec.b, spec.c]
    found = found if want is None else [*found, *want]
    # a list in which some are integers takes an operator three times as long; no matter when it is traced
    return found if torch.compiler.is_compiling() else [*map(float, found)]


@functools.cache
def specs(numbers: tuple[float, ...]) -> tuple[FireSpec] | tuple[FireSpec, GradSpec]:
    v_th, v_reset, hard_reset, surrogate, alpha, detach_reset, connect, repeat_steps, *pool, membrane, planes, a, b, c = (
        numbers[:16]
    )
    spec = FireSpec(
        v_th=v_th,
        v_reset=v_reset if hard_reset else None,
        surrogate=Surrogate(int(surrogate)),
        alpha=alpha,
        detach_reset=bool(detach_reset),
        connect=Connect(int(connect)),
        repeat_steps=int(repeat_steps),
        pool=PoolWindow(*map(int, pool)) if pool[0] else None,
        return_membrane=bool(membrane),
        num_planes=int(planes),
        a=a,
        b=b,
        c=c,
    )
    return (spec, GradSpec(*map(bool, numbers[16:]))) if numbers[16:] else (spec,)
