"""docs/own_networks.md: its code runs, section by section; its commands, too."""

import copy
import inspect
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spikewise as sw
from spikewise import models, neurons
from spikewise.cli.main import main
from spikewise.models import SEWBlock, cifar_entry, layers, map_states, membrane_shortcut, residual, stream
from spikewise.models.layers import ConvNormFire, Fire, SpikingSequential, framewise
from spikewise.neurons import CUBA, LIF, Neuron

PAGE = (Path(__file__).parents[1] / "docs" / "own_networks.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
BLOCKS = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TABLES = (sw.NEURONS, sw.SURROGATES, sw.CONNECT, sw.MODELS, sw.DATASETS)


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """In a folder of its own; what a section adds to the tables is taken out again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = [dict(table) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)
    sys.modules.pop("own_parts", None)


@pytest.mark.parametrize("section", [title for title, text in SECTIONS.items() if "```" in text])
def test_what_the_page_shows_runs(section):
    names = {"__name__": "own"}
    for kind, file, code in BLOCKS.findall(SECTIONS[section]):
        if file:
            with Path(file).open("a") as opened:
                opened.write(code)
        elif kind == "python":
            exec(compile(code, f"own_networks.md, {section}", "exec"), names)
        else:
            for command in code.replace("\\\n", "").splitlines():
                assert main(shlex.split(command)[1:]) == 0, command


def test_all_code_of_the_page_is_in_a_section_and_examples_are_short():
    blocks = BLOCKS.findall(PAGE)
    assert len(blocks) == PAGE.count("```") // 2 == sum(len(BLOCKS.findall(text)) for text in SECTIONS.values())
    assert {kind for kind, _, _ in blocks} == {"python", "sh"}
    assert max(code.count("\n") for _, _, code in blocks) < 40


def shown(section):
    """What the first block of a section defines."""
    names = {"__name__": "own"}
    exec(BLOCKS.findall(SECTIONS[section])[0][2], names)
    return names


def fire(u):
    """1 where u >= 0, with the slope of an arctan: written anew, as the rest of this half of the file."""
    smooth = torch.atan(math.pi * u) / math.pi
    return smooth + ((u >= 0).to(u.dtype) - smooth).detach()


def lif(x, tau=2.0, decay_input=True, feedback=None):
    v, spikes = torch.zeros_like(x[0]), [torch.zeros_like(x[0])]
    for x_t in x:
        current = x_t if feedback is None else x_t + spikes[-1] @ feedback.T
        h = (1 - 1 / tau) * v + (current / tau if decay_input else current)
        spikes.append(fire(h - 1))
        v = h * (1 - spikes[-1].detach())
    return torch.stack(spikes[1:])


def frames(function, x):
    return torch.stack([function(frame) for frame in x])


def conv_norm_fire(layer, x):
    y = frames(lambda frame: F.conv2d(frame, layer.conv.weight, padding=1), x)
    mean, var = y.mean((0, 1, 3, 4), keepdim=True), y.var((0, 1, 3, 4), keepdim=True, correction=0)
    scale, shift = (value[:, None, None] for value in (layer.norm.weight, layer.norm.bias))
    return lif((y - mean) / (var + 1e-5).sqrt() * scale + shift)


def half(x):
    return frames(lambda frame: F.max_pool2d(frame, 2), x)


def twice(x):
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def vgg_loop(net, x):
    x = conv_norm_fire(net.stem, x)
    for first, second, _ in net.stages:
        x = half(conv_norm_fire(second, conv_norm_fire(first, x)))
    return x.mean((0, 3, 4)) @ net.fc.weight.T + net.fc.bias


def unet_loop(net, x):
    def pair(layers, x):
        return conv_norm_fire(layers[1], conv_norm_fire(layers[0], x))

    fine = pair(net.down1, x)
    coarse = pair(net.down2, half(fine))
    up = pair(net.up2, torch.cat([twice(pair(net.bottom, half(coarse))), coarse], 2))
    up = pair(net.up1, torch.cat([twice(up), fine], 2))
    return frames(lambda frame: F.conv2d(frame, net.readout.weight, net.readout.bias), up)


def recurrent_loop(net, x):
    current = x @ net.input.weight.T + net.input.bias
    spikes = lif(current, tau=4.0, decay_input=False, feedback=net.hidden.neuron.feedback.weight)
    return spikes @ net.readout.weight.T + net.readout.bias


NETS = {  # section, class, input, the same network as a plain loop
    "VGG": ("A VGG", (4, 3, 1, 8, 8), vgg_loop),
    "UNet": ("A U-Net", (4, 3, 1, 8, 8), unet_loop),
    "RecurrentNet": ("A recurrent network", (8, 3, 8), recurrent_loop),
}
nets = pytest.mark.parametrize("name", NETS)


def made(name, dtype=torch.float64):
    """A network of the page in training, an input, and the plain loop."""
    section, shape, loop = NETS[name]
    torch.manual_seed(0)
    x = torch.rand(shape, dtype=torch.float64) * 2
    return shown(section)[name]().to(dtype), x.to(dtype), loop


def learned(net, x, forward=None):
    out = (forward or type(net).__call__)(net, x.requires_grad_())  # full backward hooks want to see it
    return [out.detach(), *torch.autograd.grad((out**2).mean(), tuple(net.parameters()))]


def hooked(net):
    for module in net.modules():
        module.register_forward_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
    return net


WAYS = {  # what a user may do with a network, and it is the same
    "as it is": lambda net: net,
    "deepcopy": copy.deepcopy,
    "hooks": hooked,
    "channels last": lambda net: net.to(memory_format=torch.channels_last),
}


@nets
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # of the first step, whose state has no gradient
def test_outputs_and_gradients_are_those_of_a_plain_loop(name, way):
    net, x, loop = made(name)
    expected = learned(net, x, loop)
    assert all(gradient.any() for gradient in expected)
    for found, right in zip(learned(WAYS[way](net), x), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "RecurrentNet")) for name in NETS])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")  # of the compiler
def test_compiled_networks_learn_alike_and_stream(name):
    net, x, loop = made(name)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for found, right in zip(learned(compiled, x), learned(net, x, loop), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-7, atol=1e-10)
    if name != "VGG":
        first, states = stream(torch.compile(net.eval(), backend="aot_eager"), x[:2])
        assert torch.equal(torch.cat([first, stream(net, x[2:], states)[0]]), net(x))


@nets
def test_float32_agrees_and_half_precision_runs(name):
    """Float32 is the fused kernels."""
    expected, (net, x, _) = learned(*made(name)[:2]), made(name, torch.float32)
    for found, right in zip(learned(net, x), expected, strict=True):
        torch.testing.assert_close(found.double(), right, rtol=1e-2, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        net(x).float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 1)])
@pytest.mark.parametrize("neuron", ["", *sw.NEURONS])
def test_a_stream_is_the_sequence_to_the_bit(sizes, neuron):
    net, x, _ = made("UNet" if neuron else "RecurrentNet")
    if neuron:
        net = shown("A U-Net")["UNet"](neuron=neuron).double()
    net, x, outputs, states = net.eval(), x[:4], [], None
    for part in x.split(sizes):
        out, states = stream(net, part, states)
        outputs.append(out)
    assert torch.equal(torch.cat(outputs), net(x))


def test_gradients_flow_through_states_until_they_are_detached():
    net, x, _ = made("RecurrentNet")
    expected = torch.autograd.grad(net(x).sum(), net.hidden.neuron.feedback.weight)
    first, states = stream(net, x[:4])
    second, _ = stream(net, x[4:], states)
    found = torch.autograd.grad((first.sum() + second.sum()), net.hidden.neuron.feedback.weight, retain_graph=True)
    torch.testing.assert_close(found, expected)
    alone, _ = stream(net, x[4:], map_states(torch.Tensor.detach, states))
    assert torch.equal(alone, second)
    ends, goes_on = (torch.autograd.grad(out.sum(), net.input.weight)[0] for out in (alone, second))
    assert ends.any()
    assert not torch.allclose(ends, goes_on)


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (("neuron", lambda: CUBA(tau_synapse=3.0)), lambda layer: isinstance(layer.neuron, CUBA)),
        (("norm", lambda: nn.GroupNorm(4, 16)), None),
        (("conv", lambda: nn.Conv2d(16, 16, 3, padding=1, groups=4)), None),
        (("neuron", nn.ReLU), None),
    ],
)
def test_a_part_of_one_layer_is_replaced_and_called(part, check):
    net, x, _ = made("VGG")
    name, make = part
    layer, calls = net.stages[0][0], []
    setattr(layer, name, make().double())
    getattr(layer, name).register_forward_hook(lambda *_: calls.append(1))
    before = net(x).detach()
    assert calls
    assert check is None or check(layer)
    with torch.no_grad():
        for parameter in getattr(layer, name).parameters():
            parameter.mul_(-1)
    assert torch.equal(net(x), before) == (not list(getattr(layer, name).parameters()))


class Bare(nn.Module):
    """It hands its states on to nobody."""

    def __init__(self):
        super().__init__()
        self.fire = Fire("LIF")

    def forward(self, x, states=None):
        return self.fire(x)


class Careless(Neuron):
    def step(self, x, state):
        return self.spike(x)


X = torch.rand(4, 3, 1, 8, 8)
LAYER = ConvNormFire(1, 2, 3, neuron="IF").eval()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Fire("LIF")(X[0]), "neurons take sequences"),
        (lambda: Fire("LIF")(X[..., 0, 0].sum(2)), "neurons take sequences"),
        (lambda: Fire("LIF")(X.long()), "floating-point currents"),
        (lambda: Fire("LIFF"), "did you mean 'LIF'"),
        (lambda: Fire(LIF()), "neuron is one LIF, but every layer makes its own"),
        (lambda: Fire(Careless)(X), "Careless.step must return spikes"),
        (lambda: LAYER(X[0]), "or a still image .* with the number of steps"),
        (lambda: LAYER(X, repeat_steps=3), "repeat_steps=3; this layer takes"),
        (lambda: LAYER(X.double()), "given torch.float64, but the weights are torch.float32"),
        (lambda: LAYER(X[:0]), "a sequence of no frames"),
        (lambda: framewise(LIF(), X), "LIF has a state over time"),
        (lambda: SpikingSequential(nn.Sequential(LAYER))(X), "would hide time from it; use .*SpikingSequential"),
        (lambda: stream(nn.Sequential(LAYER), X), "Sequential.forward takes no `states`"),
        (lambda: stream(shown("A VGG")["VGG"]().eval(), X), "use net.step"),
        (lambda: stream(Bare(), X), "fire was not given the stream's `states`"),
        (lambda: stream(LAYER, X, (1,)), "given states of type tuple"),
        (lambda: stream(LAYER, X, {"conv1": None}), "comes from another network"),
        (lambda: stream(LAYER, X[:, :2], stream(LAYER, X)[1]), "frames of another size"),
        (lambda: stream(Fire("ALIF"), X[:, :2], stream(Fire("ALIF"), X)[1]), "frames of another size"),
        (lambda: cifar_entry(SEWBlock, 19), "no ResNet of depth 19; use 20, 32"),
        (lambda: sw.save_pretrained(shown("A VGG")["VGG"](), "folder"), "save net.state_dict"),
    ],
)
def test_mistakes_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not Path("folder").exists()


def test_a_stream_in_training_of_batch_norm_is_refused():
    with pytest.raises(RuntimeError, match="batch norm in evaluation mode"):
        stream(ConvNormFire(1, 2, 3, neuron="IF"), X)


def test_a_sequential_over_time_holds_layers_blocks_and_modules_of_pytorch():
    net = SpikingSequential(
        nn.Conv2d(1, 4, 3, padding=1),
        Fire("ALIF"),
        SEWBlock(4, 8, 2, neuron="PLIF"),
        nn.Flatten(),
        nn.Linear(128, 5),
        Fire("IF"),
    ).eval()
    assert net(X).shape == (4, 3, 5)
    out, states = stream(net, X[:3])
    assert torch.equal(torch.cat([out, stream(net, X[3:], states)[0]]), net(X))
    assert set(states) == {"1", "2.conv1", "2.conv2", "2.shortcut", "5"}


def test_what_is_public_is_there_and_has_its_docstring():
    for module in (layers, membrane_shortcut, models, neurons, residual):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            entry = getattr(module, name)
            assert not inspect.isclass(entry) or entry.__doc__, name
            assert not inspect.isfunction(entry) or entry.__doc__, name


def test_a_network_of_ones_own_refuses_images_that_its_pooling_leaves_nothing_of():
    net = shown("A VGG")["VGG"]().eval()
    assert net(torch.rand(1, 1, 4, 4)).shape == (1, 10)
    with pytest.raises(ValueError, match="needs at least 4 x 4 pixels") as error:
        net(torch.rand(1, 1, 3, 3))
    assert "num_blocks" not in str(error.value)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_file_of_ones_own_network_is_told_how_it_is_loaded(command, capsys):
    for name, net in (("vgg.pt", shown("A VGG")["VGG"]()), ("other.pt", nn.Linear(2, 2))):
        torch.save(net.state_dict(), name)
        assert main([command, name, *["x.png"][: command == "predict"]]) == 2
        assert "is built by that class, and takes them by net.load_state_dict" in capsys.readouterr().err
