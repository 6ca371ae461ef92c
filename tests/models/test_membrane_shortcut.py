"""MS-ResNet (E10): its laws, and the whole network against one that is written from the equations."""

import copy

import pytest
import torch
import torch.nn.functional as F
from by_hand import conv_norm, drawn, fire
from torch import nn

from spikewise.kernels import BACKENDS
from spikewise.models import build_model, registry
from spikewise.models.layers import ConvNorm, ConvNormFire, Fire, MaxPool
from spikewise.models.membrane_shortcut import MSBlock
from spikewise.neurons import IF, LIF, PLIF

available = [name for name, backend in BACKENDS.items() if not backend.unavailable_reason(None)]


def ms_resnet(weights, x, blocks, *, leak, imagenet, training):
    """E10, with weights by name; blocks: how many in each stage."""
    s = conv_norm(weights, "stem", x, 2 if imagenet else 1, training)
    for stage, count in enumerate(blocks, start=1):
        for position in range(count):
            name, stride = f"layer{stage}.{position}", 2 if position == 0 and (stage > 1 or imagenet) else 1
            hidden = conv_norm(weights, f"{name}.conv1", fire(s, leak), stride, training)
            branch = conv_norm(weights, f"{name}.conv2", fire(hidden, leak), 1, training)
            s = branch + (s if stride == 1 else conv_norm(weights, f"{name}.shortcut", s, stride, training))
    features = fire(s, leak).mean((0, 3, 4))
    return features @ weights["fc.weight"].T + weights["fc.bias"]


@pytest.mark.parametrize("still", [False, True], ids=["frames", "still"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("name", "blocks", "neuron", "leak"),
    [("ms_resnet20", (3, 3, 3), "IF", 0.0), ("ms_resnet20", (3, 3, 3), "LIF", 0.5), ("ms_resnet18", (2, 2, 2, 2), "IF", 0.0)],
)
def test_the_network_equals_one_written_from_the_equations(name, blocks, neuron, leak, training, still):
    net = drawn(build_model(name, num_classes=5, T=3, neuron=neuron)).double().train(training)
    x = torch.randn(2, 3, 33, 33).double() if still else torch.randn(3, 2, 3, 33, 33).double()
    weights = {
        key: tensor.detach().clone().requires_grad_(tensor.is_floating_point()) for key, tensor in net.state_dict().items()
    }
    frames = x.expand(3, *x.shape) if still else x
    expected = ms_resnet(weights, frames, blocks, leak=leak, imagenet="18" in name, training=training)
    logits = net(x)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    labels = torch.tensor([1, 3])
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(expected, labels).backward()
    for key, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[key].grad, rtol=1e-7, atol=1e-9, msg=key)


def test_the_published_neuron_in_units_of_its_threshold():
    """h = 0.25 v (1 - s) + x, a spike above 0.5, slope 1 where |h - 0.5| < 0.5: docs/equations.md, E10."""

    class Published(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h):
            ctx.save_for_backward(h)
            return (h > 0.5).to(h.dtype)

        @staticmethod
        def backward(ctx, grad):
            return grad * ((ctx.saved_tensors[0] - 0.5).abs() < 0.5)

    x = torch.randn(6, 2, 3, 5, 5).double().requires_grad_()
    h, s, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for x_t in x:
        h = 0.25 * h * (1 - s.detach()) + x_t
        s = Published.apply(h)
        spikes.append(s)
    ours = LIF(4 / 3, decay_input=False, surrogate="rectangular", alpha=0.5)(x / 0.5)
    assert torch.equal(ours, torch.stack(spikes))
    upstream = torch.randn(x.shape).double()
    expected, gradient = (torch.autograd.grad(out, x, upstream)[0] for out in (torch.stack(spikes), ours))
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("neuron", [IF, LIF, PLIF])
@pytest.mark.parametrize("bottleneck", [False, True], ids=["basic", "bottleneck"])
def test_zero_init_is_the_identity_on_currents_and_their_gradient_is_exactly_one(neuron, bottleneck):
    """Eq. 9 and 11, of currents: through a stack of blocks, whatever the neuron."""
    blocks = nn.Sequential(*(MSBlock(8, 2 if bottleneck else 8, neuron=neuron, bottleneck=bottleneck) for _ in range(6)))
    blocks = drawn(blocks).double()
    for block in blocks:
        block.zero_init_()
    x = torch.randn(4, 2, 8, 5, 5).double().requires_grad_()
    upstream = torch.randn(4, 2, 8, 5, 5).double()
    out = blocks(x)
    assert torch.equal(out, x)
    assert torch.equal(torch.autograd.grad(out, x, upstream)[0], upstream)


