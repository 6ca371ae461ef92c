import math

import pytest
import torch
from given import given_norm

from spikewise.kernels import NeuronParams, NormParams, get_backend
from spikewise.kernels.reference import fire, norm_fire
from spikewise.kernels.surrogate import SURROGATES

IF_COEFFICIENTS = (1.0, 1.0, 0.0)
LIF_COEFFICIENTS = (0.5, 0.5, 0.0)
RESETS = pytest.mark.parametrize("v_reset", [0.0, -0.25, None], ids=["hard", "hard_below_zero", "soft"])


@pytest.mark.parametrize(
    ("currents", "neuron", "spikes", "v"),
    [
        # membrane 0.5, 1.0 (fires at the threshold, back to 0), 0.75, 1.5 (fires)
        ([0.5, 0.5, 0.75, 0.75], NeuronParams(*IF_COEFFICIENTS), [0, 1, 0, 1], 0),
        # soft reset keeps the excess: 0.75, 1.5 -> 0.5, 1.25 -> 0.25, 1.0 -> 0.0
        ([0.75, 0.75, 0.75, 0.75], NeuronParams(*IF_COEFFICIENTS, v_reset=None), [0, 1, 1, 1], 0),
        # h = v / 2 + x / 2: 1.0 fires; 0.5; 0.25 + 0.5 = 0.75; 0.375 + 0.75 = 1.125 fires
        ([2.0, 1.0, 1.0, 1.5], NeuronParams(*LIF_COEFFICIENTS), [1, 0, 0, 1], 0),
        # rest -0.25: h = -0.25 + 1.25 = 1.0 fires, back to -0.25, + 1.0 = 0.75
        ([1.25, 1.0], NeuronParams(*IF_COEFFICIENTS, v_reset=-0.25), [1, 0], 0.75),
    ],
    ids=["integrate and fire", "soft reset", "leak", "hard reset below zero"],
)
def test_spikes_and_membrane_by_hand(currents, neuron, spikes, v):
    got, v_last = fire(torch.tensor(currents, dtype=torch.float64)[:, None], neuron)
    assert (got.flatten().tolist(), v_last.tolist()) == (spikes, [v])


