"""How much memory is free."""

import contextlib
import math
import os
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int:
    """Free bytes on a device; on the CPU including those that the file cache would give up."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(min(int(line.split()[1]) * 1024, cgroup_free_memory()))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def cgroup_free_memory(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that a container may still allocate, its file cache given up; infinite without a limit."""
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file, or the word "max"
            limit, usage = (int((folder / name).read_text()) for name in (limit_file, usage_file))
            stat = dict(line.split() for line in (folder / limit_file).with_name("memory.stat").read_text().splitlines())
            return max(0, limit - usage + int(stat.get("inactive_file", 0)))
    return math.inf
