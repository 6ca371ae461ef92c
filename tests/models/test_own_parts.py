"""What a user puts into a network is called as it is: neurons, surrogates, connections, norms, hooks."""

import copy
from functools import partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikewise.kernels import BACKENDS, SURROGATES
from spikewise.models import build_model
from spikewise.models.layers import ConvNormFire
from spikewise.models.recorder import firing_rates
from spikewise.neurons import IF, LIF, NEURONS, Neuron

available = [name for name, backend in BACKENDS.items() if not backend.unavailable_reason(None)]
backends = pytest.mark.parametrize("backend", ["auto", *available])


def small(name="sew_resnet20", **options):
    torch.manual_seed(0)
    net = build_model(name, num_classes=3, **{"T": 4} | options)
    for layer in net.spiking_layers.values():
        nn.init.constant_(layer.norm.bias, 0.3)  # so that all of them fire
    x = torch.rand(2, 2, 2, 16, 16) * 3 if "7b" in name else torch.rand(2, 3, 12, 12)
    return net, x


def learned(net, x):
    """Logits, gradients, buffers after a step of training, and logits in evaluation."""
    loss = F.cross_entropy(net.train()(x), torch.tensor([0, 2]))
    gradients = torch.autograd.grad(loss, tuple(net.parameters()))
    with torch.no_grad():
        return [loss.detach(), *gradients, *(buffer.double() for buffer in net.buffers()), net.eval()(x)]


@backends
def test_a_surrogate_of_ones_own_is_the_slope_that_is_used(backend, monkeypatch):
    """Also under a name that kernels know: it is the function that counts."""

    def flat(u, alpha):
        return 0 * u

    for name in ("mine", "atan"):
        monkeypatch.setitem(SURROGATES, name, flat)
        x = torch.rand(4, 2, 3, 5, 5, requires_grad=True)
        if backend in ("auto", "reference"):
            neuron = IF(surrogate=name, backend=backend)
            assert not torch.autograd.grad(neuron(x).sum(), x)[0].any()
            net, images = small(surrogate=name, backend=backend)
            gradients = torch.autograd.grad(net(images).sum(), net.stem.conv.weight)[0]
            assert not gradients.any()
        else:
            with pytest.raises(ValueError, match=r"surrogate .* is not one of those built in; use backend='auto'"):
                IF(surrogate=name, backend=backend)(x)


class Twice(IF):
    """Spikes of 2, by a forward of its own."""

    def forward(self, x, cell=None):
        return 2 * super().forward(x, cell)


class Thrice(IF):
    """By a `fire` of its own."""

    def fire(self, x, state=None):
        spikes, state = super().fire(x, state)
        return 3 * spikes, state


class Halved(nn.Module):
    """No neuron of ours at all."""

    def forward(self, x):
        return (x > 0).to(x.dtype) / 2


