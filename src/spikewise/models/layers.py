"""The layers all networks are made of: a convolution, its batch norm, and what fires behind them.

Public: what `__all__` names; docs/own_networks.md builds networks of it.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from ..kernels import NeuronParams, NormParams, get_backend
from ..kernels.connect import ConnectFn, max_connected_value
from ..kernels.packing import flatten_time, known, note, note_planes, unflatten_time
from ..kernels.reference import compute_dtype, norm_stats, scale_and_shift
from ..kernels.spec import PoolWindow
from ..kernels.spike_conv import spike_conv
from ..neurons import Neuron, StateCell, neuron_kind
from ..neurons.neuron import require_currents
from .stream import NeuronStates
from .threshold_norm import ThresholdNorm2d

__all__ = [
    "ConvNorm",
    "ConvNormFire",
    "ConvNormReLU",
    "Fire",
    "MaxPool",
    "NeuronFactory",
    "SpikeConv",
    "SpikeConvNorm",
    "SpikingLayer",
    "SpikingSequential",
    "framewise",
]

NeuronFactory = str | Callable[..., Neuron]  # a name in NEURONS, or a class or function that makes a layer's neurons


def framewise(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a stateless module to every frame at once.

    Shapes:  x [T, N, C, H, W] or [T, N, F], which the module sees as [T*N, ...] (no copy); images [N, C, H, W] as they are
    Raises:  ValueError for neurons, which must see time, and for a sequence of no frames
    """
    if isinstance(module, (Neuron, SpikingLayer)):  # no union of types: PyTorch 2.8 does not compile one
        raise ValueError(f"{type(module).__name__} has a state over time: call it with the sequence, not frame by frame")
    if x.dim() != 4 and not len(x):
        raise ValueError(f"given {list(x.shape)}, a sequence of no frames; T must be at least 1")
    return module(x) if x.dim() == 4 else unflatten_time(module(flatten_time(x)), x.shape[0])


