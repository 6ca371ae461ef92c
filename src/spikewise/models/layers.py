"""The layers all networks are made of: a convolution, its batch norm, and what fires behind them."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import choose_backend
from ..kernels.connect import Connect
from ..kernels.convolve import convolve
from ..kernels.reference import scale_and_shift
from ..neurons import Neuron
from .stream import Carry

NeuronFactory = Callable[[], Neuron]


def over_time(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a stateless module to every frame at once: [T, N, ...] is seen as [T*N, ...] (no copy); [N, ...] as it is."""
    if x.dim() == 4:
        return module(x)
    return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class SpikeConv(nn.Conv2d):
    """nn.Conv2d, by the convolution of `kernels`; square windows without a bias."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is not None:
            return super()._conv_forward(input, weight, bias)
        return convolve(input, weight, self.stride[0], int(self.padding[0]))


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
        y = over_time(self.conv, x)
        if self.training:
            require_two_values(y)
            if runs_again():
                return over_time(partial(normalise_again, self.norm), y)
        return over_time(self.norm, y)


class ConvNormReLU(ConvNorm):
    """Convolution, batch norm, and a rectifier: the layer of the ReLU twins. `current` is added before it."""

    def forward(self, x: Tensor, carry: Carry | None = None, *, current: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        return torch.relu(y if current is None else y + current)


class ConvNormFire(ConvNorm):
    """Convolution, batch norm, spiking neurons, and the connection with the shortcut: all of a block's last layer.

    Shapes:    x [T, N, C, H, W] -> spikes [T, N, C', H', W']; or a still image x [N, C, H, W], convolved and normalised
               once and read `repeat` times
    connect:   g of E6, a function of (a, s); None where no shortcut arrives
    shortcut:  s of E6 [T, N, C', H', W'], connected after the neurons (SEW)
    current:   added before the neurons (the shortcut of a Spiking block, E8)
    pool:      max pooling of the output
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

    def forward(
        self,
        x: Tensor,
        carry: Carry | None = None,
        *,
        shortcut: Tensor | None = None,
        current: Tensor | None = None,
        repeat: int = 0,
        pool: "MaxPool | None" = None,
    ) -> Tensor:
        y = over_time(self.conv, x)
        options = {
            "pool": pool.window if pool is not None and self.observe is None else None,
            "shortcut": shortcut,
            "connect": self.connect if self.observe is None else None,
            "current": current,
            "v": None if carry is None else carry.take(self.name, y.shape[-4:], torch.promote_types(y.dtype, torch.float32)),
            "repeat": repeat,
            "keep_v": carry is not None,
        }
        norm, kernels, dynamics = self.norm, self.neuron.kernels(y), self.neuron.dynamics()
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
        return out


class MaxPool(nn.Module):
    """Max pooling by the kernels of `backend`. [N, C, H, W] -> [N, C, H', W']"""

    def __init__(self, size: int, stride: int, padding: int = 0, *, backend: str):
        super().__init__()
        self.window, self.backend = (size, stride, padding), backend

    def forward(self, x: Tensor) -> Tensor:
        return choose_backend(self.backend, x).max_pool(x, *self.window)

    def extra_repr(self) -> str:
        return "size={}, stride={}, padding={}".format(*self.window)


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
    return torch._C._current_graph_task_id() != -1


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
