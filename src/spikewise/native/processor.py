"""The processor's name, for records of a machine."""

import platform
from pathlib import Path

import torch


def cpu_name() -> str:
    """The processor's name, where Linux tells it, and the instruction set that torch uses."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
