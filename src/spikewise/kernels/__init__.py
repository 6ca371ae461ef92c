"""The recurrence, alone (`fire`) and with batch norm and connection around it (`norm_fire`).

A backend is a module with `fire`, `norm_stats` and `norm_fire`, as `reference` defines them.
"""

from types import ModuleType

from . import reference
from .dynamics import Dynamics
from .surrogate import SURROGATES

BACKENDS: dict[str, ModuleType] = {"reference": reference}

__all__ = ["BACKENDS", "SURROGATES", "Dynamics", "choose_backend"]


def choose_backend(name: str) -> ModuleType:
    """The kernels that `name` stands for; "auto" is the fastest that runs here: so far, the reference.

    Raises:  ValueError if there is no backend of that name
    """
    if name == "auto":
        return reference
    if name not in BACKENDS:
        raise ValueError(f"no backend named {name!r}; known: auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]
