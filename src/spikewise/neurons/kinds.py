"""IF, LIF, PLIF: the coefficients that tell one neuron from another (E1)."""

import math

import torch
from torch import Tensor, nn

from .neuron import Neuron


class IF(Neuron):
    """Integrate-and-fire: the membrane adds up its input and forgets nothing until it fires.

    Source:  E1 with a = 1, b = 1, c = 0; Fang et al. 2021, Eq. 4
    """

    def coefficients(self):
        return 1.0, 1.0, 0.0


class LIF(Neuron):
    """Leaky integrate-and-fire: the membrane forgets its past with time constant `tau`.

    tau:          membrane time constant in time steps, > 1; at tau = 1 nothing would be remembered
    decay_input:  whether the input is divided by tau, too, as in the paper
    Source:       E1 with a = 1 - 1/tau, b = 1/tau (or 1), c = v_rest/tau; Fang et al. 2021, Eq. 5
    """

    def __init__(self, tau: float = 2.0, *, decay_input: bool = True, **threshold):
        super().__init__(**threshold)
        require_tau("LIF", tau)
        self._tau, self.decay_input = tau, decay_input

    @property
    def tau(self) -> float:
        """The time constant, in time steps; fixed, and not to be assigned: PLIF learns its own."""
        return self._tau

    @property
    def leak(self) -> float:
        """The share of the membrane that a step forgets."""
        return 1 / self._tau

    def coefficients(self):
        leak = self.leak
        return 1 - leak, leak if self.decay_input else 1.0, leak * self.v_rest

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, decay_input={self.decay_input}, {super().extra_repr()}"


class PLIF(Neuron):
    """Parametric LIF: the layer learns its own time constant, tau = 1 / sigmoid(w).

    tau:          time constant at the start, in time steps, > 1
    decay_input:  as in LIF
    w:            the learned parameter, shape [1], -ln(tau - 1) at the start
    Source:       E1, E5; Fang et al., Incorporating Learnable Membrane Time Constant, ICCV 2021
    """

    learned_settings = ("tau",)

    def __init__(self, tau: float = 2.0, *, decay_input: bool = True, **threshold):
        super().__init__(**threshold)
        require_tau("PLIF", tau)
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.tensor([-math.log(tau - 1)]))

    @property
    def tau(self) -> float:
        """The time constant now, in time steps."""
        return 1 / float(torch.sigmoid(self.w.detach().cpu().double()))

    @property
    def time_constant(self) -> float:
        return self.tau

    def coefficients(self):
        w: Tensor = self.w if self.w.dtype == torch.float64 else self.w.float()
        leak = torch.sigmoid(w)
        return 1 - leak, leak if self.decay_input else 1.0, leak * self.v_rest

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, decay_input={self.decay_input}, {super().extra_repr()}"


def require_tau(kind: str, tau: float) -> None:
    if not (math.isfinite(tau) and tau > 1):
        raise ValueError(f"{kind}: tau={tau} time steps is outside its range; use a finite tau > 1, or IF for no leak")


NEURONS: dict[str, type[Neuron]] = {"IF": IF, "LIF": LIF, "PLIF": PLIF}
