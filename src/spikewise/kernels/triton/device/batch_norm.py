# mypy: ignore-errors
"""Sums over rows, statistics of batch norm, and what they add to the gradient, in Triton.

The partition of rows into programs is a function of the shape, and every sum has a fixed order: results are the same bits each
time.
"""

import triton
import triton.language as tl

from .norm_fire import flat_tile, tile_channels


@triton.jit(do_not_specialize=["rows"])
def sum_rows_kernel(partial, sums, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Column sums of float32 [rows, columns] in double precision."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float64)
    for first in range(0, rows, ROWS):
        mask = (first + row < rows) & (column < columns)
        total += tl.load(partial + (first + row) * columns + column, mask=mask, other=0.0).to(tl.float64)
    tl.store(sums + column, tl.sum(total, 0)[None, :].to(tl.float32), mask=column < columns)


@triton.jit(do_not_specialize=["rows", "groups"])
def norm_stats_kernel(
    y, partial, rows, channels, blocks, groups, FP32_STEPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Mean and sum of squared deviations of `groups` times FP32_STEPS tiles: partial, float64 [programs / blocks, 2, channels].

    Values are centered before they are added, or sums would lose digits where the mean is large; by a value of the
    storage type, or the difference to each of the few values of a half-precision tensor would be rounded the same way
    every time. FP32_STEPS values are added in single precision, then go into double precision.
    """
    program = tl.program_id(0)
    column = program % blocks * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    inside = column < channels
    begin = (program // blocks).to(tl.int64) * groups * (FP32_STEPS * ROWS)
    here = tl.minimum(rows - begin, groups.to(tl.int64) * (FP32_STEPS * ROWS)).to(tl.int32)
    y += begin * channels
    some = here // ROWS  # rows from all over the stretch; where there are few, the first ones
    probed = row * tl.maximum(some, 1)
    probe = tl.load(y + probed.to(tl.int64) * channels + column, mask=(probed < here) & inside, other=0.0).to(tl.float32)
    center = (tl.sum(probe, 0)[None, :] / tl.minimum(here, ROWS)).to(y.dtype.element_ty).to(tl.float32)
    sums, squares = tl.zeros([ROWS, COLUMNS], tl.float64), tl.zeros([ROWS, COLUMNS], tl.float64)
    for group in range(groups):
        tiles = ()
        for i in tl.static_range(FP32_STEPS):
            at = (group * FP32_STEPS + i) * ROWS + row
            tiles += (tl.load(y + at.to(tl.int64) * channels + column, mask=(at < here) & inside, other=0.0),)
        sum, square = tl.zeros([ROWS, COLUMNS], tl.float32), tl.zeros([ROWS, COLUMNS], tl.float32)
        for i in tl.static_range(FP32_STEPS):
            off = tl.where((group * FP32_STEPS + i) * ROWS + row < here, tiles[i].to(tl.float32) - center, 0.0)
            sum += off
            square += off * off
        sums += sum.to(tl.float64)
        squares += square.to(tl.float64)
    count = here.to(tl.float64)
    off = tl.sum(sums, 0)[None, :] / count
    to = partial + program // blocks * (2 * channels) + column
    tl.store(to, center.to(tl.float64) + off, mask=inside)
    tl.store(to + channels, tl.sum(squares, 0)[None, :] - count * off * off, mask=inside)


@triton.jit(do_not_specialize=["rows", "parts", "each", "eps"])
def combine_stats_kernel(
    partial, weight, bias, stats, rows, channels, parts, each, eps, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Mean and biased variance of all rows from those of parts of `each` rows, the last one shorter: stats [2, channels].

    With a weight stats is [5, channels], and has the batch norm as well: its factor, its summand, 1 / standard deviation.
    Rounded as the reference does on the CPU.
    """
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    part = tl.arange(0, ROWS)[:, None]
    inside = column < channels
    center = tl.load(partial + column, mask=inside, other=0.0)  # of the first part: differences to it lose no digits
    sums, squares = tl.zeros([ROWS, COLUMNS], tl.float64), tl.zeros([ROWS, COLUMNS], tl.float64)
    for first in range(0, parts, ROWS):
        count = tl.minimum(rows - (first + part).to(tl.int64) * each, each).to(tl.float64)
        mask = (first + part < parts) & inside
        of_part = partial + (first + part) * (2 * channels) + column
        off = tl.load(of_part, mask=mask, other=0.0) - center
        square = tl.load(of_part + channels, mask=mask, other=0.0)
        sums += tl.where(mask, count * off, 0.0)
        squares += tl.where(mask, square + count * (off * off), 0.0)
    off = tl.sum(sums, 0)[None, :] / rows
    mean = (center + off).to(tl.float32)
    variance = (tl.sum(squares, 0)[None, :] / rows - off * off).to(tl.float32)
    variance = tl.where(variance < 0.0, 0.0, variance)
    tl.store(stats + column, mean, mask=inside)
    tl.store(stats + channels + column, variance, mask=inside)
    if weight is not None:
        inverse_std = tl.div_rn(tl.full([1, COLUMNS], 1.0, tl.float32), tl.sqrt_rn(variance + eps))
        scale = tl.load(weight + column, mask=inside, other=0.0) * inverse_std
        tl.store(stats + 2 * channels + column, scale, mask=inside)
        tl.store(stats + 3 * channels + column, tl.load(bias + column, mask=inside, other=0.0) - mean * scale, mask=inside)
        tl.store(stats + 4 * channels + column, inverse_std, mask=inside)


@triton.jit(do_not_specialize=["parts"])
def combine_grads_kernel(partial, scale, inverse_std, grads, parts, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """As `reference.channel_grads`, [4, channels], of the sums over the parts of partial, float32 [parts, 2, channels]."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    part = tl.arange(0, ROWS)[:, None]
    inside = column < channels
    sums, centered = tl.zeros([ROWS, COLUMNS], tl.float64), tl.zeros([ROWS, COLUMNS], tl.float64)
    for first in range(0, parts, ROWS):
        mask = (first + part < parts) & inside
        of_part = partial + (first + part) * (2 * channels) + column
        sums += tl.load(of_part, mask=mask, other=0.0).to(tl.float64)
        centered += tl.load(of_part + channels, mask=mask, other=0.0).to(tl.float64)
    scales = tl.load(scale + column, mask=inside, other=0.0)
    inverse = tl.load(inverse_std + column, mask=inside, other=0.0)
    grad_bias = tl.sum(sums, 0)[None, :].to(tl.float32)
    grad_weight = inverse * tl.sum(centered, 0)[None, :].to(tl.float32)
    tl.store(grads + column, grad_bias, mask=inside)
    tl.store(grads + channels + column, grad_weight, mask=inside)
    tl.store(grads + 2 * channels + column, -scales * grad_bias, mask=inside)
    tl.store(grads + 3 * channels + column, -(scales * inverse) * grad_weight * 0.5, mask=inside)


@triton.jit(do_not_specialize=["n", "share"])
def batch_norm_backward_kernel(
    grad, y, mean, grad_mean, grad_variance, n, channels, share, ALIGN: tl.constexpr, UNIT: tl.constexpr, GROUPS: tl.constexpr
):
    """In place: grad += (grad_mean + 2 grad_variance (y - mean)) share, where a channel has 1 / share values."""
    tile = flat_tile(n, UNIT, GROUPS)
    begin, _, offsets, mask = tile
    channel = tile_channels(tile, channels, ALIGN)
    at = begin + offsets
    off = tl.load(y + at, mask=mask, other=0.0).to(tl.float32) - tl.load(mean + channel)
    added = (tl.load(grad_mean + channel) + (2.0 * tl.load(grad_variance + channel)) * off) * share
    tl.store(grad + at, (tl.load(grad + at, mask=mask, other=0.0).to(tl.float32) + added).to(grad.dtype.element_ty), mask=mask)
