"""What all neurons have in common: threshold, reset, surrogate, and how a sequence runs through them."""

import copy
import math
from types import ModuleType

import torch
from torch import Tensor, nn

from ..kernels import SURROGATES, Dynamics, choose_backend


class Neuron(nn.Module):
    """A layer of spiking neurons: current goes in, spikes come out, one step after another.

    Shapes:        x [T, N, ...] input current, in units of the threshold -> spikes [T, N, ...], 0.0 or 1.0
    v_th:          threshold; above the resting potential
    v_reset:       membrane after a spike, and at rest (hard reset); None subtracts v_th instead and rests at 0 (soft reset)
    surrogate:     slope of the firing step in backward, a name in SURROGATES
    alpha:         the surrogate's slope parameter, > 0
    detach_reset:  whether gradients ignore the reset's dependence on the spike, as in the paper
    backend:       a name in BACKENDS, or "auto"
    Source:        E1-E5 (docs/equations.md); Fang et al. 2021, sec. 3.1 and A.1
    Raises:        ValueError for a value outside its range
    """

    def __init__(
        self,
        *,
        v_th: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate: str = "atan",
        alpha: float = 2.0,
        detach_reset: bool = True,
        backend: str = "auto",
    ):
        super().__init__()
        self.v_th, self.v_reset = v_th, v_reset
        self.surrogate, self.alpha, self.detach_reset = surrogate, alpha, detach_reset
        self.backend = backend
        choose_backend(backend)  # refuses here what cannot run
        if not math.isfinite(v_th) or not math.isfinite(self.rest) or not math.isfinite(alpha):
            raise ValueError(f"v_th={v_th}, v_reset={v_reset} and alpha={alpha} must be finite numbers (v_reset may be None)")
        if not v_th > self.rest:
            raise ValueError(f"v_th={v_th} must lie above the resting potential {self.rest}, or the neuron fires without input")
        if not isinstance(surrogate, str) or surrogate not in SURROGATES:
            raise ValueError(f"no surrogate named {surrogate!r}; known: {', '.join(SURROGATES)}")
        if not alpha > 0:
            raise ValueError(f"alpha={alpha} must be above 0; it is the slope parameter of the surrogate {surrogate!r}")

    def kernels(self, like: Tensor) -> ModuleType:
        """The backend that runs on such tensors. Looked up, not kept: a network must stay copyable and picklable."""
        return choose_backend(self.backend, like)

    @property
    def rest(self) -> float:
        """The membrane before the first frame."""
        return 0.0 if self.v_reset is None else self.v_reset

    def coefficients(self) -> tuple[float | Tensor, float | Tensor, float | Tensor]:
        """a, b, c of E1: what a kind of neuron is."""
        raise NotImplementedError(f"{type(self).__name__} must say its coefficients a, b, c (E1)")

    def dynamics(self) -> Dynamics:
        """All that a kernel must know of this neuron."""
        return Dynamics(*self.coefficients(), self.v_th, self.v_reset, self.surrogate, self.alpha, self.detach_reset)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, N, ...] of the currents x [T, N, ...], starting from rest."""
        require_sequence(x)
        return self.kernels(x).fire(x, self.dynamics(), keep_v=False)[0]

    def run(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes of the currents x [T, N, ...] and the membrane [N, ...] they leave, starting from `v` (None: rest)."""
        require_sequence(x)
        return self.kernels(x).fire(x, self.dynamics(), v=v)

    @torch.no_grad()
    def firing_current(self) -> float:
        """The smallest constant current, as float32 has it, that makes the neuron fire at every step (E9)."""
        _, b, _ = self.coefficients()
        current = torch.tensor((self.v_th - self.rest) / float(b), dtype=torch.float32, device="cpu")
        up = torch.tensor(float("inf"), device="cpu")
        for _ in range(64):
            # a float32 network may be turned into float64 later, its coefficients with it
            if all(
                copy.deepcopy(self).to("cpu", dtype).always_fires(current.to(dtype)) for dtype in (torch.float32, torch.float64)
            ):
                return float(current)
            current = torch.nextafter(current, up)
        raise ValueError(f"{self} does not fire at every step for any constant current near {float(current)}")

    def always_fires(self, current: Tensor, steps: int = 16) -> bool:
        """Whether `steps` steps of this constant current all fire."""
        currents = current.expand(steps, 1)
        spikes, _ = self.kernels(currents).fire(currents, self.dynamics(), keep_v=False)
        return bool(spikes.all())

    def extra_repr(self) -> str:
        reset = "soft reset" if self.v_reset is None else f"v_reset={self.v_reset}"
        return f"v_th={self.v_th}, {reset}, {self.surrogate} alpha={self.alpha}"


def require_sequence(x: Tensor) -> None:
    if x.dim() < 2 or not x.is_floating_point():
        raise ValueError(f"neurons take floating-point currents [T, N, ...], given {list(x.shape)} {x.dtype}")
