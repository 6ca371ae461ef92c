import math

import pytest
import torch

from spikewise.neurons import IF, LIF, NEURONS, PLIF

RESETS = pytest.mark.parametrize("v_reset", [0.0, -0.25, None], ids=["hard", "hard_below_zero", "soft"])


def test_coefficients_are_those_of_e1():
    assert IF().coefficients() == (1, 1, 0)
    assert LIF(4.0).coefficients() == (0.75, 0.25, 0)
    assert LIF(4.0, decay_input=False).coefficients() == (0.75, 1, 0)
    assert LIF(4.0, v_reset=-0.5).coefficients() == (0.75, 0.25, -0.125)
    assert LIF(4.0, v_reset=None).coefficients() == (0.75, 0.25, 0)


@pytest.mark.parametrize("decay_input", [True, False])
@RESETS
def test_plif_starts_as_lif_of_the_same_tau(v_reset, decay_input):
    x = torch.randn(6, 50, dtype=torch.float64)
    how = {"v_reset": v_reset, "decay_input": decay_input}
    assert torch.equal(PLIF(3.0, **how).double()(x), LIF(3.0, **how)(x))


def test_plif_keeps_one_number_per_layer_as_published():
    neuron = PLIF(2.0)
    assert {name: list(w.shape) for name, w in neuron.named_parameters()} == {"w": [1]}
    assert float(neuron.w.detach()) == 0  # -ln(tau - 1)
    assert PLIF(3.0).tau == pytest.approx(3.0)


@pytest.mark.parametrize("decay_input", [True, False])
def test_gradient_of_plif_reaches_w_from_every_neuron_and_step(decay_input):
    """E5, summed over everything: the number that a racing reduction gets wrong."""
    neuron = PLIF(2.5, decay_input=decay_input, v_reset=-0.25).double()
    x = torch.randn(5, 3, 7, dtype=torch.float64) * 2
    upstream = torch.randn(5, 3, 7, dtype=torch.float64)
    neuron(x).backward(upstream)
    k, v, g_k = 1 / neuron.tau, torch.full((3, 7), -0.25, dtype=torch.float64), 0.0
    before, charged = [], []
    for x_t in x:
        before.append(v)
        charged.append((1 - k) * v + (k if decay_input else 1) * x_t + k * -0.25)
        v = torch.where(charged[-1] >= 1, -0.25, charged[-1])
    g_v = torch.zeros(3, 7, dtype=torch.float64)
    for t in reversed(range(5)):
        g_h = upstream[t] / (1 + (math.pi * (charged[t] - 1)) ** 2) + g_v * (charged[t] < 1)
        g_k += (g_h * ((x[t] if decay_input else 0) - before[t] - 0.25)).sum()
        g_v = (1 - k) * g_h
    torch.testing.assert_close(neuron.w.grad, (g_k * k * (1 - k)).reshape(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_th", [1.0, 0.7, 1.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [kind for kind in NEURONS if kind != "ALIF"])
@RESETS
def test_firing_current_fires_at_every_step_and_is_the_smallest(kind, v_reset, dtype, v_th, decay_input):
    how = {} if issubclass(NEURONS[kind], IF) else {"tau": 3.0, "decay_input": decay_input}
    neuron = NEURONS[kind](v_th=v_th, v_reset=v_reset, **how)
    current = torch.full((12, 1), neuron.min_always_firing_current(), dtype=dtype)
    neuron = neuron.to(dtype)  # what was found in float32 holds in float64, too
    assert neuron(current).all()
    assert not neuron(current[:1] * (1 - 1e-5)).any()


def test_no_current_makes_a_threshold_that_rises_fire_at_every_step():
    with pytest.raises(ValueError, match="does not fire at every step for any constant current"):
        NEURONS["ALIF"]().min_always_firing_current()


def test_a_plif_of_tau_2_needs_twice_the_threshold_to_fire_at_every_step():
    assert PLIF(2.0).min_always_firing_current() == 2.0
    assert IF().min_always_firing_current() == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(1.0), r"LIF: tau=1.0 time steps is outside its range; use a finite tau > 1, or IF"),
        (lambda: PLIF(math.inf), r"PLIF: tau=inf"),
        (lambda: IF(v_th=0.0), r"v_th=0.0 must lie above the resting potential 0.0"),
        (lambda: IF(v_th=0.5, v_reset=0.5), r"v_th=0.5 must lie above the resting potential 0.5"),
        (lambda: IF(surrogate="arctan"), r"no surrogate named 'arctan'; .*known: atan, sigmoid"),
        (lambda: IF(alpha=0.0), r"alpha=0.0 must be above 0"),
        (lambda: IF(v_reset=torch.nn.Parameter(torch.zeros(()))), "v_reset is a tensor"),
        (lambda: IF(v_th="1"), "v_th='1' must be a finite number"),
        (lambda: IF(surrogate=torch.sigmoid), "add it to spikewise.SURROGATES"),
        (lambda: IF(v_th=torch.tensor([1.0, 2.0, 3.0]))(torch.zeros(2, 1, 2, 4, 4)), "3 values.*2 channels"),
        (lambda: IF()(torch.zeros(3)), r"neurons take floating-point currents \[T, N, ...\].* given \[3\]"),
        (lambda: IF()(torch.zeros(0, 2, 3)), r"T at least 1, given \[0, 2, 3\]"),
        (lambda: IF()(torch.zeros(3, 2, dtype=torch.int64)), r"given \[3, 2\] torch.int64"),
    ],
)
def test_values_outside_their_range_are_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("v_th", 0.0, "above the resting potential"),
        ("v_th", torch.tensor([1.0, math.nan]), "finite"),
        ("v_th", torch.nn.Parameter(torch.tensor([1.0, -1.0])), "above the resting potential"),
        ("v_reset", 2.0, "above the resting potential"),
        ("alpha", -1.0, "above 0"),
        ("alpha", torch.nn.Parameter(torch.tensor(2.0)), "not learned"),
        ("surrogate", "arctan", "no surrogate"),
        ("backend", "gpu", "no backend"),
    ],
)
def test_settings_are_checked_when_they_are_set_later_too(setting, value, message):
    neuron = IF()
    with pytest.raises(ValueError, match=message):
        setattr(neuron, setting, value)
    assert neuron.params() == IF().params()


