"""Neurons with more state than a membrane: equal to a plain loop, and at home in networks, streams and files."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import spikewise as sw
from spikewise.neurons import ALIF, CUBA, LIF, NEURONS, Neuron

X = torch.randn(9, 3, 5, dtype=torch.float64) + 0.7
RESETS = pytest.mark.parametrize("v_reset", [0.0, -0.25, None], ids=["hard", "hard_below_zero", "soft"])
kinds = pytest.mark.parametrize("kind", ["ALIF", "CUBA"])


def slope(u):
    return 1 / (1 + (math.pi * u) ** 2)  # atan, alpha = 2


def reset_of(h, s, v_reset):
    """The membrane behind a spike, and its derivatives by h and s."""
    return (h - s, 1.0, -1.0) if v_reset is None else ((1 - s) * h + s * v_reset, 1 - s, v_reset - h)


def alif_loop(x, upstream, v_reset, decay_input, detach):
    """E13 of one neuron with plain numbers: spikes, and the gradient of sum(upstream * spikes) for each current."""
    a, b, rest, beta, keep = 0.75, 0.25 if decay_input else 1.0, v_reset or 0.0, 0.3, 1 - 1 / 5
    v, z, spikes, steps = rest, 0.0, [], []
    for x_t in x:
        h = a * v + b * x_t + 0.25 * rest
        s = float(h - beta * z >= 1)
        steps.append((h - beta * z - 1, *reset_of(h, s, v_reset)[1:]))
        v, z = reset_of(h, s, v_reset)[0], keep * z + s
        spikes.append(s)
    grads, g_v, g_z = [], 0.0, 0.0
    for (u, by_h, by_s), g_s in zip(reversed(steps), reversed(upstream), strict=True):
        g_u = (g_s + g_z + (0 if detach else g_v * by_s)) * slope(u)
        g_h, g_z = g_u + g_v * by_h, keep * g_z - beta * g_u
        g_v = a * g_h
        grads.append(b * g_h)
    return spikes, grads[::-1]


def cuba_loop(x, upstream, v_reset, decay_input, detach):
    """E14 likewise."""
    a, b, rest, keep = 0.75, 0.25 if decay_input else 1.0, v_reset or 0.0, 1 - 1 / 5
    v, i, spikes, steps = rest, 0.0, [], []
    for x_t in x:
        i = keep * i + x_t
        h = a * v + b * i + 0.25 * rest
        s = float(h >= 1)
        steps.append((h - 1, *reset_of(h, s, v_reset)[1:]))
        v = reset_of(h, s, v_reset)[0]
        spikes.append(s)
    grads, g_v, g_i = [], 0.0, 0.0
    for (u, by_h, by_s), g_s in zip(reversed(steps), reversed(upstream), strict=True):
        g_h = (g_s + (0 if detach else g_v * by_s)) * slope(u) + g_v * by_h
        g_v, g_i = a * g_h, b * g_h + keep * g_i
        grads.append(g_i)
    return spikes, grads[::-1]


def make(kind, **options):
    if kind == "ALIF":
        return ALIF(4.0, beta=0.3, tau_adaptation=5.0, **options)
    return CUBA(4.0, tau_synapse=5.0, **options)


@kinds
@RESETS
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("detach", [True, False])
def test_spikes_and_gradients_are_those_of_a_plain_loop(kind, v_reset, decay_input, detach):
    x, upstream = (X * (4 if decay_input else 1)).requires_grad_(), torch.randn_like(X)
    spikes = make(kind, v_reset=v_reset, decay_input=decay_input, detach_reset=detach)(x)
    (grad,) = torch.autograd.grad(spikes, x, upstream)
    loop = alif_loop if kind == "ALIF" else cuba_loop
    for place in itertools.product(range(3), range(5)):
        here = (slice(None), *place)
        expected = loop(x[here].tolist(), upstream[here].tolist(), v_reset, decay_input, detach)
        assert spikes[here].tolist() == expected[0]
        torch.testing.assert_close(grad[here], torch.tensor(expected[1], dtype=torch.float64), rtol=1e-10, atol=1e-12)
    assert 0.1 < spikes.mean() < 0.9


def test_without_adaptation_alif_is_lif():
    assert torch.equal(ALIF(beta=0.0)(X), LIF()(X))
    assert ALIF(beta=1.0)(X * 3).sum() < LIF()(X * 3).sum(), "spikes raise the threshold"


@kinds
@pytest.mark.parametrize("name", ["sew_resnet20", "ms_resnet20", "sew_7b"])
def test_networks_of_them_learn_stream_and_come_back_from_files(kind, name, tmp_path):
    size = {"num_blocks": 2, "in_channels": 3} if "7b" in name else {}
    net = sw.build_model(name, num_classes=4, T=3, neuron=kind, tau=4.0, decay_input=False, **size).double()
    frames = torch.rand(3, 2, 3, 16, 16).double() * 2
    before = copy.deepcopy(net.state_dict())
    F.cross_entropy(net(frames), torch.tensor([0, 3])).backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    assert all(not torch.equal(parameter, before[key]) for key, parameter in net.named_parameters() if "conv" in key)
    net.eval()
    sw.save_pretrained(net, tmp_path)
    again, state = sw.load_pretrained(tmp_path), None
    with torch.no_grad():
        for number, frame in enumerate(frames, start=1):
            logits, state = again.step(frame, state)
            assert torch.equal(logits, net(frames[:number]))
        torch.save(state, tmp_path / "state.pt")
        assert torch.equal(again.step(frame, torch.load(tmp_path / "state.pt"))[0], again.step(frame, state)[0])


@kinds
def test_one_layer_of_them_is_saved_with_its_settings(kind, tmp_path):
    net = sw.build_model("sew_resnet20", num_classes=4, T=3).eval()
    net.layer1[0].conv1.neuron = make(kind, decay_input=False)
    sw.save_pretrained(net, tmp_path)
    again = sw.load_pretrained(tmp_path)
    assert str(again) == str(net)
    with torch.no_grad():
        x = torch.rand(2, 3, 16, 16) * 3
        assert torch.equal(again(x), net(x))


@kinds
def test_states_are_kept_in_float32_where_currents_are_half(kind):
    neuron, x = make(kind, decay_input=False), (X * 2).bfloat16()
    spikes, state = neuron.fire(x)
    assert spikes.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in state)
    assert torch.equal(spikes.float(), neuron(x.float()))


@kinds
def test_thresholds_per_channel_are_followed(kind):
    neuron, x = make(kind, decay_input=False), torch.rand(6, 2, 3, 4, 4) * 2
    expected = [neuron(x)[:, :, 0]]
    neuron.v_th = 2.0
    expected.append(neuron(x)[:, :, 1])
    neuron.v_th = torch.nn.Parameter(torch.tensor([1.0, 2.0, 1e9]))
    spikes = neuron(x)
    assert torch.equal(spikes[:, :, :2].detach(), torch.stack(expected, 2).detach())
    assert not spikes[:, :, 2].any()
    assert torch.autograd.grad(spikes.sum(), neuron.v_th)[0][:2].all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ALIF(beta=-0.1), "ALIF: beta=-0.1 would lower"),
        (lambda: ALIF(beta=torch.ones(())), "beta is a tensor"),
        (lambda: ALIF(tau_adaptation=1.0), "ALIF: tau_adaptation=1.0 time steps is outside"),
        (lambda: CUBA(tau_synapse="2"), "CUBA: tau_synapse=2 time steps is outside"),
        (lambda: CUBA(1.0), "CUBA: tau=1.0"),
        (lambda: setattr(ALIF(), "beta", -1.0), "would lower"),
        (lambda: setattr(CUBA(), "tau_synapse", 1), "CUBA: tau_synapse=1 "),
        (lambda: ALIF(backend="cpu")(X.float()), "its step is its own"),
    ],
)
def test_values_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_kind_says_what_it_is():
    assert all(kind.__doc__ and issubclass(kind, Neuron) for kind in NEURONS.values())
