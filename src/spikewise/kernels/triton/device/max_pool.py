# mypy: ignore-errors
"""Max pooling of channels-last images in Triton, alone and with neurons before it. WINDOW: size, stride and padding.

Forward notes in a byte which place of its window an output came from; the first of equal values wins, and NaN over all, as in
PyTorch.
"""

import triton
import triton.language as tl

from .neuron import charge, fires, load_neuron, reset


@triton.jit
def tile_pixels(number, width, channels, BLOCK_SIZE: tl.constexpr):
    """Where BLOCK_SIZE values of an image lie: offsets, channels, columns, rows; those of program `number` of this image."""
    at = number * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    channel = at % channels
    pixel = at // channels
    return at, channel, pixel % width, pixel // width


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width", "each"])
def max_pool_kernel(
    x, out, indices, height, width, out_height, out_width, channels, each,
    WINDOW: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """BLOCK_SIZE outputs of one image, for which there are `each` programs."""
    image = (tl.program_id(0) // each).to(tl.int64)
    at, channel, ox, oy = tile_pixels(tl.program_id(0) % each, out_width, channels, BLOCK_SIZE)
    mask = at < out_height * out_width * channels
    x += image * height * width * channels
    SIZE: tl.constexpr = WINDOW[0]
    STRIDE: tl.constexpr = WINDOW[1]
    PADDING: tl.constexpr = WINDOW[2]
    best = tl.zeros([BLOCK_SIZE], tl.float32)
    chosen = tl.full([BLOCK_SIZE], -1, tl.int32)
    for k in tl.static_range(SIZE * SIZE):
        row, column = oy * STRIDE - PADDING + k // SIZE, ox * STRIDE - PADDING + k % SIZE
        inside = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        value = tl.load(x + (row * width + column) * channels + channel, mask=inside, other=0.0).to(tl.float32)
        here = inside & ((chosen < 0) | (value > best) | (value != value))  # noqa: PLR0124, NaN
        best = tl.where(here, value, best)
        chosen = tl.where(here, k, chosen)
    to = image * out_height * out_width * channels + at
    tl.store(out + to, best.to(out.dtype.element_ty), mask=mask)
    tl.store(indices + to, chosen.to(tl.uint8), mask=mask)


@triton.jit
def unpool_grad(
    grad, indices, column, row, channel, mask, out_height, out_width, channels,
    WINDOW: tl.constexpr,
):  # fmt: skip
    """The gradient at inputs of one image: from every window that holds them and chose them, in the order of the outputs."""
    SIZE: tl.constexpr = WINDOW[0]
    STRIDE: tl.constexpr = WINDOW[1]
    PADDING: tl.constexpr = WINDOW[2]
    first_oy = (tl.maximum(row + PADDING - SIZE + 1, 0) + STRIDE - 1) // STRIDE
    first_ox = (tl.maximum(column + PADDING - SIZE + 1, 0) + STRIDE - 1) // STRIDE
    WINDOWS: tl.constexpr = (SIZE + STRIDE - 1) // STRIDE
    sum = tl.zeros(channel.shape, tl.float32)
    for k in tl.static_range(WINDOWS * WINDOWS):
        oy, ox = first_oy + k // WINDOWS, first_ox + k % WINDOWS
        ky, kx = row + PADDING - oy * STRIDE, column + PADDING - ox * STRIDE
        holds = mask & (ky >= 0) & (kx >= 0) & (oy < out_height) & (ox < out_width)
        at = (oy * out_width + ox) * channels + channel
        chosen = tl.load(indices + at, mask=holds, other=0).to(tl.int32)
        value = tl.load(grad + at, mask=holds, other=0.0).to(tl.float32)
        sum += tl.where(holds & (chosen == ky * SIZE + kx), value, 0.0)
    return sum


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width", "each"])
def max_pool_backward_kernel(
    grad, indices, grad_in, height, width, out_height, out_width, channels, each,
    WINDOW: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """BLOCK_SIZE inputs of one image, for which there are `each` programs."""
    image = (tl.program_id(0) // each).to(tl.int64)
    at, channel, column, row = tile_pixels(tl.program_id(0) % each, width, channels, BLOCK_SIZE)
    mask = at < height * width * channels
    outputs = image * out_height * out_width * channels
    sum = unpool_grad(grad + outputs, indices + outputs, column, row, channel, mask, out_height, out_width, channels, WINDOW)
    tl.store(grad_in + image * height * width * channels + at, sum.to(grad_in.dtype.element_ty), mask=mask)


@triton.jit(
    do_not_specialize=[
        "height", "width", "out_height", "out_width", "each", "steps", "images", "a", "b", "c", "v_th", "v_reset",
    ]
)  # fmt: skip
def fire_pool_kernel(
    y, scale, shift, coefficients, out, indices,
    height, width, out_height, out_width, channels, each, steps, images, a, b, c, v_th, v_reset,
    HARD_RESET: tl.constexpr, WINDOW: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """BLOCK_SIZE outputs of one still image at all time steps; every output computes the neurons of its window for itself."""
    image = (tl.program_id(0) // each).to(tl.int64)
    at, channel, ox, oy = tile_pixels(tl.program_id(0) % each, out_width, channels, BLOCK_SIZE)
    mask = at < out_height * out_width * channels
    y += image * height * width * channels
    scales, shifts = tl.load(scale + channel), tl.load(shift + channel)
    neuron = load_neuron(coefficients, a, b, c, v_th, v_reset)
    SIZE: tl.constexpr = WINDOW[0]
    STRIDE: tl.constexpr = WINDOW[1]
    PADDING: tl.constexpr = WINDOW[2]
    xs, vs, insides = (), (), ()
    for k in tl.static_range(SIZE * SIZE):
        row, column = oy * STRIDE - PADDING + k // SIZE, ox * STRIDE - PADDING + k % SIZE
        inside = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        value = tl.load(y + (row * width + column) * channels + channel, mask=inside, other=0.0).to(tl.float32)
        xs += (value * scales + shifts,)
        vs += (tl.zeros([BLOCK_SIZE], tl.float32) + v_reset,)
        insides += (inside,)
    first = tl.maximum(PADDING - oy * STRIDE, 0) * SIZE + tl.maximum(PADDING - ox * STRIDE, 0)
    to = image * out_height * out_width * channels + at
    for _ in range(steps):
        fired = tl.zeros([BLOCK_SIZE], tl.float32)
        chosen = first
        after = ()
        for k in tl.static_range(SIZE * SIZE):
            h = charge(vs[k], xs[k], neuron)
            s = fires(h, neuron)
            after += (reset(h, s, neuron, HARD_RESET),)
            here = insides[k] & (s > fired)  # the first spike wins
            fired = tl.where(here, 1.0, fired)
            chosen = tl.where(here, k, chosen)
        vs = after
        tl.store(out + to, fired.to(out.dtype.element_ty), mask=mask)
        tl.store(indices + to, chosen.to(tl.uint8), mask=mask)
        to += images.to(tl.int64) * out_height * out_width * channels