def test_a_threshold_may_be_set_to_a_number_a_tensor_or_a_parameter_in_any_order():
    neuron = IF()
    for value, state in (
        (torch.tensor([0.5, 1.0]), ["v_th"]),
        (0.7, []),
        (torch.nn.Parameter(torch.tensor(0.5)), ["v_th"]),
        (torch.tensor(0.5), ["v_th"]),
        (torch.nn.Parameter(torch.tensor([0.5, 1.0])), ["v_th"]),
        (2.0, []),
    ):
        neuron.v_th = value
        assert neuron.v_th is value
        assert [*neuron.state_dict()] == state
        assert len([*neuron.parameters()]) == isinstance(value, torch.nn.Parameter)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("value", [torch.tensor([1.0, 0.25]), torch.tensor([1.0, math.nan])])
def test_a_threshold_of_a_file_is_checked(value, assign):
    neuron = IF(v_reset=0.25, v_th=torch.nn.Parameter(torch.tensor([0.5, 1.0])))
    with pytest.raises(RuntimeError, match="v_th"):
        neuron.load_state_dict({"v_th": value}, assign=assign)
    assert neuron.v_th.tolist() == [0.5, 1.0]
    neuron.load_state_dict({"v_th": torch.tensor([0.75, 2.0])}, assign=assign)
    assert neuron.v_th.tolist() == [0.75, 2.0]


@pytest.mark.parametrize("v_reset", [0.0, 0.25, None])
def test_a_threshold_that_learning_brings_down_to_rest_gives_nan_and_above_it_spikes(v_reset):
    neuron, x = IF(v_reset=v_reset, v_th=torch.nn.Parameter(torch.tensor([0.5, 0.5]))), torch.rand(4, 3, 2, 1, 1)
    before = neuron(x)
    assert set(before.unique().tolist()) == {0.0, 1.0}
    with torch.no_grad():
        neuron.v_th[1] = v_reset or 0.0
    assert neuron(x).isnan().all()
    with torch.no_grad():
        neuron.v_th[1] = 0.5
    assert torch.equal(neuron(x), before)


@pytest.mark.parametrize("tau", [3.0, torch.nn.Parameter(torch.tensor(3.0))], ids=["number", "parameter"])
def test_the_time_constant_is_never_assigned_in_vain(tau):
    for neuron in (LIF(2.0), PLIF(2.0)):
        with pytest.raises(AttributeError, match=f"tau of {type(neuron).__name__} cannot be set: make another one"):
            neuron.tau = tau
        assert neuron.tau == 2.0


def test_a_forward_pass_leaves_nothing_behind():
    neuron, x = IF(), torch.rand(4, 10)
    assert torch.equal(neuron(x), neuron(x))
    assert not neuron.state_dict()