@backends
@pytest.mark.parametrize(("kind", "value"), [(Twice, 2.0), (Thrice, 3.0), (Halved, 0.5)])
def test_a_neuron_of_ones_own_is_called(backend, kind, value):
    def make(**options):
        return kind() if kind is Halved else kind(**options | {"backend": backend})

    net, x = small(neuron=make)
    spikes = []
    net.stem.neuron.register_forward_hook(lambda _m, _a, out: spikes.append(out))
    net(x)
    assert set(spikes[0].unique().tolist()) == {0.0, value}
    del spikes[:]
    net.eval()(x)
    assert set(spikes[0].unique().tolist()) <= {0.0, value}
    net.layer1[0].conv1.neuron.forward = torch.zeros_like  # of one object alone
    assert not net.layer1[0].conv1(torch.ones(1, 1, 16, 4, 4)).any()


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "sew_7b"])
@pytest.mark.parametrize("part", ["norm", "neuron", "norm, neuron", "conv"])
def test_parts_called_one_by_one_compute_the_same_in_float64(name, part):
    """A hook that does nothing makes the parts be called; in float64 all that it changes is rounding."""
    net, x = small(name, **({"num_blocks": 3} if "7b" in name else {}))
    fused, apart = net.double(), copy.deepcopy(net)
    for layer in apart.spiking_layers.values():
        for word in part.split(", "):
            getattr(layer, word).register_forward_hook(lambda *_: None)
    for one, other in zip(learned(fused, x.double()), learned(apart, x.double()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("how", ["in place", "returned"])
@pytest.mark.parametrize("where", ["neuron", "spikes", "norm", "conv", "layer", "block", "pool"])
def test_what_a_hook_changes_is_what_backward_uses(where, how, packing):
    """To the bit as with packing off."""
    results = []
    for on in (packing, False):
        net, x = small("sew_7b", num_blocks=2)
        net.packing = on
        layer = net.stage1.blocks[0].conv1
        module = {"layer": layer, "block": net.stage1.blocks[0], "pool": net.stage1.pool}.get(where) or getattr(layer, where)

        def hook(_module, _args, out):
            ramp = torch.linspace(0.5, 1.5, out.shape[-1])  # more than a factor, which the next norm would undo
            return out * ramp if how == "returned" else (out.mul_(ramp), None)[1]

        module.register_forward_hook(hook)
        loss = F.cross_entropy(net(x), torch.tensor([0, 2]))
        results.append([loss.detach(), *torch.autograd.grad(loss, tuple(net.parameters()))])
    assert all(map(torch.equal, *results))
    plain = F.cross_entropy(small("sew_7b", num_blocks=2)[0](x), torch.tensor([0, 2]))
    assert plain != results[0][0], "the hook was called"


NORMS = {
    "subclass": type("Mine", (nn.BatchNorm2d,), {"forward": lambda self, y: y * 0 + 5}),
    "GroupNorm": lambda c: nn.GroupNorm(2, c),
    "InstanceNorm": nn.InstanceNorm2d,
    "Identity": lambda _: nn.Identity(),
    "no momentum": partial(nn.BatchNorm2d, momentum=None),
    "no affine": partial(nn.BatchNorm2d, affine=False),
    "no running statistics": partial(nn.BatchNorm2d, track_running_stats=False),
}


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_of_ones_own_is_called(norm):
    net, x = small()
    layer = net.layer1[0].conv1
    layer.norm = NORMS[norm](16)
    seen = []
    layer.neuron.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    y = []
    layer.conv.register_forward_hook(lambda _m, _a, out: y.append(out))
    for mode in (True, False):
        seen.clear(), y.clear()
        net.train(mode)(x)
        expected = copy.deepcopy(layer.norm)(y[0]).unflatten(0, (4, 2)) if mode else layer.norm(y[0]).unflatten(0, (4, 2))
        if norm != "no momentum" or not mode:
            torch.testing.assert_close(seen[0], expected)
    if norm == "no momentum":  # a cumulative average, as swa_utils.update_bn uses it
        torch.testing.assert_close(layer.norm.running_mean, y[0].mean((0, 2, 3)), atol=1, rtol=1)
        assert int(layer.norm.num_batches_tracked) == 1


def test_a_connection_that_is_added_or_replaced_in_the_table_is_called(monkeypatch):
    from spikewise import CONNECT

    monkeypatch.setitem(CONNECT, "ADD", lambda a, s: 7 * a)
    net, x = small(connect="ADD")
    out = []
    net.layer1[0].register_forward_hook(lambda _m, _a, o: out.append(o))
    net(x)
    assert set(out[0].unique().tolist()) <= {0.0, 7.0}


class AdaptiveState(NamedTuple):
    """Membrane and threshold of each neuron."""

    v: torch.Tensor
    threshold: torch.Tensor


class Rising(Neuron):
    """A leaky neuron whose threshold rises with every spike and decays between them (Bellec et al. 2018)."""

    def initial_state(self, x):
        return AdaptiveState(torch.zeros_like(x), torch.full_like(x, self.v_th))

    def step(self, x, state):
        from spikewise.kernels.surrogate import heaviside

        h = 0.5 * state.v + x
        s = heaviside(h - state.threshold, self.surrogate, self.alpha)
        threshold = self.v_th + 0.5 * (state.threshold - self.v_th) + 0.25 * s.detach()
        return s, AdaptiveState(h * (1 - s.detach()), threshold)


@pytest.fixture
def rising(monkeypatch):
    """A kind of neuron is one class and a line in the table."""
    monkeypatch.setitem(NEURONS, "Rising", Rising)


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20", "sew_7b", "plain_resnet20"])
def test_a_neuron_with_states_of_its_own_learns_streams_and_is_watched(name, rising):
    _, x = small(name, **({"num_blocks": 2} if "7b" in name else {}))
    net = build_model(name, num_classes=3, T=4, neuron="Rising", **({"num_blocks": 2} if "7b" in name else {})).double()
    frames = x.double() if x.dim() == 5 else x.double().expand(4, *x.shape)
    gradients = torch.autograd.grad(F.cross_entropy(net(x.double()), torch.tensor([0, 2])), tuple(net.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    net.eval()
    with torch.no_grad():
        state = None
        for number, frame in enumerate(frames, start=1):
            logits, state = net.step(frame, state)
            torch.testing.assert_close(logits, net(frames[:number]), rtol=1e-12, atol=1e-12)
        assert all(isinstance(of_layer, AdaptiveState) for of_layer in state.membranes.values())
        again = state.detach().to("cpu")
        assert torch.equal(net.step(frame, again)[0], net.step(frame, state)[0])
        with pytest.raises(ValueError, match="frames of another size"):
            net.step(frame[..., :-4, :-4] if "7b" not in name else torch.rand(2, 2, 32, 32).double(), state)
    rates = firing_rates(net, [x.double()])
    assert all(0 <= of_block.branch <= 1 for of_block in rates.values())


def test_a_neuron_with_a_forward_of_its_own_refuses_to_stream():
    net, x = small()
    net.stem.neuron = Halved()
    with pytest.raises(ValueError, match="stem: Halved has a forward of its own"):
        net.eval().step(x)


def test_coefficients_may_be_one_per_channel():
    class Leaky(IF):
        def coefficients(self):
            return torch.tensor([0.0, 1.0]), 1.0, 0.0  # one channel forgets all, one nothing

    spikes = Leaky()(torch.full((4, 1, 2, 3, 3), 0.5))
    assert spikes[:, 0, 0].sum() == 0
    assert spikes[:, 0, 1].flatten(1).any(1).tolist() == [False, True, False, True]


@pytest.mark.parametrize("shape", [(), (1,), (16,)], ids=["one", "one in a vector", "per channel"])
def test_thresholds_learn(shape):
    layer = ConvNormFire(3, 16, 3, neuron=IF)
    layer.neuron.v_th = nn.Parameter(torch.full(shape, 0.5))
    x = torch.rand(4, 2, 3, 6, 6)
    (gradient,) = torch.autograd.grad(layer(x).sum(), layer.neuron.v_th)
    assert gradient.shape == shape
    assert gradient.any()
    plain = copy.deepcopy(layer)
    plain.neuron.v_th = 0.5
    torch.testing.assert_close(plain(x), layer(x))
    assert torch.equal(
        LIF(v_th=torch.tensor([0.25, 8.0]))(torch.ones(3, 1, 2, 1, 1))[:, 0, :, 0, 0].any(0), torch.tensor([True, False])
    )


def test_parts_are_called_in_streams_and_half_precision_too():
    """What a pre-hook returns, a connection that is a module, a network in bfloat16, a hook point of one's own."""
    net, x = small("sew_7b", num_blocks=2)
    for hooked in (net.stage1.blocks[0].conv1.neuron, net.stage1.blocks[1], net.stage1.widen):
        hooked.register_forward_pre_hook(lambda _module, args: args[0] * 1.0)
    net.eval()
    with torch.no_grad():
        state = None
        for number, frame in enumerate(x, start=1):
            logits, state = net.step(frame, state)
            torch.testing.assert_close(logits, net(x[:number]), rtol=1e-5, atol=1e-6)
        assert net.to(torch.bfloat16)(x.bfloat16()).isfinite().all()
    net, x = small()

    class Connection(nn.Module):
        def forward(self, a, s):
            return a * 7

    block = net.layer1[0]
    block.connect = Connection()
    assert set(block(torch.ones(4, 2, 16, 8, 8)).unique().tolist()) == {0.0, 7.0}
    block.conv1.spikes = nn.Threshold(2.0, 0.0)
    assert not block.conv1(torch.ones(4, 2, 16, 8, 8)).any()
    block.conv1.neuron.step = lambda x, state: (torch.full_like(x, 3.0), state)
    assert set(block.conv1(torch.ones(4, 2, 16, 8, 8)).unique().tolist()) == {3.0}


def test_a_layer_used_twice_or_forgotten_by_its_block_refuses_to_stream():
    net, x = small()
    net.eval()
    net.layer1[1] = net.layer1[0]
    with pytest.raises(ValueError, match="runs twice in a frame"):
        net.step(x)

    class Forgetful(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, x, states=None):
            return self.block(x)

    net, x = small()
    net.layer1[0] = Forgetful(net.layer1[0])
    with pytest.raises(ValueError, match="was not given the stream's `states`"):
        net.eval().step(x)


def test_an_activation_taken_in_training_can_be_saved_and_loaded(tmp_path):
    net, x = small()
    net.layer1[0].register_forward_hook(lambda _m, _a, out: torch.save(out.detach(), tmp_path / "out.pt"))
    net.stem.register_forward_hook(lambda _m, _a, out: torch.save(out, tmp_path / "stem.pt"))
    net(x)
    for name in ("out.pt", "stem.pt"):
        assert torch.load(tmp_path / name, weights_only=True).dim() == 5
