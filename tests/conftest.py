"""Fixtures that more than one part of the tests needs."""

import os

import pytest
import torch

# one thread each: the tests' tensors are small, and they run side by side
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random numbers, whatever ran before it."""
    torch.manual_seed(0)
