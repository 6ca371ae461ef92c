"""What this machine can do."""

import os
from typing import Any

import torch

from ..kernels import BACKENDS, get_backend, describe_backend
from ..native.build import Unavailable, library
from ..native.load import supported_variants, selected_variant, gomp_parallel, runtimes
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
        "kernels in use": describe_backend("auto"),
    }
    for name in BACKENDS:
        try:
            get_backend(name)
            found[f"backend {name}"] = "runs"
        except ValueError as error:
            found[f"backend {name}"] = str(error)
    try:
        found["kernel variants"] = f"{selected_variant()} chosen of {', '.join(supported_variants())}"
        found["kernel library"] = str(library(selected_variant()))
    except Unavailable as error:
        found["kernel library"] = f"none: {error}"
    found["openmp"] = f"{runtimes()[0]}" if gomp_parallel() else "none found: the CPU kernels run on one thread"
    return found