class LayerOwner(nn.Module):
    """What holds layers of ours: in their place it takes only what is called as they are."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get("_modules", {}).get(name)
        if (
            isinstance(before, ConvNorm | SpikingLayer)
            and isinstance(value, nn.Module)
            and not takes_states(type(value).forward)
        ):
            raise ValueError(
                f"{name} is a {type(before).__name__}, called as layer(x, states=...); a {type(value).__name__} is not: "
                f"replace its parts ({', '.join(name for name, _ in before.named_children())}) instead"
            )
        super().__setattr__(name, value)


@functools.cache
def takes_states(forward: Callable) -> bool:
    """Whether a module with this forward hands on the states of neurons in a stream."""
    parameters = inspect.signature(forward).parameters.values()
    return any(parameter.name == "states" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def run_block(block: Any, x: Tensor, states: NeuronStates | None) -> Tensor:
    """A block of a stage, or what a user put in its place: PyTorch's own modules see every frame, others the sequence.

    Raises:  ValueError for a container of PyTorch's around spiking layers, which would take frames for samples
    """
    if isinstance(block, MaxPool):
        return pool_framewise(block, x)
    if isinstance(block, SpikeConv) or (isinstance(block, nn.Module) and type(block).__module__.startswith("torch.nn.")):
        if holds := next((part for part in block.modules() if isinstance(part, SpikingLayer | Neuron)), None):
            raise ValueError(
                f"a {type(block).__name__} of PyTorch's around a {type(holds).__name__} would hide time from it; "
                "use spikewise.models.layers.SpikingSequential"
            )
        return framewise(block, x)
    if states is not None and (not isinstance(block, nn.Module) or takes_states(type(block).forward)):
        return block(x, states=states)
    return block(x)


class SpikeConv(nn.Conv2d):
    """nn.Conv2d, by the convolution of `kernels`; square windows. (A bias is there once batch norm is folded.)"""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(input.device.type):
            raise ValueError(f"given {input.dtype}, but the weights are {self.weight.dtype}; use .to(...) or autocast")
        usual = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros" and self.bias is None
        if not usual or len({*self.stride}) > 1 or len({*self.padding}) > 1:
            return super().forward(input)
        return spike_conv(input, self.weight, self.stride[0], int(self.padding[0]))


class NormGroup(Protocol):
    """Batches whose batch norms take their statistics over all of them: here one of them meets the others.

    moves_statistics:  whether this one moves the running statistics
    """

    moves_statistics: bool

    def combine(self, norm: nn.Module, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, int | Tensor]:
        """Mean and biased variance [C] over all batches, given those of this one and the values per channel they are of;
        gradients flow through them to all batches.
        """


class ConvNorm(nn.Module):
    """Convolution and batch norm: a current, no spikes.

    Shapes:  x [T, N, C, H, W] or [N, C, H, W] -> the same with `out_channels`, and H, W divided by `stride`, rounded up
    kernel_size:  in pixels; the padding is kernel_size // 2, which keeps the size where it is odd
    conv, norm:   the parts, an nn.Conv2d without bias and an nn.BatchNorm2d, or what you put in their place
    """

    conv_class = nn.Conv2d
    norm: Any  # a batch norm, or what a user put in its place
    norm_group: NormGroup | None = None  # while the norm takes its statistics over more than what the layer is given

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = self.conv_class(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        return self.normalize(framewise(self.conv, x))

    def normalize(self, y: Tensor) -> Tensor:
        """What `norm` makes of every frame of y."""
        if self.norm.training and isinstance(self.norm, nn.modules.batchnorm._BatchNorm):
            if self.norm_group is not None:
                return self.normalize_in_group(y, self.norm_group)
            require_batch_norm_size(y)
        with buffers_kept(self.norm.modules()):
            return framewise(self.norm, y)

    def normalize_in_group(self, y: Tensor, group: NormGroup) -> Tensor:
        """What the norm, a usual one, makes of y with the statistics of all batches of the group."""
        mean, variance, count = group.combine(self.norm, *norm_stats(y, y.dim() - 3), y.numel() // y.shape[-3])
        self.move_running_stats(mean, variance, count)
        scale, shift, _ = scale_and_shift(norm_params(self.norm)._replace(mean=mean, variance=variance))
        return (y.to(scale.dtype) * scale[:, None, None] + shift[:, None, None]).to(y.dtype)

    def move_running_stats(self, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
        """Once per step: not where activations are computed again, and by one batch of a group."""
        if not is_recomputing() and (self.norm_group is None or self.norm_group.moves_statistics):
            update_running_stats(self.norm, mean, variance, count)


def norm_params(norm: nn.BatchNorm2d | ThresholdNorm2d) -> NormParams:
    """What a kernel must know of a usual norm, but its statistics."""
    weight = norm.scaled_weight if isinstance(norm, ThresholdNorm2d) else norm.weight
    return NormParams(weight, norm.bias, norm.eps)


def is_usual_norm(norm: nn.Module) -> bool:
    """Whether a norm is one of ours, as built and seen by nobody, so that others may compute what it would."""
    ours = is_plain(norm, nn.BatchNorm2d) or is_plain(norm, ThresholdNorm2d)
    return ours and norm.affine and norm.track_running_stats and norm.momentum is not None  # type: ignore[return-value]


class SpikeConvNorm(ConvNorm):
    """The same, of spikes."""

    conv_class = SpikeConv


class ConvNormReLU(ConvNorm):
    """Convolution, batch norm, and a rectifier: the layer of the ReLU twins. `current` is added before it."""

    def forward(self, x: Tensor, states: NeuronStates | None = None, *, current: Tensor | None = None) -> Tensor:
        y = self.normalize(framewise(self.conv, x))
        return torch.relu(y if current is None else y + current)


class SpikingLayer(nn.Module):
    """What layers with neurons have in common: how these are called, and where a stream keeps their state.

    neuron:     the neurons, a Neuron or what you put in its place
    spikes:     a place for hooks: what the neurons fired
    packing:    whether training may keep outputs for backward as bit planes
    state_key:  the name of these neurons' state in a stream: set when it begins
    """

    neuron: Any
    spikes: nn.Module
    state_key: str
    packing: bool

    def add_neurons(self, neuron: NeuronFactory) -> None:
        self.neuron, self.spikes, self.state_key, self.packing = neuron_kind(neuron)(), nn.Identity(), "", True

    def neuron_params(self) -> NeuronParams | None:
        """What a kernel must know of the neurons; None where they must be called."""
        return self.neuron.fusible_params() if isinstance(self.neuron, Neuron) and not is_watched(self.neuron) else None

    def call_neurons(self, x: Tensor, states: NeuronStates | None) -> Tensor:
        """What the neurons, whatever they are, make of the currents x."""
        cell = self.cell_of(states, x.shape[1:], x.dtype)
        if cell is None:
            return self.neuron(x)
        if not isinstance(self.neuron, Neuron) or not self.neuron.is_ours("forward"):
            raise ValueError(
                f"{self.state_key}: {type(self.neuron).__name__} has a forward of its own, without state between frames; "
                "to stream, let it be a spikewise Neuron that says its step"
            )
        return self.neuron(x, cell=cell)

    def cell_of(self, states: NeuronStates | None, shape: torch.Size, dtype: torch.dtype) -> StateCell | None:
        """Where these neurons find their state, of currents of this shape per time step [N, ...]; None without a stream."""
        return None if states is None else states.cell(self.state_key, shape, compute_dtype(dtype))


class Fire(SpikingLayer):
    """Spiking neurons on their own: currents go in, spikes come out.

    Where a convolution and its norm lie right before them, ConvNormFire is the faster layer.

    Shapes:  x [T, N, C, H, W] or [T, N, F] currents, in units of the threshold -> spikes of the same shape
    neuron:  a name in NEURONS, or a class or function that makes the neurons
    spikes:  a place for hooks
    Raises:  ValueError for currents of 2 or 4 dimensions, which mostly lack their time, and for integers
    """

    def __init__(self, neuron: NeuronFactory):
        super().__init__()
        self.add_neurons(neuron)

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        require_currents(x)
        if x.dim() in (2, 4):
            raise ValueError(
                f"given {list(x.shape)}; neurons take sequences [T, N, F] or [T, N, C, H, W]: of one image or vector, "
                "x.expand(T, *x.shape); of signals [T, N, C, L], x[..., None]"
            )
        params = self.neuron_params() if x.dim() == 5 else None  # the operator is of images
        if params is None:
            return self.spikes(self.call_neurons(x.to(compute_dtype(x.dtype)), states).to(x.dtype))
        backend, cell = get_backend(self.neuron.backend, x), self.cell_of(states, x.shape[1:], x.dtype)
        unseen = is_plain(self.spikes, nn.Identity)
        out, v_last, _, _ = backend.norm_fire(
            x,
            no_norm(x),
            params,
            v=None if cell is None else cell.state,
            return_membrane=cell is not None,
            packing=self.packing and self.training and backend.supports_packing and torch.is_grad_enabled(),
            emit_planes=unseen,
        )
        if cell is not None:
            cell.state = v_last
        out = self.spikes(out)
        found = known(out)
        return out if unseen or found is None else note_planes(out, found.max_value)


def no_norm(x: Tensor) -> NormParams:
    """The norm that leaves currents [..., C, H, W] as they are, to the bit."""
    filled = partial(torch.full, (x.shape[-3],), dtype=compute_dtype(x.dtype), device=x.device)
    return NormParams(
        filled(1.0), filled(0.0), 0.0, filled(0.0), filled(1.0)
    )  # each its own: torch.compile takes no tensor twice


class ConvNormFire(ConvNorm, SpikingLayer):
    """Convolution, batch norm, spiking neurons, and the connection with the shortcut: all of a block's last layer.

    The parts are modules, and are called as such where one of them is the user's own or carries a hook; else everything behind
    the convolution is one operator.

    Shapes:        x [T, N, C, H, W] -> spikes [T, N, C', H', W']; or a still image x [N, C, H, W], convolved and normalised
                   once and read `repeat_steps` times; padding is kernel_size // 2
    neuron:        a name in NEURONS, or a class or function that makes the neurons
    connect:       g of E6, a function of (a, s); None where no shortcut arrives
    spikes:        a place for hooks: what the neurons fired, before it is connected
    shortcut:      s of E6 [T, N, C', H', W'], connected after the neurons (SEW)
    current:       added before the neurons (the shortcut of a Spiking block, E8)
    pool:          max pooling of the output
    Raises:        ValueError for an x that is no sequence, and no still image that is read `repeat_steps` times
    """

    conv_class = SpikeConv

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        connect: ConnectFn | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.add_neurons(neuron)
        self.connect = connect
        self.emit_planes = True  # not where pooling follows, whose outputs are packed

    def forward(
        self,
        x: Tensor,
        states: NeuronStates | None = None,
        *,
        shortcut: Tensor | None = None,
        current: Tensor | None = None,
        repeat_steps: int = 0,
        pool: "MaxPool | None" = None,
    ) -> Tensor:
        if x.dim() != (4 if repeat_steps else 5):
            raise ValueError(
                f"given {list(x.shape)} and repeat_steps={repeat_steps}; this layer takes sequences [T, N, C, H, W], "
                "or a still image [N, C, H, W] with the number of steps for which it is read"
            )
        y = framewise(self.conv, x)
        params = self.fusible_params()
        if params is not None and is_plain(self.spikes, nn.Identity) and (pool is None or is_plain(pool, MaxPool)):
            return self.norm_fire(y, params, states, current, repeat_steps, shortcut, self.connect, pool, emit_planes=True)
        if params is not None:
            a = self.norm_fire(y, params, states, current, repeat_steps)
        else:
            a = self.norm_then_fire(y, states, current, repeat_steps)
        a = self.spikes(a)
        out = a if self.connect is None or shortcut is None else self.connect(a, shortcut)
        if (of_a := known(a)) is not None:
            bound = of_a.max_value if out is a else self.bound(shortcut)
            out = note_planes(out, bound) if self.emit_planes else note(out, bound)
        return out if pool is None else pool_framewise(pool, out)

    def fusible_params(self) -> NeuronParams | None:
        """What a kernel must know of the neurons, where norm and neurons are ours, as built: one operator computes what their
        calls would. None where they must be called.
        """
        return self.neuron_params() if is_usual_norm(self.norm) else None

    def norm_fire(
        self,
        y: Tensor,
        params: NeuronParams,
        states: NeuronStates | None,
        current: Tensor | None,
        repeat_steps: int,
        shortcut: Tensor | None = None,
        connect: ConnectFn | None = None,
        pool: "MaxPool | None" = None,
        emit_planes: bool = False,
    ) -> Tensor:
        """Norm and neurons as one operator, with connection and pooling where these are given."""
        norm, backend, cell = self.norm, get_backend(self.neuron.backend, y), self.cell_of(states, y.shape[-4:], y.dtype)
        stats = norm_params(norm)
        count: int | Tensor = y.numel() // y.shape[-3]
        if not norm.training:
            stats = stats._replace(mean=norm.running_mean, variance=norm.running_var)
        elif self.norm_group is None:
            require_batch_norm_size(y)
        else:
            y, mean, variance = backend.with_stats(y)
            mean, variance, count = self.norm_group.combine(norm, mean, variance, y.numel() // y.shape[-3])
            stats = stats._replace(mean=mean, variance=variance)
        out, v_last, mean, variance = backend.norm_fire(
            y,
            stats,
            params,
            shortcut=shortcut,
            connect=connect,
            current=current,
            v=None if cell is None else cell.state,
            repeat_steps=repeat_steps,
            return_membrane=cell is not None,
            pool=None if pool is None else pool.window,
            packing=self.packing and self.training and backend.supports_packing and torch.is_grad_enabled(),
            emit_planes=self.emit_planes and emit_planes,
        )
        if norm.training:
            self.move_running_stats(mean, variance, count)
        if cell is not None:
            cell.state = v_last
        return out

    def norm_then_fire(self, y: Tensor, states: NeuronStates | None, current: Tensor | None, repeat_steps: int) -> Tensor:
        """Norm and neurons one after the other, each called as a module: whatever they are, and whatever hooks they carry."""
        wide = compute_dtype(y.dtype)  # of the membranes; a norm whose weights are half takes half
        weights = [weight.dtype for weight in self.norm.parameters()]
        x = self.normalize(y if weights[:1] == [y.dtype] else y.to(wide)).to(wide)
        if repeat_steps:
            x = x.expand(repeat_steps, *x.shape)
        if current is not None:
            x = x + current.to(x.dtype)
        return self.call_neurons(x, states).to(y.dtype)

    def bound(self, shortcut: Tensor | None) -> int:
        """The largest value that the connection makes of spikes and this shortcut; 0: not known."""
        of_s = None if shortcut is None else known(shortcut)
        return max_connected_value(self.connect, 0 if of_s is None else of_s.max_value)


class MaxPool(nn.Module):
    """Max pooling by the kernels of `backend`, a name in BACKENDS or "auto".

    Shapes:  x [N, C, H, W] -> [N, C, H', W']
    """

    def __init__(self, size: int, stride: int, padding: int = 0, *, backend: str):
        super().__init__()
        self.window, self.backend = PoolWindow(size, stride, padding), backend

    def forward(self, x: Tensor) -> Tensor:
        out, found = get_backend(self.backend, x).max_pool(x, *self.window), known(x)
        return out if found is None else note(out, found.max_value)

    def extra_repr(self) -> str:
        return "size={}, stride={}, padding={}".format(*self.window)


class SpikingSequential(nn.Sequential):
    """nn.Sequential over time: our layers see the sequence and a stream's states, PyTorch's own modules every frame.

    Shapes:  x [T, N, ...] -> what the last module makes of it
    Raises:  ValueError for an nn.Sequential around spiking layers
    """

    def forward(self, x: Tensor, states: NeuronStates | None = None) -> Tensor:
        for module in self:
            x = run_block(module, x, states)
        return x


def pool_framewise(pool: nn.Module, x: Tensor) -> Tensor:
    """Pool every frame; under max pooling the largest value stays what it was, and becomes unknown otherwise."""
    if is_plain(pool, nn.Identity):
        return x
    out = framewise(pool, x)
    found = known(out)
    return out if found is None else note_planes(out, found.max_value)


POOL_KINDS = ("max", "avg")


def build_pool(kind: str, size: int, stride: int, padding: int, neuron: NeuronFactory | None) -> nn.Module:
    """Pooling of a kind of POOL_KINDS, by the kernels these neurons run on; None: by PyTorch."""
    if kind == "avg":
        return nn.AvgPool2d(size, stride, padding)
    return MaxPool(size, stride, padding, backend="reference" if neuron is None else neuron_kind(neuron)().backend)


@torch.no_grad()
def update_running_stats(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
    """Move the running statistics by `momentum` towards this batch's; the running variance is the unbiased one."""
    running_mean, running_var, batches, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    assert running_mean is not None and running_var is not None and batches is not None and momentum is not None
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    batches.add_(1)


def is_watched(module: nn.Module) -> bool:
    """Whether a call of this module is seen by hooks, its own or global ones."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or _has_any_global_hook()
        or "parametrizations" in module._modules
    )


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of this module is known to be one of `kind`, as built, and seen by nobody."""
    return type(module) is kind and "forward" not in module.__dict__ and not is_watched(module)


def is_recomputing() -> bool:
    """Whether this forward runs inside backward, which computes checkpointed activations again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@contextmanager
def buffers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While activations are computed again, these modules work on copies of their buffers: statistics move once per step."""
    before = [(part, dict(part._buffers)) for part in modules] if is_recomputing() else []
    for part, buffers in before:
        part._buffers.update({name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for part, buffers in before:
            part._buffers.update(buffers)


def require_batch_norm_size(y: Tensor) -> None:
    if y.numel() // y.shape[-3] < 2:
        raise ValueError(
            f"batch norm in training needs at least 2 values per channel, given {list(y.shape)}; "
            "use a larger batch or image, or net.eval()"
        )
