"""What this machine can run."""

import os
import platform
from importlib import import_module
from typing import Any

import torch

from ..kernels import BACKENDS, describe_backend, get_backend
from ..kernels.triton.launch import is_triton_installed
from ..native.build import NativeUnavailable, library_path
from ..native.load import gomp_parallel_address, openmp_runtimes, selected_variant, supported_variants
from ..native.processor import cpu_name
from ..version import __version__

OLDEST_TORCH = "2.8"  # as pyproject.toml says, which an environment that pip did not make may not heed


def describe_torch() -> str:
    version = torch.__version__
    return version if version >= OLDEST_TORCH else f"{version}, older than the oldest that is tested: {OLDEST_TORCH}"


def system_report() -> dict[str, Any]:
    """What is installed and what runs here, by name; for what does not run, why not."""
    report: dict[str, Any] = {
        "spikewise": __version__,
        "python": platform.python_version(),
        "torch": describe_torch(),
        "triton": import_module("triton").__version__ if is_triton_installed() else "not installed",
        "cpu": cpu_name(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch sees",
        "kernels in use": describe_backend("auto"),
    }
    for name in BACKENDS:
        try:
            get_backend(name)
            report[f"backend {name}"] = "runs"
        except ValueError as error:
            report[f"backend {name}"] = str(error)
    try:
        report["kernel variants"] = f"{selected_variant()} chosen of {', '.join(supported_variants())}"
        report["kernel library"] = str(library_path(selected_variant()))
    except NativeUnavailable as error:
        report["kernel library"] = f"none: {error}"
    report["openmp"] = str(openmp_runtimes()[0]) if gomp_parallel_address() else "none found: the CPU kernels run on one thread"
    return report
