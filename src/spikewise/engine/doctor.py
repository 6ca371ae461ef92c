"""What this machine can run."""

import os
from typing import Any

import torch

from ..kernels import BACKENDS, choose_backend, chosen_name
from ..native.build import Unavailable, library
from ..native.load import able_variants, chosen_variant, gomp_parallel, runtimes
from ..version import __version__
from .run.folder import cpu_name


def system_report() -> dict[str, Any]:
    """What is installed and what runs here, by name; for what does not run, why not."""
    report: dict[str, Any] = {
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
            report[f"backend {name}"] = "runs"
        except ValueError as error:
            report[f"backend {name}"] = str(error)
    try:
        report["kernel variants"] = f"{chosen_variant()} chosen of {', '.join(able_variants())}"
        report["kernel library"] = str(library(chosen_variant()))
    except Unavailable as error:
        report["kernel library"] = f"none: {error}"
    report["openmp"] = str(runtimes()[0]) if gomp_parallel() else "none found: the CPU kernels run on one thread"
    return report