@RESETS
@pytest.mark.parametrize("detach_reset", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_backward_is_e5(surrogate, detach_reset, v_reset):
    """Gradients of current, membrane and leak, against E5 written out by hand."""
    steps, neurons, k = 5, 40, 0.3
    x = torch.randn(steps, neurons, dtype=torch.float64).mul(2).requires_grad_()
    leak = torch.tensor([k], dtype=torch.float64, requires_grad=True)
    v0 = torch.randn(neurons, dtype=torch.float64).mul(0.3).requires_grad_()
    rest = v_reset or 0.0
    spikes, v_end = fire(x, NeuronParams(1 - leak, leak, leak * rest, 1.0, v_reset, surrogate, 2.0, detach_reset), v=v0)
    g_s, g_end = torch.randn_like(spikes), torch.randn_like(v_end)
    got = torch.autograd.grad([spikes, v_end], [x, leak, v0], [g_s, g_end])

    membranes, before, charged = v0.detach(), [], []
    for x_t in x.detach():
        before.append(membranes)
        charged.append((1 - k) * membranes + k * x_t + k * rest)
        fired = (charged[-1] >= 1).double()
        membranes = charged[-1] - fired if v_reset is None else (1 - fired) * charged[-1] + fired * v_reset
    g_v, g_x, g_k = g_end, torch.empty_like(x), 0.0
    for t in reversed(range(steps)):
        h = charged[t]
        fired, slope = (h >= 1).double(), SURROGATES[surrogate](h - 1, 2.0)
        dv_dh = torch.ones_like(h) if v_reset is None else 1 - fired
        if not detach_reset:
            dv_dh = dv_dh - slope if v_reset is None else dv_dh + slope * (v_reset - h)
        g_h = g_s[t] * slope + g_v * dv_dh
        g_x[t], g_v = k * g_h, (1 - k) * g_h
        g_k = g_k + (g_h * (x.detach()[t] - before[t] + rest)).sum()
    torch.testing.assert_close(got, (g_x, g_k.reshape(1), g_v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_membranes_are_float32_under_half_precision_storage(dtype):
    # 1/256 is below the precision of bfloat16 near 1: a half-precision membrane would get stuck and never fire
    x = torch.full((300, 1), 1 / 256, dtype=dtype)
    spikes, v = fire(x, NeuronParams(*IF_COEFFICIENTS))
    assert spikes.dtype == dtype
    assert v.dtype == torch.float32
    assert spikes.float().sum() == 1
    assert spikes[255] == 1


@RESETS
@pytest.mark.parametrize("shape", [(1, 1), (4, 63), (7, 5, 3), (2, 3, 4, 5, 6)], ids=str)
def test_a_sequence_equals_a_plain_loop_of_single_steps(shape, v_reset):
    x = torch.randint(-32, 48, shape) / 16
    dynamics = NeuronParams(*LIF_COEFFICIENTS, v_reset=v_reset)
    spikes, v_end = fire(x, dynamics)
    v = None
    for t in range(shape[0]):
        one, v = fire(x[t : t + 1], dynamics, v=v)
        assert torch.equal(one[0], spikes[t])
    assert torch.equal(v, v_end)


def test_repeat_reads_one_current_again_and_again():
    x = torch.randn(3, 4, requires_grad=True)
    repeated, v = fire(x, NeuronParams(*IF_COEFFICIENTS), repeat_steps=5)
    expanded, w = fire(x.expand(5, 3, 4), NeuronParams(*IF_COEFFICIENTS))
    assert all(map(torch.equal, (repeated, v), (expanded, w)))
    upstream = torch.randn(5, 3, 4)
    torch.testing.assert_close(*(torch.autograd.grad(out, x, upstream)[0] for out in (repeated, expanded)))


def test_norm_fire_is_norm_then_current_then_fire_then_connect():
    y, current = torch.randn(4, 2, 3, 5, 5), torch.randn(4, 2, 3, 5, 5)
    shortcut = (torch.rand(4, 2, 3, 5, 5) < 0.5).float()
    scale, shift, dynamics = torch.rand(3) + 0.5, torch.rand(3), NeuronParams(*IF_COEFFICIENTS)
    out, v, _, _ = norm_fire(
        y, given_norm(scale, shift), dynamics, shortcut=shortcut, connect=lambda a, s: a + 2 * s, current=current
    )
    spikes, w = fire(y * scale[:, None, None] + shift[:, None, None] + current, dynamics)
    assert torch.equal(out, spikes + 2 * shortcut)
    assert torch.equal(v, w)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_currents_of_half_precision_storage_are_computed_in_float32(dtype):
    y, scale, shift = torch.randn(4, 2, 3, 9, 9).to(dtype), torch.rand(3) + 0.5, torch.rand(3)
    half, *_ = norm_fire(y, given_norm(scale, shift), NeuronParams(*LIF_COEFFICIENTS))
    full, *_ = norm_fire(y.float(), given_norm(scale, shift), NeuronParams(*LIF_COEFFICIENTS))
    assert half.dtype == dtype
    assert torch.equal(half.float(), full)


def test_channels_last_stays_channels_last():
    y = torch.randn(8, 3, 5, 5).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 2))
    out, *_ = norm_fire(y, given_norm(torch.ones(3), torch.zeros(3)), NeuronParams(*IF_COEFFICIENTS))
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no backend named 'cuda'; known: auto, reference"):
        get_backend("cuda")


def test_infinite_and_missing_currents_do_not_spread_to_other_neurons():
    x = torch.zeros(3, 4)
    x[0, 0], x[0, 1] = math.nan, math.inf
    spikes, _ = fire(x, NeuronParams(*IF_COEFFICIENTS))
    assert not spikes[:, 2:].any()
    assert not spikes.isnan().any()


def test_gradients_are_those_of_the_formula_where_it_has_them():
    """Below the threshold nothing is a surrogate: statistics, normalisation and recurrence against finite differences."""
    y, current = torch.randn(3, 2, 2, 2, 3, dtype=torch.float64), torch.randn(3, 2, 2, 2, 3, dtype=torch.float64)
    weight, bias, abc = torch.rand(2).double() + 0.5, torch.randn(2).double(), torch.tensor([0.7, 0.4, 0.1]).double()
    inputs = [t.requires_grad_() for t in (y, current, weight, bias, abc)]

    def membrane(y, current, weight, bias, abc):
        dynamics = NeuronParams(*abc.split(1), v_th=1e6)
        return norm_fire(y, NormParams(weight, bias), dynamics, current=current)[1]

    assert torch.autograd.gradcheck(membrane, inputs)


def test_without_statistics_the_batchs_are_taken():
    y = torch.randn(4, 2, 3, 5, 5, dtype=torch.float64)
    norm = torch.nn.BatchNorm2d(3).double()
    torch.nn.init.uniform_(norm.weight)
    out, v, mean, variance = norm_fire(y, NormParams(norm.weight, norm.bias, norm.eps), NeuronParams(*IF_COEFFICIENTS))
    expected, w = fire(norm(y.flatten(0, 1)).unflatten(0, (4, 2)), NeuronParams(*IF_COEFFICIENTS))
    assert torch.equal(out, expected)
    torch.testing.assert_close(v, w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mean, y.mean((0, 1, 3, 4)))
    torch.testing.assert_close(variance, y.var((0, 1, 3, 4), correction=0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # by torch.func itself
def test_transforms_of_torch_func_run_on_the_reference():
    """As the fused kernels say of it, which refuse them."""
    x, direction = torch.randn(5, 3, 4), torch.randn(5, 3, 4)

    def fired(x):
        return (fire(x, NeuronParams(*LIF_COEFFICIENTS))[0] * torch.arange(4)).sum()

    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(fired(leaf), leaf)[0]
    assert torch.equal(torch.func.grad(fired)(x), expected)
    by_sample = torch.func.vmap(torch.func.grad(lambda x: fired(x[:, None])), in_dims=1, out_dims=1)(x)
    assert torch.equal(by_sample, expected)
    _, along = torch.func.jvp(fired, (x,), (direction,))
    torch.testing.assert_close(along, (expected * direction).sum())
