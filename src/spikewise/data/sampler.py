"""Randomness as a function: which samples make up step k, and the random numbers that augment each of them."""

import hashlib

import numpy as np

from ..wording import count, option


def rng_from(*keys: int | str) -> np.random.Generator:
    """A random generator that depends on `keys` alone, e.g. (seed, epoch, "order"); keys are hashed, never added up."""
    plain = tuple(key if isinstance(key, str) else int(key) for key in keys)  # NumPy's integers have another repr
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class EpochSampler:
    """Which samples make up which step: a function of (seed, step), so there is nothing to save.

    size:          samples in the data set; each is visited once per epoch, and an epoch's last batch may be smaller
    batch:         samples per step, over all processes
    epoch_length:  visits of samples in an epoch
    Raises:        ValueError for a batch below 1 or above `size`
    """

    def __init__(self, size: int, batch: int, seed: int):
        if not 0 < batch <= size:
            given = f"a batch of {batch} from {count(size, 'sample')}"
            raise ValueError(f"{given}; use a batch between 1 and {size}: {option('batch', size)}")
        self.size, self.batch, self.seed = size, batch, seed
        self.epoch_length = size
        self.cached_visits: tuple[int, np.ndarray] = (-1, np.empty((2, 0), dtype=np.int64))

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.epoch_length // self.batch)

    def batch_indices(self, step: int) -> np.ndarray:
        """The sample indices of step `step`, counted from the start of training: int64 [batch]."""
        return self.batch_visits(step)[0]

    def batch_visits(self, step: int) -> np.ndarray:
        """The sample indices of a step, and how often each sample was visited before: int64 [2, batch]."""
        epoch, k = divmod(step, self.steps_per_epoch)
        if self.cached_visits[0] != epoch:
            self.cached_visits = epoch, self.epoch_visits(epoch)
        return self.cached_visits[1][:, k * self.batch : (k + 1) * self.batch]

    def epoch_visits(self, epoch: int) -> np.ndarray:
        """The same of a whole epoch: int64 [2, epoch_length]."""
        indices = rng_from(self.seed, epoch, "order").permutation(self.size)
        return np.stack([indices, np.full(self.size, epoch)])


class BalancedSampler(EpochSampler):
    """Each class equally often in every epoch, however many samples it has: another function of (seed, step) (E17).

    An epoch visits each class ceil(size / classes) times. A class's samples are visited in rounds, each in a random order; they
    go on from epoch to epoch, so that a sample is not visited again before all others of its class were.

    labels:  the class of each sample, int64 [size]
    Raises:  as `EpochSampler`
    """

    def __init__(self, labels: np.ndarray, batch: int, seed: int):
        super().__init__(len(labels), batch, seed)
        self.classes = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
        self.visits_per_class = -(-len(labels) // len(self.classes))
        self.epoch_length = self.visits_per_class * len(self.classes)

    def epoch_visits(self, epoch: int) -> np.ndarray:
        begin = epoch * self.visits_per_class
        visits = [self.class_visits(label, begin, begin + self.visits_per_class) for label in self.classes]
        return np.concatenate(visits, axis=1)[:, rng_from(self.seed, epoch, "order").permutation(self.epoch_length)]

    def class_visits(self, label: int, begin: int, end: int) -> np.ndarray:
        """Visits `begin` to `end` of a class, counted from the start of training: the sample of each, and its round."""
        samples = self.classes[label]
        rounds = range(begin // len(samples), -(-end // len(samples)))
        order = [samples[rng_from(self.seed, number, label, "class order").permutation(len(samples))] for number in rounds]
        visits = np.stack([np.concatenate(order), np.repeat(rounds, len(samples))])
        first = rounds.start * len(samples)
        return visits[:, begin - first : end - first]
