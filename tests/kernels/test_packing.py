"""Bit planes: exact, the same from every kernel, and never of values that they cannot hold."""

import pytest
import torch
from given import LAYOUTS, dyadic, given_norm, laid
from torch import nn

from learning import learn
from spikewise.kernels import BACKENDS, CONNECT, NeuronParams, NormParams, packing
from spikewise.kernels.layout import empty, is_channels_last
from spikewise.kernels.packing import known, note, note_planes, num_planes, pack, pack_reference, unpack, unpack_reference
from spikewise.kernels.spec import FireSpec, FireTensors, numbers
from spikewise.kernels.spike_conv import spike_conv
from spikewise.models import build_model
from spikewise.models.layers import ConvNormFire, MaxPool, SpikeConv, pool_framewise
from spikewise.models.residual import SEWBlock
from spikewise.neurons import IF

cpu, IF_ = BACKENDS["cpu"], NeuronParams(1.0, 1.0, 0.0)
layouts = pytest.mark.parametrize("layout", LAYOUTS)
shapes = pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1), (4, 2, 16, 5, 3), (3, 2, 7, 3, 5), (17, 1, 33, 4, 4), (2, 3, 5, 40, 17)], ids=str
)


@shapes
@layouts
@pytest.mark.parametrize("planes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_what_is_unpacked_is_what_was_packed(shape, layout, planes, dtype):
    x, last = laid(torch.randint(0, 2**planes, shape), layout).to(dtype), layout == "last"
    bits = pack(x, planes)
    assert torch.equal(bits, pack_reference(x, planes))
    assert bits.shape == (shape[0], planes, (x[0].numel() + 7) // 8)
    for again in (unpack(bits, x.shape, dtype, channels_last=last), unpack_reference(bits, x.shape, dtype, last)):
        assert torch.equal(again, x)
        assert again.stride() == empty(shape, dtype, last).stride()
    images = unpack(bits, x.flatten(0, 1).shape, torch.float32, channels_last=last)  # in another type, and without time
    assert torch.equal(images, x.flatten(0, 1).float())
    assert torch.equal(pack(x[0], planes)[0], bits[0])


def test_one_plane_by_hand():
    x = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0, 0, 1]).reshape(1, 1, 1, 1, 10)
    assert pack(x, 1).tolist() == [[[0b1001, 0b10]]]
    assert pack(3 * x, 2).tolist() == [[[0b1001, 0b10], [0b1001, 0b10]]]


