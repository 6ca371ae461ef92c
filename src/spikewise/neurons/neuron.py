"""What all neurons have in common: threshold, reset, surrogate, and how a sequence runs through them."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..aliases import renamed_by_user
from ..kernels import SURROGATES, Backend, NeuronParams, get_backend, reference
from ..kernels.surrogate import heaviside
from ..wording import count, option, unknown_name


class StateCell:
    """Where a layer of neurons finds the state that the last frame left, and puts its own; None: at rest."""

    def __init__(self, state: Any = None):
        self.state = state


class Neuron(nn.Module):
    """A layer of spiking neurons: current goes in, spikes come out, one step after another.

    A kind of neuron is written in one of two ways. One whose membrane follows E1 says its `coefficients`; the fused kernels
    compute it. Any other says its `step`, and `initial_state` if that is more than a membrane at rest; its state may be a
    tensor, a named tuple, tuple or dict of tensors, and is streamed like a membrane. A step that fires by `spike` and resets by
    `reset_membrane` follows threshold, reset, surrogate and gradients as they are set (examples: ALIF, CUBA).

    Shapes:        x [T, N, ...] input current, in units of the threshold -> spikes [T, N, ...], 0.0 or 1.0
    v_th:          threshold; above the resting potential. A number, or a tensor of one value, or of one per channel;
                   an nn.Parameter is learned (on the reference). Checked when it is set or loaded; where learning brings one
                   down to rest, spikes are NaN, and so are the logits: a GPU is not waited for, and training stops
    v_reset:       membrane after a spike, and at rest (hard reset); None subtracts v_th instead and rests at 0 (soft reset)
    surrogate:     slope of the firing step in backward, a name in SURROGATES
    alpha:         the surrogate's slope parameter, > 0
    detach_reset:  whether gradients ignore the reset's dependence on the spike, as in the paper
    backend:       a name in BACKENDS, or "auto": what cannot be fused runs on the reference
    Source:        E1-E5 (docs/equations.md); Fang et al. 2021, sec. 3.1 and A.1
    Raises:        ValueError for a value outside its range
    """

    v_th: float | Tensor
    learned_settings: tuple[str, ...] = ()  # arguments that only say where learning starts

    def __init__(
        self,
        *,
        v_th: float | Tensor = 1.0,
        v_reset: float | None = 0.0,
        surrogate: str = "atan",
        alpha: float = 2.0,
        detach_reset: bool = True,
        backend: str = "auto",
    ):
        super().__init__()
        self.v_reset = v_reset
        self.v_th = v_th
        self.surrogate, self.alpha, self.detach_reset = surrogate, alpha, detach_reset
        self.backend = backend

    def __setattr__(self, name: str, value: Any) -> None:
        """Settings are checked whenever they are set; a threshold that is a tensor is a buffer, if not a parameter.

        Raises:  AttributeError for what is fixed when a neuron is made
        """
        fixed = getattr(type(self), name, None)
        if isinstance(fixed, property) and fixed.fset is None:
            kind = type(self).__name__
            raise AttributeError(
                f"{name} of {kind} cannot be set: make another one, layer.neuron = {kind}(...), or build the network anew"
            )
        if name == "surrogate":
            value = known_surrogate(value)
        elif name == "alpha":
            require_number("alpha", value)
            if not value > 0:
                raise ValueError(f"alpha={value} must be above 0; it is the slope parameter of the surrogate")
        elif name in ("detach_reset", "decay_input") and not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be True or False")
        elif name == "backend":
            get_backend(value)  # refuses here what cannot run
        elif name == "v_reset":
            if value is not None:
                require_number("v_reset", value)
            if hasattr(self, "v_th"):
                require_threshold(self.v_th, value)
        elif name == "v_th":
            require_threshold(value, self.v_reset)
            if any(name in place for place in (self.__dict__, self._parameters, self._buffers)):
                delattr(self, name)
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
                return
        super().__setattr__(name, value)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A threshold of a file is checked, too; `load_state_dict` raises RuntimeError then."""
        loaded, error_messages = state_dict.get(f"{prefix}v_th"), rest[-1]
        try:
            if isinstance(loaded, Tensor):
                require_threshold(loaded, self.v_reset)
        except ValueError as error:
            error_messages.append(f"{prefix}{error}")
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def threshold_holds(self) -> Tensor | None:
        """Whether all thresholds lie above rest, as a tensor; None of a number, which was checked when it was set."""
        return (self.v_th > self.v_rest).all() if isinstance(self.v_th, Tensor) else None

    def coefficients(self) -> tuple[float | Tensor, float | Tensor, float | Tensor]:
        """a, b, c of E1: numbers, or tensors that are learned."""
        raise NotImplementedError(f"{type(self).__name__} must say its coefficients a, b, c (E1), or its step")

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One time step: spikes [N, ...] of the current x [N, ...], and the state behind them.

        x is float32 or float64, also where the network computes in half precision.
        """
        spikes, v = reference.fire(x[None], self.params(x.shape), v=state)
        return spikes[0], v

    def spike(self, h: Tensor) -> Tensor:
        """Spikes [N, ...] of the charged membrane h [N, ...] (E2), with the surrogate's slope in backward (E4)."""
        return heaviside(h - per_channel(self.v_th, h.shape), self.surrogate, self.alpha)

    def reset_membrane(self, h: Tensor, s: Tensor) -> Tensor:
        """The membrane [N, ...] behind spikes s of the charged membrane h (E3), hard or soft as `v_reset` says."""
        return reference.reset(h, s, per_channel(self.v_th, h.shape), self.v_reset, self.detach_reset)

    def initial_state(self, x: Tensor) -> Any:
        """The state before the first step, of the current x [N, ...]; None: membranes at rest."""
        return None if self.is_ours("v_rest") else torch.full_like(x, self.v_rest)

    def fire(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Spikes of the currents x [T, N, ...] and the state they leave, starting from `state` (None: rest)."""
        require_currents(x)
        backend, holds, wide = self.backend_for(x), self.threshold_holds(), reference.compute_dtype(x.dtype)
        state = self.initial_state(x[0].to(wide)) if state is None else state  # never in half precision
        if self.is_ours("step"):
            spikes, state = backend.fire(x, self.params(x.shape[1:]), v=state)
        else:
            steps = []
            for x_t in x:
                s, state = self.checked_step(x_t.to(wide), state)
                steps.append(s.to(x.dtype))
            spikes = torch.cat(steps).unflatten(0, x.shape[:2])
        return spikes if holds is None else torch.where(holds, spikes, torch.nan), state

    def checked_step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`step`, where that is a user's own: refused, if it does not return a spike for every current, and a state."""
        result = self.step(x, state)
        fits = isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor) and result[0].shape == x.shape
        if not fits:
            raise ValueError(
                f"{type(self).__name__}.step must return spikes {list(x.shape)}, as its currents, and the state behind them"
            )
        return result

    def forward(self, x: Tensor, cell: StateCell | None = None) -> Tensor:
        """Spikes [T, N, ...] of the currents x [T, N, ...]; from rest, or from the state in `cell`, which is then replaced."""
        spikes, state = self.fire(x, None if cell is None else cell.state)
        if cell is not None:
            cell.state = state
        return spikes

    def params(self, shape: Sequence[int] = ()) -> NeuronParams:
        """All that a kernel must know of a neuron of E1; shape: of one time step [N, C, ...], for numbers per channel."""
        a, b, c, v_th = (per_channel(value, shape) for value in (*self.coefficients(), self.v_th))
        return NeuronParams(a, b, c, v_th, self.v_reset, self.surrogate, self.alpha, self.detach_reset)

    def fusible_params(self) -> NeuronParams | None:
        """`params`, where they tell all of this neuron, and the fused kernels know what they say; else None."""
        kind, own = type(self), self.__dict__
        for name in ("__call__", "forward", "fire", "step", "initial_state", "v_rest"):
            if name in own or getattr(kind, name) is not getattr(Neuron, name):
                return None
        params = self.params()
        return None if params.unfusible_reason() else params

    def is_ours(self, name: str) -> bool:
        """Whether an attribute of this neuron is as `Neuron` has it: neither its class nor the object has one of its own."""
        return getattr(type(self), name) is getattr(Neuron, name) and name not in vars(self)

    def backend_for(self, like: Tensor) -> Backend:
        """The kernels that run on such currents. Looked up, not kept: a network must stay copyable and picklable."""
        reason = self.params().unfusible_reason() if self.is_ours("step") else "its step is its own"
        if not reason or self.backend == "reference":
            return get_backend(self.backend, like)
        if self.backend != "auto":
            raise ValueError(
                f"the kernels {self.backend!r} cannot compute {self}: {reason}; use {option('backend', 'auto', 'reference')}"
            )
        return get_backend("reference", like)

    @property
    def v_rest(self) -> float:
        """The membrane before the first frame."""
        return 0.0 if self.v_reset is None else self.v_reset

    @property
    def time_constant(self) -> float | None:
        """The membrane's time constant where it is learned, in time steps; None elsewhere."""
        return None

    @torch.no_grad()
    def min_always_firing_current(self) -> float:
        """The smallest constant current, as float32 has it, that makes the neuron fire at every step (E9)."""
        v_th = float(self.v_th.detach().max()) if isinstance(self.v_th, Tensor) else self.v_th
        current = torch.tensor(v_th - self.v_rest, dtype=torch.float32, device="cpu")
        if not self.is_ours("coefficients"):
            current = current / float(self.coefficients()[1])
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
        return bool(self(current.expand(steps, 1)).all())

    def extra_repr(self) -> str:
        reset = "soft reset" if self.v_reset is None else f"v_reset={self.v_reset}"
        v_th = f"learned {list(self.v_th.shape)}" if isinstance(self.v_th, Tensor) and self.v_th.numel() > 1 else self.v_th
        return f"v_th={v_th}, {reset}, {self.surrogate} alpha={self.alpha}"