def test_a_block_that_changes_shape_passes_its_shortcut_under_zero_init():
    block = MSBlock(8, 16, 2, neuron=IF)
    block.zero_init_()
    x = torch.randn(3, 2, 8, 7, 7)
    assert torch.equal(block(x), block.shortcut(x))
    assert block(x).shape == (3, 2, 16, 4, 4)


def test_the_stem_has_no_neurons_the_shortcuts_neither_and_the_head_has_them_before_it():
    net = build_model("ms_resnet18", num_classes=5)
    assert type(net.stem) is type(net.blocks["layer2.0"].shortcut) is ConvNorm
    assert isinstance(net.tail, Fire)
    assert [name for name, block in net.blocks.items() if block.has_projection] == [f"layer{k}.0" for k in range(1, 5)]
    assert not any(isinstance(module, MaxPool) for module in net.modules()), "the first block halves in the pooling's place"
    assert not build_model("ms_resnet18", num_classes=5, stem="3x3").blocks["layer1.0"].has_projection
    with pytest.raises(ValueError, match="has no 'pool'"):
        build_model("ms_resnet18", num_classes=5, pool="avg")
    with pytest.raises(ValueError, match="has no 'connect'"):
        build_model("ms_resnet18", num_classes=5, connect="AND")
    with pytest.raises(ValueError, match="connects nothing after its neurons"):
        net.blocks["layer1.1"].connect = torch.add


def test_event_networks_of_such_blocks_have_the_tail_too(monkeypatch):
    monkeypatch.setitem(registry.MODELS, "ms_7b", registry.event_entry(MSBlock, (32, 7)))
    net = drawn(build_model("ms_7b", num_classes=5, num_blocks=3)).double().eval()
    frames, state = torch.rand(4, 2, 2, 16, 16).double() * 2, None
    for number, frame in enumerate(frames, start=1):
        logits, state = net.step(frame, state)
        assert torch.equal(logits, net(frames[:number]))
    assert "tail" in state.membranes


@pytest.mark.parametrize(("depth", "count"), [(18, 11_693_736), (34, 21_801_896), (104, 77_284_264)])
def test_parameter_counts(depth, count):
    """The ReLU twin's, and a projection in the first stage: 64 x 64 weights and a norm (18 and 34)."""
    with torch.device("meta"):
        net = build_model(f"ms_resnet{depth}", num_classes=1000)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("backend", available)
@pytest.mark.parametrize("neuron", [IF, LIF])
def test_neurons_alone_fire_as_the_reference_does_to_the_bit(backend, neuron, channels_last):
    x = torch.randint(-32, 48, (5, 2, 3, 7, 7)) / 16
    if channels_last:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 2))
    grad, results = torch.randn(x.shape), []
    for make in (Fire(lambda: neuron(backend=backend)), neuron(backend="reference")):
        given = x.clone().requires_grad_()
        spikes = make(given)
        results.append((spikes.detach(), torch.autograd.grad(spikes, given, grad)[0]))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", [name for name in available if name != "reference"])
