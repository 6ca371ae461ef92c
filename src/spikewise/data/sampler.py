"""Randomness as a function: which samples make up step k, and what chance does to each of them."""

import hashlib

import numpy as np


def generator(*keys: int | str) -> np.random.Generator:
    """Random numbers that depend on `keys` alone, e.g. (seed, epoch, "order"). Keys are hashed, never added up."""
    plain = tuple(key if isinstance(key, str) else int(key) for key in keys)  # numpy's numbers are written differently
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class Order:
    """Which samples make up which step: a function of (seed, step), so there is nothing to save.

    size:   samples in the data set; each is visited once per epoch, the last batch of an epoch may be smaller
    batch:  samples per step, over all processes
    """

    def __init__(self, size: int, batch: int, seed: int):
        if not 0 < batch <= size:
            raise ValueError(f"a batch of {batch} from {size} samples; use a batch between 1 and {size}")
        self.size, self.batch, self.seed = size, batch, seed
        self.steps_per_epoch = -(-size // batch)
        self.shuffled: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def indices(self, step: int) -> np.ndarray:
        """The samples of step `step`, counted from the start of training: [batch]."""
        epoch, k = divmod(step, self.steps_per_epoch)
        if self.shuffled[0] != epoch:
            self.shuffled = epoch, generator(self.seed, epoch, "order").permutation(self.size)
        return self.shuffled[1][k * self.batch : (k + 1) * self.batch]
