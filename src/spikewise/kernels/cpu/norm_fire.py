"""The fused operation on the CPU: statistics, forward and backward, with the max pooling of a stem where one follows."""

import ctypes
import math

import torch
from torch import Tensor

from .. import ops, reference
from ..layout import empty, is_channels_last, planes_shape, pool_output_shape, require_shapes, to_layout
from ..packing import require_planes
from ..spec import FireBackwardOutput, FireGrads, FireOutput, FireSpec, FireTensors, GradSpec, NormParams
from .launch import (
    INT,
    BatchNormBackwardArgs,
    FirePoolArgs,
    NeuronStruct,
    NormFireArgs,
    NormStatsArgs,
    PlanesStruct,
    call_native,
    channel_layout,
    native_function,
    num_partial_rows,
    pointer,
    sum_rows,
    thread_team,
)
from .max_pool import pool_args


def norm_stats(y: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """As `reference.norm_stats`."""
    channels = y.shape[channel_axis]
    mean, variance = torch.empty(channels, device="cpu"), torch.empty(channels, device="cpu")
    if not y.numel():
        return mean.fill_(math.nan), variance.fill_(math.nan)
    if y.dim() in (4, 5) and channel_axis == y.dim() - 3:
        images = y if y.dim() == 4 else y.flatten(0, 1)
    else:  # any shape: as rows of channels
        axes = [axis for axis in range(y.dim()) if axis != channel_axis]
        images = y.permute(*axes, channel_axis).reshape(-1, channels, 1, 1)
    channels_last = is_channels_last(images)
    images = to_layout(images, channels_last)
    space = channel_layout(images.shape, channels_last)
    partial = torch.empty(num_partial_rows(space), 2, channels, dtype=torch.float64, device="cpu")
    args = NormStatsArgs(thread_team(), space, *map(pointer, (images, partial, mean, variance)))
    call_native("norm_stats", args, y.dtype)
    return mean, variance


def batch_norm_affine(y: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`norm_stats` of y [..., C, H, W], and `scale_and_shift` with them: [5, C], float32."""
    mean, variance = norm_stats(y, y.dim() - 3)
    return torch.stack([mean, variance, *reference.scale_and_shift(NormParams(weight, bias, eps, mean, variance))])


class Call:
    """Arguments of the C functions that forward and backward share, and what must stay alive until they are used."""

    def __init__(self, tensors: FireTensors, spec: FireSpec, grads: FireGrads | None = None):
        y = tensors.y
        self.steps, self.frame = spec.repeat_steps or y.shape[0], tuple(y.shape[-4:])
        self.sequence = (self.steps, *self.frame)
        require_shapes(tensors, spec, grads)
        self.channels_last = is_channels_last(y)
        if spec.pool is not None and not self.channels_last:
            raise ValueError("pooling within norm_fire takes still images with channels last; use norm_fire and max_pool")
        a, b, c = (spec.a, spec.b, spec.c) if tensors.coefficients is None else tensors.coefficients.tolist()
        plain = (a, b, c) == (1.0, 1.0, 0.0)
        rules = (spec.v_th, spec.v_rest, spec.v_rest, spec.alpha, spec.surrogate, spec.hard_reset, spec.detach_reset, plain)
        self.alive: list[Tensor | None] = [
            tensors.scale.contiguous(),
            tensors.shift.contiguous(),
            to_layout(y, self.channels_last),
        ]
        self.alive += [self.dense(tensors.shortcut), self.dense(tensors.current), self.dense(tensors.v)]
        self.args = NormFireArgs(
            thread_team(),
            channel_layout(self.frame, self.channels_last),
            NeuronStruct(a, b, c, *rules),
            self.steps,
            spec.repeat_steps > 0,
            spec.connect,
            *map(pointer, self.alive),
        )

    def dense(self, x: Tensor | None) -> Tensor | None:
        """In the layout of y."""
        return None if x is None else to_layout(x, self.channels_last)

    def point(self, **tensors: Tensor | None) -> None:
        """Let the arguments of these names point at tensors."""
        for name, tensor in tensors.items():
            if tensor is not None:
                self.alive.append(tensor)
                setattr(self.args, name, pointer(tensor))

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, wanted: bool = True) -> Tensor:
        return empty(shape, dtype, self.channels_last) if wanted else torch.empty(0, dtype=dtype, device="cpu")


def norm_fire(tensors: FireTensors, spec: FireSpec) -> FireOutput:
    call, y = Call(tensors, spec), tensors.y
    pooled = call.frame if spec.pool is None else pool_output_shape(call.frame, spec.pool)
    out = call.empty((call.steps, *pooled), y.dtype)
    v_last = call.empty(call.frame, torch.float32, spec.return_membrane)
    indices = call.empty(tuple(out.shape), torch.uint8, spec.pool is not None)
    if spec.num_planes:
        require_planes(spec.num_planes)
    planes = torch.empty(planes_shape(out.shape, spec.num_planes) if spec.num_planes else 0, dtype=torch.uint8, device="cpu")
    # channels last and, with pooling, so many that no two tasks share a byte
    writes_planes = bool(spec.num_planes) and call.channels_last and (spec.pool is None or call.frame[1] % 8 == 0)
    if writes_planes:
        call.args.planes = PlanesStruct(pointer(planes), planes.shape[2], spec.num_planes)
    call.point(out=out, v_last=v_last)
    if spec.pool is None:
        call_native("norm_fire", call.args, y.dtype)
    else:
        call_native("pooled", FirePoolArgs(call.args, pool_args(y, out[0], indices[0], spec.pool)), y.dtype)
    if spec.num_planes and not writes_planes:
        planes = ops.ops.pack(out, spec.num_planes)
    return FireOutput(out, v_last, planes, indices)


def norm_fire_backward(grads: FireGrads, tensors: FireTensors, spec: FireSpec, want: GradSpec) -> FireBackwardOutput:
    call, y, channels = Call(tensors, spec, grads), tensors.y, tensors.y.shape[-3]
    grad_out = to_layout(grads.grad_out.to(y.dtype), call.channels_last)
    grad_v_last = None if grads.grad_v_last is None else grads.grad_v_last.float()
    call.point(center=grads.mean.contiguous(), grad_out=grad_out, grad_v_last=call.dense(grad_v_last))
    grad_y = call.empty(tuple(y.shape), y.dtype)
    grad_shortcut = call.empty(call.sequence, y.dtype, want.want_shortcut)
    grad_current = call.empty(call.sequence, y.dtype, want.want_current)
    grad_v = call.empty(call.frame, torch.float32, want.want_v)
    args: ctypes.Structure = call.args
    if spec.pool is None:
        rows, tasks = num_partial_rows(args.space), native_function("norm_fire_tasks", INT)(ctypes.byref(args.space))
    else:
        assert grads.pool_indices is not None, "forward noted them"
        indices = to_layout(grads.pool_indices, channels_last=True)
        call.alive.append(indices)
        args = FirePoolArgs(call.args, pool_args(y, grad_out[0], indices[0], spec.pool))
        rows = tasks = native_function("pooled_tasks", INT)(ctypes.byref(args))
    partial = torch.empty(rows, 2, channels, device="cpu")
    partial_coefficients = torch.empty(tasks, 3, device="cpu") if want.want_coefficients else None
    call.point(partial=partial, partial_coefficients=partial_coefficients, grad_y=grad_y)
    call.point(grad_shortcut=grad_shortcut, grad_current=grad_current, grad_v=grad_v)
    if spec.pool is None:
        call_native("norm_fire_backward", args, y.dtype)
    else:
        args.fire = call.args
        call_native("pooled_backward", args, y.dtype)
    grad_coefficients = torch.empty(0, device="cpu") if partial_coefficients is None else sum_rows(partial_coefficients)
    channel_grads = reference.channel_grads(sum_rows(partial), tensors.scale, grads.inverse_std)
    return FireBackwardOutput(grad_y, grad_shortcut, grad_current, grad_v, grad_coefficients, channel_grads)


def batch_norm_backward_(grad: Tensor, y: Tensor, mean: Tensor, grad_mean: Tensor, grad_variance: Tensor, count: int) -> None:
    """Add to `grad`, in place, what flows back to y through the mean and variance of a batch of `count` values per channel."""
    channels_last = is_channels_last(y)
    images, dense = y if y.dim() == 4 else y.flatten(0, 1), to_layout(y, channels_last)
    rows = [row.contiguous() for row in (mean, grad_mean, grad_variance)]
    space = channel_layout(images.shape, channels_last)
    args = BatchNormBackwardArgs(thread_team(), space, count, *map(pointer, (dense, grad, *rows)))
    call_native("batch_norm_backward", args, y.dtype)
