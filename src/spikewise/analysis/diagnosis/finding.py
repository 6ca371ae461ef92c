"""What a diagnosis says."""

from typing import NamedTuple

from torch import nn

TRAINED = 20  # steps after which a branch should have left the identity, and estimates should have settled


class Finding(NamedTuple):
    """One disease.

    where:     block or layer; "network" or "run" where it is no single one's
    evidence:  numbers
    advice:    what to change
    """

    disease: str
    where: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.disease} ({self.evidence}); {self.advice}"


def norms_of(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}


def batches_seen(norm: nn.BatchNorm2d) -> int:
    return 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked)


def never_moved(norm: nn.BatchNorm2d) -> bool:
    """Whether running estimates are what they were at the start: mean 0, variance 1."""
    assert norm.running_mean is not None and norm.running_var is not None, "our norms always track running estimates"
    return not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())


def steps_trained(net: nn.Module) -> int:
    """Training steps that its norms have seen; of files that don't count them, TRAINED where most estimates have moved."""
    norms = list(norms_of(net).values())
    steps = max((batches_seen(norm) for norm in norms), default=0)
    if steps == 0 and sum(not never_moved(norm) for norm in norms) > len(norms) / 2:
        return TRAINED
    return steps
