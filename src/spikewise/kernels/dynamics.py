"""What a kernel must know of a neuron."""

from typing import NamedTuple

from torch import Tensor


class Dynamics(NamedTuple):
    """The coefficients of E1 and the rules of E2-E4: all that tells one neuron from another.

    a, b, c:       numbers, or tensors of one element when they are learned (PLIF)
    v_th:          threshold, above the resting potential
    v_reset:       membrane after a spike; None subtracts v_th instead (soft reset)
    surrogate:     a name in SURROGATES; alpha, its slope parameter, > 0
    detach_reset:  whether backward treats the reset's spike as a constant
    """

    a: float | Tensor
    b: float | Tensor
    c: float | Tensor
    v_th: float = 1.0
    v_reset: float | None = 0.0
    surrogate: str = "atan"
    alpha: float = 2.0
    detach_reset: bool = True

    @property
    def rest(self) -> float:
        """The membrane before the first frame."""
        return 0.0 if self.v_reset is None else self.v_reset