def test_a_block_fires_as_on_the_reference_to_the_bit(backend):
    """Inputs and weights are multiples of 1/16, the norms those of powers of two: arithmetic is exact."""
    blocks = [MSBlock(4, 8, 2, neuron=lambda b=b: IF(backend=b)).eval() for b in (backend, "reference")]
    for layer in (module for module in blocks[0].modules() if isinstance(module, ConvNorm)):
        layer.conv.weight.data = torch.randint(-8, 9, layer.conv.weight.shape) / 16
        layer.norm.running_var.fill_(1 - layer.norm.eps)
    blocks[1].load_state_dict(blocks[0].state_dict())
    x = torch.randint(-32, 48, (4, 2, 4, 9, 9)) / 16
    outs = [block(x) for block in blocks]
    assert torch.equal(*outs)
    assert outs[0].min() < 0 < outs[0].max()


@pytest.mark.parametrize("where", ["fire", "fire.neuron", "fire.spikes", "conv1.neuron"])
@pytest.mark.parametrize("packing", [True, False])
def test_what_a_hook_changes_goes_on_and_back(where, packing):
    """To the bit as with packing off; a hook that changes nothing leaves gradients as they are."""
    results = []
    for on, change in ((packing, True), (False, True), (packing, False)):
        torch.manual_seed(0)
        net = build_model("ms_resnet20", num_classes=3, T=2).train()
        net.packing = on
        module = net.layer2[1].get_submodule(where)
        module.register_forward_hook(lambda _m, _a, out, change=change: out * torch.linspace(0.5, 1.5, 6) if change else None)
        loss = F.cross_entropy(net(torch.rand(2, 3, 12, 12)), torch.tensor([0, 2]))
        results.append([loss.detach(), *torch.autograd.grad(loss, tuple(net.parameters()))])
    assert all(map(torch.equal, *results[:2]))
    assert results[0][0] != results[2][0]


def kept_bytes(net, x):
    kept = {}
    owned = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.dtype, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = net(x)
    out.sum().backward()
    return sum(size for pointer, (_, size) in kept.items() if pointer not in owned)


@pytest.mark.skipif("cpu" not in available, reason="no compiler: the reference keeps all")
def test_of_spikes_backward_keeps_bits():
    """An identity block keeps its input current, two convolutions' outputs, and both spikes' planes: 1/32 each."""
    block = MSBlock(8, 8, neuron=IF).train()
    x = torch.randn(4, 2, 8, 16, 16).requires_grad_()
    size = x.numel() * 4
    assert 3 * size <= kept_bytes(block, x) <= 3.1 * size


def test_a_stream_asks_for_the_states_of_every_layer():
    net = drawn(build_model("ms_resnet20", num_classes=5)).eval()
    state = net.step(torch.rand(2, 3, 16, 16))[1]
    assert {"layer1.0.fire", "layer1.0.conv1", "tail"} <= set(state.membranes)
    assert set(state.membranes) == set(net.spiking_layers)
    net.tail.neuron = nn.Identity()
    with pytest.raises(ValueError, match="tail: Identity has a forward of its own"):
        net.step(torch.rand(2, 3, 16, 16))
    net.layer1[0].fire.neuron.forward = lambda x: x
    with pytest.raises(ValueError, match=r"layer1\.0\.fire: IF has a forward of its own"):
        net.step(torch.rand(2, 3, 16, 16))


def test_a_neuron_that_kernels_do_not_know_runs_in_the_same_layer():
    torch.manual_seed(0)
    net = drawn(build_model("ms_resnet20", num_classes=5)).double()
    slow = copy.deepcopy(net)
    for layer in slow.spiking_layers.values():
        layer.neuron.step = type(layer.neuron).step.__get__(layer.neuron)  # one of its own
    x = torch.rand(2, 3, 16, 16).double()
    torch.testing.assert_close(net(x), slow(x), rtol=1e-10, atol=1e-10)
    assert isinstance(slow.layer1[0].conv1, ConvNormFire)
