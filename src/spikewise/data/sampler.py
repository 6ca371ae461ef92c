"""Randomness as a function: which samples make up step k, and the random numbers that augment each of them."""

import hashlib

import numpy as np

from ..wording import count


def rng_from(*keys: int | str) -> np.random.Generator:
    """A random generator that depends on `keys` alone, e.g. (seed, epoch, "order"); keys are hashed, never added up."""
    plain = tuple(key if isinstance(key, str) else int(key) for key in keys)  # NumPy's integers have another repr
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class EpochSampler:
    """Which samples make up which step: a function of (seed, step), so there is nothing to save.

    size:    samples in the data set; each is visited once per epoch, and an epoch's last batch may be smaller
    batch:   samples per step, over all processes
    Raises:  ValueError for a batch below 1 or above `size`
    """

    def __init__(self, size: int, batch: int, seed: int):
        if not 0 < batch <= size:
            raise ValueError(f"a batch of {batch} from {count(size, 'sample')}; use a batch between 1 and {size}")
        self.size, self.batch, self.seed = size, batch, seed
        self.steps_per_epoch = -(-size // batch)
        self.cached_permutation: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def batch_indices(self, step: int) -> np.ndarray:
        """The sample indices of step `step`, counted from the start of training: int64 [batch]."""
        epoch, k = divmod(step, self.steps_per_epoch)
        if self.cached_permutation[0] != epoch:
            self.cached_permutation = epoch, rng_from(self.seed, epoch, "order").permutation(self.size)
        return self.cached_permutation[1][k * self.batch : (k + 1) * self.batch]