def per_channel(value: float | Tensor, shape: Sequence[int]) -> float | Tensor:
    """A vector of one number per channel, to be spread over [N, C, ...]; others as they are."""
    if not isinstance(value, Tensor) or value.dim() != 1 or value.numel() < 2 or len(shape) < 2:
        return value
    if len(value) != shape[1]:
        raise ValueError(f"a neuron has {len(value)} values, one per channel, but its currents {count(shape[1], 'channel')}")
    return value.reshape(-1, *[1] * (len(shape) - 2))


def known_surrogate(name: Any) -> str:
    """A name in SURROGATES, by its new word."""
    if callable(name):
        raise ValueError("surrogate is a function; add it to spikewise.SURROGATES under a name, and give the name")
    name = renamed_by_user(name)
    if not isinstance(name, str) or name not in SURROGATES:
        raise ValueError(unknown_name("surrogate", name, SURROGATES, own=True))
    return name


def require_number(name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        raise ValueError(f"{name} is a tensor; it is not learned: give a number")
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be a finite number" + (" or None" if name == "v_reset" else ""))


def require_threshold(v_th: float | Tensor, v_reset: float | None) -> None:
    """Refuse a threshold that is not above the resting potential."""
    rest = 0.0 if v_reset is None else v_reset
    if not isinstance(v_th, Tensor):
        require_number("v_th", v_th)
        lowest = v_th
    elif v_th.is_meta:
        return
    elif not v_th.is_floating_point() or not v_th.isfinite().all() or not v_th.numel():
        raise ValueError(f"v_th={v_th} must be finite floating-point numbers")
    else:
        lowest = float(v_th.detach().min())
    if not lowest > rest:
        raise ValueError(f"v_th={v_th} must lie above the resting potential {rest}, or it fires without input")


def require_currents(x: Tensor) -> None:
    if x.dim() < 2 or not x.is_floating_point() or not len(x):
        raise ValueError(f"neurons take floating-point currents [T, N, ...], T at least 1, given {list(x.shape)} {x.dtype}")
