"""The layers all networks are made of: a convolution, its batch norm, and what fires behind them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import choose_backend
from ..kernels.connect import Connect, most_of
from ..kernels.convolve import spike_conv
from ..kernels.packing import Spikes, packed, said_of, values_of
from ..kernels.reference import scale_and_shift
from ..neurons import Neuron
from .stream import Carry

NeuronFactory = Callable[[], Neuron]


def over_time(module: Callable[..., Tensor], x: Tensor | Spikes) -> Tensor:
    """Apply a stateless module to every frame at once: [T, N, ...] is seen as [T*N, ...] (no copy); [N, ...] as it is."""
    values = values_of(x)
    if values.dim() == 4:
        return module(x)
    return module(x.images() if isinstance(x, Spikes) else x.flatten(0, 1)).unflatten(0, values.shape[:2])


class SpikeConv(nn.Conv2d):
    """nn.Conv2d, by the convolution of `kernels`; square windows. (A bias is there once batch norm is folded.)"""

    def forward(self, input: Tensor | Spikes) -> Tensor:
        if self.bias is not None:
            return super().forward(values_of(input))
        return spike_conv(input, self.weight, self.stride[0], int(self.padding[0]))


class ConvNorm(nn.Module):
    """Convolution and batch norm: a current, no spikes.

    Shapes:  x [T, N, C, H, W] or [N, C, H, W] -> the same with `out_channels`, and H, W divided by `stride`
    """

    convolution = nn.Conv2d

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = self.convolution(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        return self.normalised(x)

    def convolved(self, x: Tensor | Spikes) -> Tensor:
        """What `conv` makes of every frame; a convolution that a user put in its place sees tensors."""
        return over_time(self.conv, x if isinstance(self.conv, SpikeConv) else values_of(x))

    def normalised(self, x: Tensor | Spikes) -> Tensor:
        y = self.convolved(x)
        if self.norm.training:
            require_two_values(y)
            if runs_again():
                return over_time(partial(normalise_again, self.norm), y)
        return over_time(self.norm, y)


class SpikeConvNorm(ConvNorm):
    """The same, of spikes."""

    convolution = SpikeConv

    def forward(self, x: Tensor | Spikes, carry: Carry | None = None) -> Tensor:
        return self.normalised(x)


class ConvNormReLU(ConvNorm):
    """Convolution, batch norm, and a rectifier: the layer of the ReLU twins. `current` is added before it."""

    def forward(self, x: Tensor, carry: Carry | None = None, *, current: Tensor | None = None) -> Tensor:
        y = self.normalised(x)
        return torch.relu(y if current is None else y + current)


class ConvNormFire(ConvNorm):
    """Convolution, batch norm, spiking neurons, and the connection with the shortcut: all of a block's last layer.

    Shapes:    x [T, N, C, H, W] -> spikes [T, N, C', H', W']; or a still image x [N, C, H, W], convolved and normalised
               once and read `repeat` times
    connect:   g of E6, a function of (a, s); None where no shortcut arrives
    shortcut:  s of E6 [T, N, C', H', W'], connected after the neurons (SEW)
    current:   added before the neurons (the shortcut of a Spiking block, E8)
    pool:      max pooling of the output
    pack:      hand the spikes on with their bit planes, as `Spikes`; so it does, too, where it was given `Spikes`
    observe:   called with the spikes before they are connected, when set (see probe.py)
    """

    convolution = SpikeConv

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        neuron: NeuronFactory,
        connect: Connect | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.neuron, self.connect = neuron(), connect
        self.name = ""  # set by the network: the key of this layer's membrane in a stream's state
        self.observe: Callable[[Tensor], None] | None = None
        self.emits = True  # bit planes, where it packs; not where max pooling follows, whose outputs are packed

    def forward(
        self,
        x: Any,  # Tensor or Spikes, as what is returned
        carry: Carry | None = None,
        *,
        shortcut: Tensor | Spikes | None = None,
        current: Tensor | Spikes | None = None,
        repeat: int = 0,
        pool: "MaxPool | None" = None,
        pack: bool = False,
    ) -> Any:
        y = self.convolved(x)
        norm, kernels, dynamics = self.norm, self.neuron.kernels(y), self.neuron.dynamics()
        packs, most = kernels.PACKS and (pack or isinstance(x, Spikes)), 0
        shortcut, current = (given.checked() if isinstance(given, Spikes) else given for given in (shortcut, current))
        if packs:
            most = most_of(self.connect, shortcut if shortcut is None else shortcut.most if isinstance(shortcut, Spikes) else 0)
        beside = (
            current if shortcut is None else shortcut if current is None else None
        )  # planes of one of them are kept, not of both
        shortcut, current = (None if given is None else values_of(given) for given in (shortcut, current))
        options = {
            "most": most if self.observe is None and self.emits else 0,
            "packed_in": beside.packed if isinstance(beside, Spikes) else None,
            "pool": pool.window if pool is not None and self.observe is None else None,
            "shortcut": shortcut,
            "connect": self.connect if self.observe is None else None,
            "current": current,
            "v": None if carry is None else carry.take(self.name, y.shape[-4:], torch.promote_types(y.dtype, torch.float32)),
            "repeat": repeat,
            "keep_v": carry is not None,
        }
        if norm.training:
            require_two_values(y)
            out, v, mean, variance = kernels.batch_norm_fire(y, norm.weight, norm.bias, norm.eps, dynamics, **options)
            move_running_estimates(norm, mean, variance, y.numel() // y.shape[-3])
        else:
            assert norm.running_mean is not None and norm.running_var is not None, "our norms always track running estimates"
            scale, shift = scale_and_shift(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
            out, v = kernels.norm_fire(y, scale, shift, dynamics, **options)
        if carry is not None:
            carry.keep(self.name, v)
        if self.observe is not None:
            self.observe(out)
            out = out if self.connect is None or shortcut is None else self.connect(out, shortcut)
            out = out if pool is None else over_time(pool, out)
            out = packed(out, most) if packs and self.emits else out
        return said_of(out, None, most) if packs and not isinstance(out, Spikes) else out


class MaxPool(nn.Module):
    """Max pooling by the kernels of `backend`. [N, C, H, W] -> [N, C, H', W']"""

    def __init__(self, size: int, stride: int, padding: int = 0, *, backend: str):
        super().__init__()
        self.window, self.backend = (size, stride, padding), backend

    def forward(self, x: Tensor) -> Tensor:
        return choose_backend(self.backend, x).max_pool(x, *self.window)

    def extra_repr(self) -> str:
        return "size={}, stride={}, padding={}".format(*self.window)


def pooled_over_time(pool: nn.Module, x: Tensor | Spikes) -> Tensor | Spikes:
    """Pool every frame; of `Spikes`, the largest value stays what it was under max pooling, and becomes unknown otherwise."""
    if isinstance(pool, nn.Identity):
        return x
    x = x.checked() if isinstance(x, Spikes) else x
    out = over_time(pool, values_of(x))
    return packed(out, x.most if isinstance(pool, MaxPool) else 0) if isinstance(x, Spikes) else out


POOLS = ("max", "avg")


def make_pool(kind: str, size: int, stride: int, padding: int, neuron: NeuronFactory | None) -> nn.Module:
    """Pooling of a kind of POOLS, by the kernels these neurons run on; None: by PyTorch."""
    if kind == "avg":
        return nn.AvgPool2d(size, stride, padding)
    return MaxPool(size, stride, padding, backend="reference" if neuron is None else neuron().backend)


@torch.no_grad()
def move_running_estimates(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running estimates by `momentum` towards this batch's; the running variance is the unbiased one.

    Not when backward runs a checkpointed forward again: once per step is enough.
    """
    if runs_again():
        return
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None, "our norms move by a fixed momentum"
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)
    norm.num_batches_tracked.add_(1)


def runs_again() -> bool:
    """Whether this forward runs inside backward, which computes checkpointed activations again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def normalise_again(norm: nn.BatchNorm2d, y: Tensor) -> Tensor:
    """What `norm` makes of y in training; its running estimates stay as they are."""
    assert norm.running_mean is not None and norm.running_var is not None, "our norms always track running estimates"
    copies = norm.running_mean.clone(), norm.running_var.clone()
    return F.batch_norm(y, *copies, norm.weight, norm.bias, True, 0.0, norm.eps)


def require_two_values(y: Tensor) -> None:
    if y.numel() // y.shape[-3] < 2:
        raise ValueError(
            f"batch norm in training needs at least 2 values per channel, given {list(y.shape)}; "
            "use a larger batch or image, or net.eval()"
        )
