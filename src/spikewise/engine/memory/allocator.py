"""The C library's memory allocator, set so that memory that is used again at every step stays with the process."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
NEVER = -1


def keep_freed_memory() -> bool:
    """Let glibc hand out large blocks from memory that was freed before; whether that could be set.

    By default it gives every block above 32 MB back to the system and asks for a new one, whose pages the system fills with
    zeros one by one: a tenth of a training step on the CPU (docs/decisions.md). `SPIKEWISE_KEEP_MEMORY=0` leaves all as it is.
    """
    if os.environ.get("SPIKEWISE_KEEP_MEMORY") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
