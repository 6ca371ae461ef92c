"""What kernels are given in tests, and what their answers are held against, in C as in Triton."""

import torch
import torch.nn.functional as F

from spikewise.kernels import NormParams

LAYOUTS = {"last": torch.channels_last, "first": torch.contiguous_format}
WINDOWS = [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1)]


def given_norm(scale, shift):
    """A batch norm that multiplies by `scale` and adds `shift`, exactly."""
    return NormParams(scale, shift, 0.0, torch.zeros_like(shift), torch.ones_like(scale))


def dyadic(*shape):
    """Numbers whose sums are exact in any order."""
    return torch.randint(-48, 64, shape) / 16


def laid(x, layout):
    """[T, N, C, H, W] or [N, C, H, W] in this layout."""
    images = x if x.dim() == 4 else x.flatten(0, 1)
    return images.contiguous(memory_format=LAYOUTS[layout]).unflatten(0, x.shape[:-3])


def leaves(dtype, *tensors):
    """Copies that need gradients."""
    return [t.detach().to(dtype, copy=True).requires_grad_() for t in tensors]


def relative(got, expected):
    return float((got.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


def assert_close_gradients(got, rounded, exact, tolerance=1e-5):
    """Each within the tolerance of the exact one's norm, or four times as far off as the reference in float32."""
    for one, reference_one, exact_one in zip(got, rounded, exact, strict=True):
        assert (one is None) == (exact_one is None)
        if one is not None:
            assert relative(one, exact_one) <= max(tolerance, 4 * relative(reference_one, exact_one))


def assert_statistics_within_2_ulp(norm_stats, shape, prepare):
    """Of float64's, for numbers near 0 and far from it."""
    ulp = torch.finfo(torch.float32).eps
    for offset, spread in ((0.0, 1.0), (100.0, 1.0), (-3.0, 0.01)):
        y = prepare(torch.randn(shape) * spread + offset)
        mean, variance = norm_stats(y, 2)
        exact_variance, exact_mean = torch.var_mean(y.double(), (0, 1, 3, 4), correction=0)
        assert ((mean - exact_mean).abs() <= 2 * ulp * exact_mean.abs().clamp(min=spread)).all()
        assert ((variance - exact_variance).abs() <= 2 * ulp * exact_variance.clamp(min=1e-30)).all()


def assert_pools_as_torch(pool, shape, window, dtype):
    """`pool` returns the output for images, and a function from the gradient there to the one at the images."""
    for images in ((torch.rand(shape) < 0.3).to(dtype), torch.randint(0, 5, shape).to(dtype), torch.randn(shape).to(dtype)):
        images[0, 0, 0, 0] = torch.nan
        x = laid(images, "last").requires_grad_()
        out, backward = pool(x)
        expected = F.max_pool2d(x, *window)
        assert torch.equal(out.nan_to_num(9), expected.nan_to_num(9))
        upstream = torch.randint(-8, 8, out.shape).to(dtype)
        assert torch.equal(backward(upstream), torch.autograd.grad(expected, x, upstream)[0])
