"""The recurrence, alone (`fire`) and with batch norm and connection around it (`norm_fire`, `batch_norm_fire`).

A backend is a module with `fire`, `norm_stats`, `norm_fire`, `batch_norm_fire`, `max_pool` and `PACKS`, as `reference` defines
them; all others have `reason_against`, too: why they cannot run here, or on such a tensor.
"""

from types import ModuleType

from torch import Tensor

from ..native.load import chosen_variant
from . import cpu, cuda, reference
from .connect import CONNECT
from .dynamics import Dynamics
from .surrogate import SURROGATES

BACKENDS: dict[str, ModuleType] = {"reference": reference, "cpu": cpu, "triton": cuda}

__all__ = ["BACKENDS", "CONNECT", "SURROGATES", "Dynamics", "choose_backend", "chosen_name"]


def choose_backend(name: str, like: Tensor | None = None) -> ModuleType:
    """The kernels that `name` stands for; "auto" is the fastest that runs here and on tensors such as `like`.

    Raises:  ValueError if there is no backend of that name, or if it cannot run, with the reason
    """
    if name == "auto":
        return next((fused for fused in (cpu, cuda) if not fused.reason_against(like)), reference)
    if name not in BACKENDS:
        raise ValueError(f"no backend named {name!r}; known: auto, {', '.join(BACKENDS)}")
    chosen = BACKENDS[name]
    if chosen is not reference and (reason := chosen.reason_against(like)):
        raise ValueError(f"the kernels {name!r} cannot run: {reason}")
    return chosen


def chosen_name(name: str, like: Tensor | None = None) -> str:
    """What runs under this name, for a record of the machine: "reference", "triton", or "cpu" with its instruction set."""
    chosen = choose_backend(name, like)
    return f"cpu {chosen_variant()}" if chosen is cpu else next(key for key, module in BACKENDS.items() if module is chosen)
