import math

import pytest
import torch

from spikewise.kernels.surrogate import SURROGATES, heaviside

UNIT_AREA = ["atan", "sigmoid", "rectangular", "triangular", "erf"]

# slope at u = 0 and at u = -0.25 for alpha = 2, worked out by hand from E4
BY_HAND = {
    "atan": (1.0, 1 / (1 + (math.pi / 4) ** 2)),
    "sigmoid": (0.5, 2 * math.exp(0.5) / (1 + math.exp(0.5)) ** 2),
    "rectangular": (2.0, 0.0),  # the edge of the box, 1 / (2 alpha), lies outside
    "triangular": (2.0, 1.0),
    "fast_sigmoid": (1.0, 1 / 2.25),
    "erf": (2 / math.sqrt(math.pi), 2 / math.sqrt(math.pi) * math.exp(-0.25)),
    "scaled_atan": (1 + math.pi**2 / 4, (1 + math.pi**2 / 4) / (1 + math.pi**2 / 16)),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_slope_is_the_one_worked_out_by_hand(name):
    at_threshold, below = SURROGATES[name](torch.tensor([0.0, -0.25], dtype=torch.float64), 2.0).tolist()
    assert (at_threshold, below) == pytest.approx(BY_HAND[name], rel=1e-12)


@pytest.mark.parametrize("name", SURROGATES)
def test_slope_is_even_and_never_negative(name):
    u = torch.linspace(-3, 3, 301, dtype=torch.float64)
    slope = SURROGATES[name](u, 1.5)
    assert (slope >= 0).all()
    torch.testing.assert_close(slope, slope.flip(0))


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("name", UNIT_AREA)
def test_slope_has_unit_area_for_every_alpha(name, alpha):
    u = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    assert float(SURROGATES[name](u, alpha).sum()) * 1e-3 == pytest.approx(
        1, abs=6e-3
    )  # edges of a box count a step of the grid


def test_paper_values_of_atan():
    slope = SURROGATES["atan"](torch.tensor([0.0, -1.0], dtype=torch.float64), 2.0)
    assert slope.tolist() == pytest.approx([1.0, 0.092], abs=5e-4)  # sec. 4.1
    assert SURROGATES["atan"](torch.tensor([0.0]), 3.0).item() == pytest.approx(1.5)
    assert SURROGATES["atan"](torch.tensor([0.5]), 2.0).item() == pytest.approx(0.288, abs=5e-4)


def test_scaled_atan_has_slope_one_for_silence_and_for_a_spike():
    for alpha in (1.0, 2.0, 3.0):  # v_th = 0.5: h = 0 and h = 1 (A.5)
        assert SURROGATES["scaled_atan"](torch.tensor([-0.5, 0.5]), alpha).tolist() == pytest.approx([1, 1])


def test_step_fires_at_the_threshold_and_not_for_nan():
    below = -torch.finfo(torch.float32).tiny
    assert heaviside(torch.tensor([0.0, below, float("nan"), 1.0]), "atan", 2.0).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("name", SURROGATES)
def test_gradient_of_the_step_is_the_slope(name):
    u = torch.linspace(-1, 1, 9, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(9, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(heaviside(u, name, 2.0), u, upstream)
    assert torch.equal(gradient, upstream * SURROGATES[name](u.detach(), 2.0))
