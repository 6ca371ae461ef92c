"""The recurrence, alone (`fire`) and with batch norm and connection around it (`norm_fire`).

`reference` defines both; `fused` computes the same in one pass over memory, by kernels in C (cpu/) or in Triton (triton/).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ..native.load import selected_variant
from ..wording import unknown_name
from . import cpu, fused, reference, triton
from .connect import CONNECT
from .spec import NeuronParams, NormParams
from .surrogate import SURROGATES


class Backend(NamedTuple):
    """Kernels: the functions of `reference`, and why they cannot run here, or on such a tensor ("" if they can)."""

    name: str
    fire: Callable
    norm_fire: Callable
    norm_stats: Callable
    with_stats: Callable
    max_pool: Callable
    supports_packing: bool
    unavailable_reason: Callable[[Tensor | None], str]


FUSED = (fused.fire, fused.norm_fire, fused.norm_stats, fused.with_stats, fused.max_pool, True)
BACKENDS: dict[str, Backend] = {
    # autograd keeps every step of the reference: bit planes would save nothing
    "reference": Backend(
        "reference",
        reference.fire,
        reference.norm_fire,
        reference.norm_stats,
        reference.with_stats,
        reference.max_pool,
        False,
        lambda _: "",
    ),
    "cpu": Backend("cpu", *FUSED, cpu.unavailable_reason),
    "triton": Backend("triton", *FUSED, triton.unavailable_reason),
}

__all__ = ["BACKENDS", "CONNECT", "SURROGATES", "Backend", "NeuronParams", "NormParams", "describe_backend", "get_backend"]


def get_backend(name: str, like: Tensor | None = None) -> Backend:
    """The kernels that `name` stands for; "auto" is the fastest that runs here and on tensors such as `like`.

    Raises:  ValueError if there is no backend of that name, or if it cannot run, with the reason
    """
    if name == "auto":
        for key, backend in BACKENDS.items():  # no next(): older compilers do not follow it
            if key != "reference" and not backend.unavailable_reason(like):
                return backend
        return BACKENDS["reference"]
    if name not in BACKENDS:
        raise ValueError(unknown_name("backend", name, ["auto", *BACKENDS]))
    if reason := BACKENDS[name].unavailable_reason(like):
        raise ValueError(f"the kernels {name!r} cannot run: {reason}")
    return BACKENDS[name]


def describe_backend(name: str, like: Tensor | None = None) -> str:
    """What runs under this name, for a record of the machine: "reference", "triton", or "cpu" with its instruction set."""
    chosen = get_backend(name, like).name
    return f"cpu {selected_variant()}" if chosen == "cpu" else chosen
