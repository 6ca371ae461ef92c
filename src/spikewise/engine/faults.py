"""What can go wrong while a network learns, and what is said of it."""

import contextlib
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models import Network
from ..models.layers import ConvNorm
from ..models.residual import Block
from .loss import cross_entropy


class Interrupted(Exception):
    """A signal ended a run after its state was saved."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.status = 128 + number


class NotFinite(ArithmeticError):
    """A loss or a gradient that is no finite number."""


class OutOfMemory(MemoryError):
    """A batch that does not fit, and one that would."""


class Signals:
    """Notes SIGINT and SIGTERM, so that a run can save before it leaves; a second one ends it at once."""

    def __init__(self) -> None:
        self.received = 0

    def handle(self, number: int, _frame: Any) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def record_activity(self) -> Iterator["Signals"]:
        try:
            before = {number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: signals are the caller's affair
            yield self
            return
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Statistics:
    """The running estimates of a network's norms, to be put back when a step is given up."""

    def __init__(self, net: nn.Module):
        self.buffers = list(net.buffers())
        self.copies = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def note(self) -> None:
        torch._foreach_copy_(self.copies, self.buffers)

    @torch.no_grad()
    def restore(self) -> None:
        torch._foreach_copy_(self.buffers, self.copies)


def first_not_finite(net: Network, samples: Tensor, labels: Tensor) -> str:
    """The first layer or block, in the order of depth, whose output is not finite on these samples; else, the first in the
    order of backward whose gradient is not.

    The network's running estimates move: restore them afterwards.
    """
    outputs: list[tuple[str, Tensor]] = []
    parts = {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm | Block) or module is net.head}
    hooks = [
        module.register_forward_hook(lambda _m, _a, out, name=name: outputs.append((name, out)))
        for name, module in parts.items()
    ]
    try:
        if not bool(torch.isfinite(samples).all()):
            return "the samples themselves are not finite"
        for name, parameter in net.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                return f"the weight {name!r} was not finite before this step"
        logits = net(samples)
        for name, out in outputs:
            if not bool(torch.isfinite(out).all()):
                return f"the first output that is not finite is that of {name!r}"
        grads = torch.autograd.grad(cross_entropy(logits, labels), [out for _, out in outputs], allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    for (name, _), grad in reversed(list(zip(outputs, grads, strict=True))):
        if grad is not None and not bool(torch.isfinite(grad).all()):
            return f"all outputs are finite, but the gradient at the output of {name!r} is not"
    return "outputs and gradients of all blocks are finite when computed again"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "can't allocate memory" in text)


def batch_that_fits(net: Network, samples: Tensor, labels: Tensor, free: int) -> int:
    """The largest batch whose kept activations take less than 80 % of `free` bytes, from those of one or two samples."""
    small = min(2, len(labels))
    few = samples[:small] if samples.dim() == 4 else samples[:, :small]
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    statistics = Statistics(net)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cross_entropy(net(few), labels[:small])
    statistics.restore()
    weights = sum(p.untyped_storage().nbytes() for p in net.parameters())
    per_sample = max(1, sum(kept.values()) - weights) / small
    return max(1, math.floor(0.8 * free / per_sample))


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; of the system's memory with those that its file cache would give up."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(min(int(line.split()[1]) * 1024, free_in_container()))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def free_in_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that a container may still take, its file cache given up; infinite where nothing limits it."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # no such file, or the word "max"
            most, now = (int((folder / name).read_text()) for name in (limit, used))
            about = dict(line.split() for line in (folder / limit).with_name("memory.stat").read_text().splitlines())
            return max(0, most - now + int(about.get("inactive_file", 0)))
    return math.inf
