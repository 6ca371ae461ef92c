"""PyTorch's random numbers in training, as of dropout: a function of the step, as all other chance is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..data import rng_from


@contextmanager
def drawn_from(device: torch.device, *key: int | str) -> Iterator[None]:
    """While open, random numbers of PyTorch depend on `key` alone; behind, they go on as if nothing had been drawn."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed = int(rng_from(*key).integers(2**63))
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
