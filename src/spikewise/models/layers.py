"""The layers all networks are made of: neurons, alone or behind a convolution and its norm, and pooling.

Public: what `__all__` names; docs/own_networks.md builds networks of it.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import NeuronParams, NormParams, get_backend
from ..kernels.connect import ConnectFn, max_connected_value, resolve_connect
from ..kernels.packing import known, note, note_planes
from ..kernels.reference import compute_dtype
from ..kernels.spec import PoolWindow
from ..neurons import Neuron, neuron_kind
from ..neurons.neuron import require_currents
from .calls import is_plain, takes_states
from .conv_norm import ConvNorm, ConvNormReLU, SpikeConv, SpikeConvNorm, is_usual_norm, norm_params, require_batch_norm_size
from .spiking_layer import NeuronFactory, SpikingLayer, framewise
from .stream_state import NeuronStates

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
    connect:       g of E6, a word of CONNECT or a function of (a, s); None where no shortcut arrives
    spikes:        a place for hooks: what the neurons fired, before it is connected
    shortcut:      s of E6 [T, N, C', H', W'], connected after the neurons (SEW)
    current:       added before the neurons (the shortcut of a Spiking block, E8)
    pool:          max pooling of the output
    Raises:        ValueError for an x that is no sequence, and no still image that is read `repeat_steps` times
    """

    conv_class = SpikeConv
    connect: Any  # the function, also where a word is set

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        connect: str | ConnectFn | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.add_neurons(neuron)
        self.connect = connect
        self.emit_planes = True  # not where pooling follows, whose outputs are packed

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "connect" and value is not None:
            value = resolve_connect(value)
        super().__setattr__(name, value)

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
