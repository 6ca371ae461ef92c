"""The kinds of neurons: IF, LIF, PLIF by their coefficients (E1); ALIF (E13), CUBA (E14) and STDB (E19) with more state."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..wording import unknown_name
from .neuron import Neuron, per_channel, require_number


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
        require_tau(self, "tau", tau)
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
        require_tau(self, "tau", tau)
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


class AdaptiveState(NamedTuple):
    """What ALIF remembers: its membrane, and its past spikes, faded; [N, ...] each."""

    v: Tensor
    adaptation: Tensor


class ALIF(LIF):
    """Adaptive LIF: every spike raises the threshold by `beta`, and the rise decays with `tau_adaptation`.

    tau, decay_input:  as in LIF
    beta:              rise of the threshold per spike, >= 0, in the units of the threshold; 0 is LIF
    tau_adaptation:    time constant of the rise, in time steps, > 1
    Source:            E13; Bellec et al., Long short-term memory and learning-to-learn in networks of spiking neurons, 2018
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        decay_input: bool = True,
        beta: float = 0.25,
        tau_adaptation: float = 8.0,
        **threshold,
    ):
        super().__init__(tau, decay_input=decay_input, **threshold)
        self.beta, self.tau_adaptation = beta, tau_adaptation

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "beta":
            require_number(name, value)
            if value < 0:
                raise ValueError(f"ALIF: beta={value} would lower the threshold with each spike; use 0 or more")
        elif name == "tau_adaptation":
            require_tau(self, name, value)
        super().__setattr__(name, value)

    def initial_state(self, x: Tensor) -> AdaptiveState:
        return AdaptiveState(torch.full_like(x, self.v_rest), torch.zeros_like(x))

    def step(self, x: Tensor, state: AdaptiveState) -> tuple[Tensor, AdaptiveState]:
        a, b, c = self.coefficients()
        h = a * state.v + b * x + c
        s = self.spike(h - self.beta * state.adaptation)
        return s, AdaptiveState(self.reset_membrane(h, s), (1 - 1 / self.tau_adaptation) * state.adaptation + s)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, tau_adaptation={self.tau_adaptation:g}, {super().extra_repr()}"


class SynapticState(NamedTuple):
    """What CUBA remembers: its synaptic current and its membrane, [N, ...] each."""

    current: Tensor
    v: Tensor


class CUBA(LIF):
    """Current-based LIF: input adds to a synaptic current that decays with `tau_synapse`; the current charges the membrane.

    tau, decay_input:  as in LIF; what is divided by tau is the synaptic current
    tau_synapse:       time constant of the current, in time steps, > 1
    Source:            E14; Gerstner et al., Neuronal Dynamics, 2014, sec. 1.3 and 3.1; Neftci et al. 2019
    """

    def __init__(self, tau: float = 2.0, *, decay_input: bool = True, tau_synapse: float = 2.0, **threshold):
        super().__init__(tau, decay_input=decay_input, **threshold)
        self.tau_synapse = tau_synapse

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tau_synapse":
            require_tau(self, name, value)
        super().__setattr__(name, value)

    def initial_state(self, x: Tensor) -> SynapticState:
        return SynapticState(torch.zeros_like(x), torch.full_like(x, self.v_rest))

    def step(self, x: Tensor, state: SynapticState) -> tuple[Tensor, SynapticState]:
        a, b, c = self.coefficients()
        current = (1 - 1 / self.tau_synapse) * state.current + x
        h = a * state.v + b * current + c
        s = self.spike(h)
        return s, SynapticState(current, self.reset_membrane(h, s))

    def extra_repr(self) -> str:
        return f"tau_synapse={self.tau_synapse:g}, {super().extra_repr()}"


class SpikeTimeState(NamedTuple):
    """What STDB remembers: its membrane, and the steps since its latest spike, infinite before the first; [N, ...] each."""

    v: Tensor
    since: Tensor


class STDB(IF):
    """Integrate-and-fire whose surrogate slope depends on the time of the latest spike, not on the membrane.

    slope:   at a step at which the neuron fires, above 0; alpha in the source
    decay:   by which it falls with each step since, above 0, per step; beta in the source
    Raises:  ValueError for a surrogate or an alpha of other neurons, which it does not use
    Source:  E19; Rathi et al., Enabling Deep Spiking Neural Networks with Hybrid Conversion and STDB, ICLR 2020

    What it fires is what IF fires: trained weights may be loaded with neuron="IF", which runs on the fused kernels.
    """

    def __init__(self, *, slope: float = 0.3, decay: float = 0.01, **threshold):
        super().__init__(**threshold)
        self.slope, self.decay = slope, decay
        default = IF()
        if (self.surrogate, self.alpha) != (default.surrogate, default.alpha):
            given = f"surrogate={self.surrogate!r}, alpha={self.alpha}"
            raise ValueError(f"STDB: {given} would change nothing; its slope is said by slope and decay: leave them out")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("slope", "decay"):
            require_number(name, value)
            if not value > 0:
                raise ValueError(f"STDB: {name}={value} must be above 0")
        super().__setattr__(name, value)

    def initial_state(self, x: Tensor) -> SpikeTimeState:
        return SpikeTimeState(torch.full_like(x, self.v_rest), torch.full_like(x, math.inf))

    def step(self, x: Tensor, state: SpikeTimeState) -> tuple[Tensor, SpikeTimeState]:
        h = state.v + x
        u = h - per_channel(self.v_th, h.shape)
        fires = u.detach() >= 0
        since = torch.where(fires, 0.0, state.since + 1)
        linear = (u - u.detach()).nan_to_num(0.0)  # 0, with a gradient of 1; NaN does not fire (E2)
        s = fires.to(h.dtype) + self.slope * torch.exp(-self.decay * since) * linear
        return s, SpikeTimeState(self.reset_membrane(h, s), since)

    def extra_repr(self) -> str:
        return f"slope={self.slope:g}, decay={self.decay:g}, {super().extra_repr()}"


def require_tau(neuron: Neuron, name: str, tau: Any) -> None:
    if not isinstance(tau, int | float) or not math.isfinite(tau) or not tau > 1:
        kind, advice = type(neuron).__name__, ", or IF for no leak" if name == "tau" else ""
        raise ValueError(f"{kind}: {name}={tau} time steps is outside its range; use a finite {name} > 1{advice}")


NEURONS: dict[str, type[Neuron]] = {"IF": IF, "LIF": LIF, "PLIF": PLIF, "ALIF": ALIF, "CUBA": CUBA, "STDB": STDB}
torch.serialization.add_safe_globals([AdaptiveState, SynapticState, SpikeTimeState])  # states of streams in files


def neuron_kind(neuron: str | Callable[..., Neuron]) -> Callable[..., Neuron]:
    """The class that a word of NEURONS stands for; a class or function stands for itself."""
    if callable(neuron) and not isinstance(neuron, nn.Module):
        return neuron
    if isinstance(neuron, nn.Module):
        raise ValueError(
            f"neuron is one {type(neuron).__name__}, but every layer makes its own: "
            "give a class, a name of spikewise.NEURONS or a function, such as lambda: LIF(tau=4.0)"
        )
    if not isinstance(neuron, str) or neuron not in NEURONS:
        raise ValueError(unknown_name("neuron", neuron, NEURONS, own=True))
    return NEURONS[neuron]
