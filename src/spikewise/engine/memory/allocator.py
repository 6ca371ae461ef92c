"""glibc's memory allocator, set so that memory that every step uses again stays with the process."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
UNLIMITED = -1


def disable_heap_trim() -> bool:
    """Let glibc reuse freed memory for large blocks; returns whether that could be set.

    By default glibc returns every block above 32 MB to the system and asks for a new one, whose pages the system fills with
    zeros one by one: a tenth of a training step on the CPU (docs/decisions.md). `SPIKEWISE_KEEP_MEMORY=0` changes nothing.
    """
    if os.environ.get("SPIKEWISE_KEEP_MEMORY") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(M_TRIM_THRESHOLD, UNLIMITED))
