"""STDB (E19): spikes of IF, and the slope of the latest spike's time, against a plain loop in float64."""

import math

import pytest
import torch

from spikewise.neurons import IF, STDB


def by_hand(x, upstream, v_th, v_reset, slope, decay):
    """Spikes of one neuron, and dL/dx, with the reset taken as constant: dv/dh is 1 - s (hard) or 1 (soft)."""
    v, since, spikes, slopes = 0.0, math.inf, [], []
    for current in x:
        h = v + current
        s = float(h >= v_th)
        since = 0 if s else since + 1
        v = h - s * v_th if v_reset is None else (1 - s) * h + s * v_reset
        spikes.append(s)
        slopes.append(slope * math.exp(-decay * since))
    gradient, g_v = [], 0.0
    for s, f, g in zip(spikes[::-1], slopes[::-1], upstream[::-1], strict=True):
        g_h = g * f + g_v * (1 if v_reset is None else 1 - s)
        gradient.insert(0, g_h)
        g_v = g_h
    return spikes, gradient


@pytest.mark.parametrize("v_reset", [None, 0.0], ids=["soft", "hard"])
@pytest.mark.parametrize(("slope", "decay"), [(0.3, 0.01), (1.5, 0.7)])
def test_spikes_and_gradients_are_the_equations(v_reset, slope, decay):
    torch.manual_seed(0)
    x = torch.randn(9, 40, dtype=torch.float64).requires_grad_()
    upstream = torch.randn(9, 40, dtype=torch.float64)
    neuron = STDB(v_th=0.75, v_reset=v_reset, slope=slope, decay=decay)
    out = neuron(x)
    out.backward(upstream)
    assert torch.equal(out, IF(v_th=0.75, v_reset=v_reset)(x))
    assert 0 < out.mean() < 1
    for place in range(40):
        spikes, gradient = by_hand(x[:, place].tolist(), upstream[:, place].tolist(), 0.75, v_reset, slope, decay)
        assert out[:, place].tolist() == spikes
        assert x.grad[:, place].tolist() == pytest.approx(gradient, rel=1e-12, abs=1e-15)


def test_a_neuron_that_has_not_fired_has_no_slope():
    x = torch.full((4, 1), 0.1, requires_grad=True)
    STDB()(x).sum().backward()
    assert not x.grad.any()


@pytest.mark.parametrize("how", [{"slope": 0.0}, {"decay": -1.0}, {"surrogate": "sigmoid"}, {"alpha": 3.0}], ids=str)
def test_settings_that_mean_nothing_are_refused(how):
    with pytest.raises(ValueError, match="STDB: "):
        STDB(**how)
