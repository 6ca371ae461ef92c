"""What this machine can do."""

import os
from typing import Any

import torch

from ..kernels import BACKENDS, choose_backend, chosen_name
from ..native.build import Unavailable, library
from ..native.load import able_variants, chosen_variant, gomp_parallel, runtimes
from ..version import __version__
from .run.folder import cpu_name


def examine() -> dict[str, Any]:
    """What runs here and what does not, each with its reason."""
    found: dict[str, Any] = {
        "spikewise": __version__,
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch sees",
        "kernels in use": chosen_name("auto"),
    }
    for name in BACKENDS:
        try:
            choose_backend(name)
            found[f"backend {name}"] = "runs"
        except ValueError as error:
            found[f"backend {name}"] = str(error)
    try:
        found["kernel variants"] = f"{chosen_variant()} chosen of {', '.join(able_variants())}"
        found["kernel library"] = str(library(chosen_variant()))
    except Unavailable as error:
        found["kernel library"] = f"none: {error}"
    found["openmp"] = f"{runtimes()[0]}" if gomp_parallel() else "none found: the CPU kernels run on one thread"
    return found
