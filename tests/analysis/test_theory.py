"""Gradients of identity stacks are what the paper's equations say, as far as they are right."""

import math

import pytest
import torch

from spikewise.analysis.theory import gradient_norm_ratio, gradient_norm_ratio_as_printed, slope_product, slopes
from spikewise.models.residual import SEWBlock, SpikingBlock
from spikewise.neurons import IF


def stack(block, k, **options):
    """k blocks that are the identity, in evaluation mode, float64."""
    v_th, alpha = options.pop("v_th"), options.pop("alpha")
    blocks = [
        block(3, 3, neuron=lambda **_: IF(v_th=v_th, alpha=alpha, backend="reference"), **options).double() for _ in range(k)
    ]
    for identity in blocks:
        identity.zero_init_()
    return torch.nn.Sequential(*blocks).eval()


def gradient_through(net, spikes, upstream):
    spikes = spikes.clone().requires_grad_()
    out = net(spikes)
    assert torch.equal(out, spikes)
    return torch.autograd.grad(out, spikes, upstream)[0]


@pytest.fixture
def spikes():
    return (torch.rand(1, 4, 3, 8, 8, dtype=torch.float64) < 0.3).double()


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("v_th", "alpha"), [(1.0, 2.0), (0.5, 2.0), (1.0, 3.0), (0.7, 1.3)])
def test_spiking_blocks_multiply_slopes_in_one_time_step(k, v_th, alpha, spikes):
    """Eq. 8."""
    upstream = torch.randn_like(spikes)
    gradient = gradient_through(stack(SpikingBlock, k, v_th=v_th, alpha=alpha), spikes, upstream)
    expected = upstream * slope_product(spikes, k, *slopes(v_th, "atan", alpha))
    assert float((gradient - expected).norm()) < 1e-6 * float(expected.norm())


def test_over_time_the_product_of_slopes_is_that_of_the_last_step_only():
    """Eq. 8's limit: to earlier steps the membranes of silent neurons bring gradients, too."""
    spikes = (torch.rand(3, 4, 3, 8, 8, dtype=torch.float64) < 0.3).double()
    upstream = torch.randn_like(spikes)
    gradient = gradient_through(stack(SpikingBlock, 3, v_th=1.0, alpha=2.0), spikes, upstream)
    product = upstream * slope_product(spikes, 3, *slopes(1.0))
    torch.testing.assert_close(gradient[-1], product[-1], rtol=1e-6, atol=1e-9)
    assert float((gradient[0] - product[0]).norm()) > 0.1 * float(product[0].norm())
    two = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1, 1).expand(2, 1, 3, 1, 1)
    upstream = torch.randn_like(two)
    gradient = gradient_through(stack(SpikingBlock, 1, v_th=1.0, alpha=2.0), two, upstream)
    p, q = slopes(1.0)
    torch.testing.assert_close(gradient[0], q * upstream[0] + p * upstream[1])


@pytest.mark.parametrize("connect", ["ADD", "AND", "IAND"])
@pytest.mark.parametrize("T", [1, 4])
def test_sew_blocks_pass_gradients_unchanged(connect, T):
    """Eq. 11, at every time step."""
    spikes = (torch.rand(T, 4, 3, 8, 8, dtype=torch.float64) < 0.3).double()
    upstream = torch.randn_like(spikes)
    gradient = gradient_through(stack(SEWBlock, 6, v_th=1.0, alpha=2.0, connect=connect), spikes, upstream)
    assert float((gradient - upstream).norm()) < 1e-6 * float(upstream.norm())


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize(("v_th", "alpha", "rate"), [(1.0, 2.0, 0.2), (0.5, 2.0, 0.3), (1.0, 3.0, 0.1)])
def test_norms_shrink_as_the_corrected_equation_says(k, v_th, alpha, rate):
    """Eq. 15 for random spikes and gradients independent of them, measured on blocks."""
    spikes = (torch.rand(1, 40, 3, 32, 32, dtype=torch.float64) < rate).double()
    upstream = torch.randn_like(spikes)
    gradient = gradient_through(stack(SpikingBlock, k, v_th=v_th, alpha=alpha), spikes, upstream)
    measured, p_q = float(gradient.norm() / upstream.norm()), slopes(v_th, "atan", alpha)
    assert measured == pytest.approx(gradient_norm_ratio(rate, k, *p_q), rel=0.01)
    assert gradient_norm_ratio_as_printed(rate, k, *p_q, n=spikes.numel()) > 10 * measured


def test_slopes_of_the_paper():
    """Sec. 4.1's numbers; and the printed factor that is wrong."""
    assert slopes(1.0) == pytest.approx((1.0, 0.092), abs=5e-4)
    assert slopes(0.5) == pytest.approx((0.288, 0.288), abs=5e-4)
    assert slopes(1.0, alpha=3.0)[0] == pytest.approx(1.5)
    assert slopes(0.5, "scaled_atan") == pytest.approx((1.0, 1.0))
    assert gradient_norm_ratio_as_printed(0.3, 3, *slopes(0.5), n=100_000) == pytest.approx(49.0, rel=0.01)
    assert gradient_norm_ratio(0.3, 3, *slopes(0.5)) * math.sqrt(100_000) == pytest.approx(7.6, rel=0.01)
