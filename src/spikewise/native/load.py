"""Load the C library, and what it needs of the process it runs in."""

import ctypes
import functools
import multiprocessing
import os
import platform
from pathlib import Path

import torch

from .build import VARIANTS, NativeUnavailable, library_path, variants_for


@functools.cache
def load(variant: str) -> ctypes.CDLL:
    """The library for one instruction set.

    Raises:  Unavailable
    """
    try:
        return ctypes.CDLL(str(library_path(variant)))
    except OSError as error:
        raise NativeUnavailable(f"the compiled kernels could not be loaded: {error}") from None


def supported_variants() -> list[str]:
    """The variants that this CPU can run, the fastest first."""
    able = {"AVX512": ["avx512", "avx2", "generic"], "AVX2": ["avx2", "generic"]}.get(
        torch.backends.cpu.get_cpu_capability(), ["generic"]
    )
    if able[0] == "avx512" and torch.cpu._is_avx512_bf16_supported():
        able.insert(0, "avx512_bf16")
    return [variant for variant in able if variant in variants_for(platform.machine())]


def selected_variant() -> str:
    """The fastest variant, or the one that $SPIKEWISE_CPU_VARIANT names.

    Raises:  Unavailable for a name that this machine does not have
    """
    allowed = supported_variants()
    if named := os.environ.get("SPIKEWISE_CPU_VARIANT"):
        if named not in allowed:
            raise NativeUnavailable(f"SPIKEWISE_CPU_VARIANT={named!r} is none of this CPU's: {', '.join(allowed)}")
        return named
    return allowed[0]


@torch.compiler.assume_constant_result  # what compiles networks need not look into this
def unavailable_reason() -> str:
    """Why the library cannot run here; empty where it can."""
    return _unavailable_reason()


@functools.cache
def _unavailable_reason() -> str:
    if platform.system() not in ("Linux", "Darwin"):
        return f"the CPU kernels are built for Linux and macOS, not for {platform.system()}"
    try:
        load(selected_variant())
    except NativeUnavailable as error:
        return str(error)
    return ""


@functools.cache
def gomp_parallel_address() -> int:
    """Address of the entry to the OpenMP runtime that torch has loaded; 0 if there is none: then one thread computes."""
    for path in openmp_runtimes():
        try:
            found = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            return ctypes.cast(found.GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError):
            continue
    return 0


def openmp_runtimes() -> list[str]:
    """OpenMP runtimes in this process, torch's own first."""
    own = Path(torch.__file__).parent
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.is_file() else []
    loaded = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    loaded |= {str(path) for path in (own / "lib").glob("lib*omp*")}
    named = [path for path in loaded if Path(path).name.startswith(("libgomp", "libomp", "libiomp"))]
    return sorted(named, key=lambda path: (not path.startswith(str(own)), not path.startswith(str(own.parent)), path))


_PROCESS = os.getpid()


def num_threads() -> int:
    """Threads a call may use: as many as torch does; one in a forked child, where the parent's OpenMP threads are missing."""
    return 1 if is_forked(os.getpid()) else torch.get_num_threads()


@functools.cache
def is_forked(pid: int) -> bool:
    """Whether this process, of this number, is a forked child."""
    return pid != _PROCESS or (
        multiprocessing.parent_process() is not None and multiprocessing.get_start_method(allow_none=True) in (None, "fork")
    )


__all__ = [
    "VARIANTS",
    "NativeUnavailable",
    "gomp_parallel_address",
    "load",
    "num_threads",
    "selected_variant",
    "supported_variants",
    "unavailable_reason",
]