@shapes
@layouts
@pytest.mark.parametrize("connect", [None, *CONNECT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_neurons_emit_the_planes_of_what_they_write(shape, layout, connect, dtype):
    y = laid(dyadic(*shape), layout).to(dtype)
    shortcut = None if connect is None else laid(torch.randint(0, 4, shape), layout).to(dtype)
    norm = given_norm(torch.ones(shape[2]), torch.zeros(shape[2]))
    options = {"shortcut": shortcut, "connect": CONNECT.get(connect)}
    plain = cpu.norm_fire(y, norm, IF_, **options)[0]
    assert known(plain) is None
    if shortcut is not None:
        note(shortcut, 4)
    spikes = cpu.norm_fire(y, norm, IF_, **options, packing=True)[0]
    assert torch.equal(spikes, plain)
    assert known(spikes).max_value == {None: 1, "ADD": 5}.get(connect, 4)
    assert torch.equal(known(spikes).planes, pack_reference(plain, 1 if connect is None else 3))
    still = cpu.norm_fire(y[0], norm, IF_, repeat_steps=3, packing=True)[0]
    assert torch.equal(known(still).planes, pack_reference(still, 1))


@pytest.mark.parametrize("shape", [(2, 16, 9, 7), (1, 5, 8, 8), (3, 24, 6, 5), (3, 5, 9, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pooled_neurons_emit_planes_too(shape, dtype):
    y, norm = laid(torch.randn(shape).to(dtype), "last"), NormParams(*torch.rand(2, shape[1]))
    options = {"repeat_steps": 4, "return_membrane": False}
    for window in ((3, 2, 1), (2, 2, 0)):
        spikes = cpu.norm_fire(y, norm, IF_, **options, pool=window, packing=True)[0]
        plain = cpu.norm_fire(y, norm, IF_, **options, pool=window)[0]
        assert torch.equal(spikes, plain)
        assert torch.equal(known(spikes).planes, pack_reference(plain, 1))


@layouts
@pytest.mark.parametrize("autocast", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
def test_a_convolution_with_planes_has_the_gradients_of_one_without(layout, autocast, size, stride):
    x = laid(torch.randint(0, 4, (3, 2, 64, 6, 5)).float(), layout).flatten(0, 1).requires_grad_()
    weight = torch.randn(72, 64, size, size, requires_grad=True)
    bits = pack(x.detach().unflatten(0, (3, 2)), 2)
    found = []
    for planes in (None, bits):
        given = note(x.view_as(x), 3, planes)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = spike_conv(given, weight, stride, size // 2)
        found.append([out, *torch.autograd.grad(out, (x, weight), torch.ones_like(out))])
    for mine, expected in zip(*found, strict=True):
        assert mine.dtype == expected.dtype
        assert torch.equal(mine, expected)
    for wanted in (x, weight):  # one of them alone
        out = spike_conv(note(x.view_as(x) if wanted is x else x.detach(), 3, bits), weight, stride, size // 2)
        assert torch.autograd.grad(out, wanted, torch.ones_like(out))[0].shape == wanted.shape


NETWORKS = {
    "sew_resnet18 ADD": ("sew_resnet18", {"connect": "ADD"}),
    "sew_resnet18 AND": ("sew_resnet18", {"connect": "AND"}),
    "sew_resnet50 IAND": ("sew_resnet50", {"connect": "IAND"}),
    "sew_resnet18 of one's own": ("sew_resnet18", {"connect": lambda a, s: a + s - a * s}),
    "sew_resnet18 avg": ("sew_resnet18", {"pool": "avg"}),
    "spiking_resnet18": ("spiking_resnet18", {}),
    "plain_resnet18": ("plain_resnet18", {}),
    "sew_resnet20": ("sew_resnet20", {}),
    "sew_7b": ("sew_7b", {"num_blocks": 3}),
    "sew_7b IAND": ("sew_7b", {"num_blocks": 3, "connect": "IAND"}),
    "sew_7b avg": ("sew_7b", {"num_blocks": 3, "pool": "avg"}),
    "spiking_7b": ("spiking_7b", {"num_blocks": 3}),
    "sew_wide7b": ("sew_wide7b", {}),
}


def network(name):
    torch.manual_seed(0)
    kind, options = NETWORKS[name]
    net = build_model(kind, num_classes=5, **options).to(memory_format=torch.channels_last)
    side = 128 if kind == "sew_wide7b" else 32
    x = torch.rand(2, 2, 2, side, side) * 3 if "7b" in kind else torch.rand(2, 3, side, side)
    return net.train(), x


def kept_with_packing(name, change=lambda net: None, *, autocast=False):
    """The share of bytes that a changed network keeps with packing, which learns the same to the bit as without."""
    found = []
    for packed in (True, False):
        net, x = network(name)
        net.packing = packed
        change(net)
        found.append(learn(net, x, autocast=autocast))
    (ours, less), (expected, more) = found
    assert all(map(torch.equal, ours, expected))
    return less / more


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("autocast", [True, False], ids=["bfloat16", "float32"])
def test_a_network_learns_the_same_with_packing_and_keeps_less(name, autocast):
    # what is left is the convolutions' outputs
    most = 0.85 if "own" in name or "avg" in name or "spiking" in name else 0.72
    assert kept_with_packing(name, autocast=autocast) < most


def freeze_convolutions(net):
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.requires_grad_(False)


def replace_convolutions(net):
    for block in net.blocks.values():
        ours = block.conv1.conv
        block.conv1.conv = nn.Conv2d(ours.in_channels, ours.out_channels, 3, ours.stride, 1, bias=False)
        block.conv1.conv.weight = ours.weight


def change_in_place(net, which):
    for block in net.blocks.values():
        at = block if which == "block" else block.conv1
        at.register_forward_hook(lambda _m, _i, out: (out.mul_(2.5), None)[1])


def test_frozen_convolutions_keep_less_too():
    assert kept_with_packing("sew_resnet18 ADD", freeze_convolutions) < 0.72


def test_a_convolution_put_in_place_of_ours_sees_tensors():
    kept_with_packing("sew_resnet18 ADD", replace_convolutions)


@pytest.mark.parametrize("name", ["sew_resnet18 ADD", "sew_resnet18 AND", "spiking_resnet18", "sew_7b"])
@pytest.mark.parametrize("which", ["block", "hidden"])
def test_values_changed_in_place_are_kept_whole(name, which):
    """By a hook: their planes are no longer theirs, nor is their bound."""
    kept_with_packing(name, lambda net: change_in_place(net, which))


def test_a_tensor_written_to_is_no_longer_known():
    spikes = note_planes(torch.ones(2, 1, 3, 4, 4), 1)
    images = packing.flatten_time(spikes)
    assert known(images)[:2] == known(spikes)[:2] != (0, None)
    spikes[0] = 7
    assert known(spikes) is known(images) is None


OWN_CONNECTIONS = [lambda a, s: 2 * a + 3 * s, lambda a, s: a - s / 2, lambda a, s: 300 * (a + s)]


@pytest.mark.parametrize("number", range(3))
def test_what_a_connection_of_ones_own_makes_is_kept_whole(number, monkeypatch):
    """Values that have no bound, or are no integers."""
    monkeypatch.setitem(NETWORKS, "own", ("sew_resnet20", {"connect": OWN_CONNECTIONS[number]}))
    kept_with_packing("own")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("loud", [True, False], ids=["all fire", "as built"])
def test_planes_hold_every_value_that_flows(name, loud, monkeypatch):
    """Also where every neuron fires at every step, and ADD counts up to what the architecture allows."""
    seen = []
    forward = SpikeConv.forward

    def checked(self, x):
        if known(x) is not None and known(x).planes is not None:
            assert torch.equal(unpack(known(x).planes, x.shape, x.dtype, channels_last=is_channels_last(x)), x)
            largest = float(x.detach().max())
            seen.append(largest == known(x).max_value)
            assert largest <= known(x).max_value
        return forward(self, x)

    monkeypatch.setattr(SpikeConv, "forward", checked)
    net, x = network(name)
    if loud:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 9.0)
    net(x)
    assert len(seen) > 3
    if loud and "AND" not in name:
        assert all(seen)


def test_what_a_user_feeds_a_block_is_kept_whole():
    """Values that no plane could hold; the gradient is that of the reference."""
    torch.manual_seed(0)
    block = SEWBlock(8, 8, neuron=IF).train()
    x = torch.randn(3, 2, 8, 5, 5) * 1000
    found = []
    for backend in ("reference", "auto"):
        for layer in block.branch:
            layer.neuron.backend = backend
        out = block(x)
        found.append([out, *torch.autograd.grad(out.sum(), block.conv1.conv.weight)])
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-2)
    assert known(block(x)) is None


def test_what_is_too_large_or_unknown_is_not_packed():
    assert [num_planes(largest) for largest in (0, 1, 2, 3, 4, 7, 8, 255, 256)] == [0, 1, 2, 2, 3, 3, 4, 8, 0]
    x = torch.rand(2, 1, 3, 4, 4)
    assert known(note_planes(x, 0)) is None
    assert known(note_planes(x, 256)).planes is None


@pytest.mark.parametrize("name", ["sew_resnet18 ADD", "sew_7b", "spiking_7b"])
def test_hooks_see_tensors(name):
    """Hooks of any module, and global ones, in training as in evaluation."""
    net, x = network(name)
    kinds = set()

    def see(_module, args, out):
        kinds.update(type(value) for value in (*args, out))

    for module in (net, *net.blocks.values(), *net.spiking_layers.values()):
        module.register_forward_hook(see)
    with_hooks = net(x)
    handle = nn.modules.module.register_module_forward_hook(see)
    try:
        torch.testing.assert_close(net(x), with_hooks, rtol=1e-4, atol=1e-4)  # one by one, so rounded otherwise
    finally:
        handle.remove()
    net.eval()(x)
    assert kinds <= {torch.Tensor, type(None)}


def test_only_training_with_packing_makes_planes(monkeypatch):
    net, x = network("sew_resnet20")
    made = []
    for block in net.blocks.values():
        block.register_forward_hook(lambda _m, _i, out: made.append(known(out) is not None and known(out).planes is not None))
    net(x)
    assert all(made)
    for prepare in (net.eval, lambda: net.train() and setattr(net, "packing", False)):
        made.clear()
        prepare()
        net(x)
        assert not any(made)


def test_nothing_is_packed_twice_where_pooling_follows(monkeypatch):
    net, x = network("sew_7b")
    bounds, packs = [], []
    for block in net.blocks.values():
        block.register_forward_hook(lambda _m, _i, out: bounds.append(known(out)[:2]))
    monkeypatch.setattr(packing, "pack", lambda *given: (packs.append(given[1]), pack(*given))[1])
    net(x)
    assert bounds == [(2, None), (3, None), (4, None)]
    assert packs == [2, 2, 3]


def test_max_pooling_keeps_the_bound():
    x = torch.randint(0, 4, (2, 2, 8, 6, 6)).float()
    out = pool_framewise(MaxPool(2, 2, backend="auto"), note_planes(x, 3))
    assert known(out).max_value == 3
    assert torch.equal(unpack(known(out).planes, out.shape, torch.float32, channels_last=False), out)
    assert known(pool_framewise(nn.AvgPool2d(2), note_planes(x, 3))) is None


def test_operators_keep_pytorchs_rules():
    x = torch.randint(0, 4, (3, 2, 8, 6, 5)).float()
    ops, bits = torch.ops.spikewise, pack(x, 2)
    torch.library.opcheck(ops.pack.default, (x, 2))
    torch.library.opcheck(ops.unpack.default, (bits, list(x.shape), torch.bfloat16, True))


def test_bit_planes_of_something_else_are_refused():
    """C would read, or write, beyond the end of memory."""
    x = torch.randint(0, 2, (2, 1, 8, 4, 4)).float()
    bits, ops = pack(x, 1), torch.ops.spikewise
    for planes, shape, message in (
        *((bits, shape, "not those of values") for shape in ([2, 64, 8, 40, 40], [3, 1, 8, 4, 4], [3, 8, 4, 4], [4, 8, 4, 4])),
        (bits.float(), x.shape, "uint8"),
        (bits[0], x.shape, "uint8"),
        (bits.expand(2, 9, 16), x.shape, "out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            unpack(planes, shape, torch.float32, channels_last=True)
    for planes in (-1, 0, 9, 40):
        with pytest.raises(ValueError, match="out of range"):
            pack(x, planes)
    tensors = FireTensors(laid(x, "last"), torch.ones(8), torch.zeros(8), torch.tensor([1.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="out of range"):
        ops.norm_fire(*tensors, numbers(FireSpec(num_planes=9)))
    assert unpack(bits[:0], (0, 1, 8, 4, 4), torch.float32, channels_last=True).shape == (0, 1, 8, 4, 4)


@pytest.mark.parametrize("connect", [*CONNECT, "of one's own"])
@pytest.mark.parametrize("observed", [True, False])
def test_a_layer_with_both_a_shortcut_and_a_current_keeps_neithers_planes_for_the_other(connect, observed):
    found = []
    for kind in (note_planes, lambda values, _: values):
        torch.manual_seed(0)
        layer = ConvNormFire(8, 8, 3, neuron=IF, connect=CONNECT.get(connect, lambda a, s: a + s)).train()
        if observed:
            layer.spikes.register_forward_hook(lambda *_: None)
        x, shortcut, current = (kind(torch.randint(0, most + 1, (3, 2, 8, 5, 5)).float(), most) for most in (1, 3, 2))
        out = layer(x, shortcut=shortcut, current=current)
        weighted = (out * torch.linspace(0, 1, out.numel()).view(out.shape)).sum()
        found.append([out, *torch.autograd.grad(weighted, tuple(layer.parameters()))])
    assert all(map(torch.equal, *found))
