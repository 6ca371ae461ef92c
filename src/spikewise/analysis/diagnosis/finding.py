"""What a diagnosis reports."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One problem of a network.

    location:  block or layer; "network", "head" or "run" where it is none
    evidence:  numbers
    advice:    what to change
    """

    problem: str
    location: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.location}: {self.problem} ({self.evidence}); {self.advice}"
