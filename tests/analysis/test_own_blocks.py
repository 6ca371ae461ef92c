"""A family of blocks that a user wrote, with layers and names of its own: trained, streamed, looked at, or refused by name."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spikewise as sw
from spikewise.analysis.activity import RunAnalysis, block_gradients, format_table, plot_activity
from spikewise.analysis.diagnosis.diagnose import diagnose
from spikewise.analysis.energy import count_operations
from spikewise.models import registry
from spikewise.models.layers import Fire, framewise
from spikewise.models.recorder import firing_rates, record_activity, step_summary
from spikewise.models.residual import Block
from spikewise.neurons import IF


class Mute(Block):
    """The membrane shortcut (E10) of plain convolutions and norms; of itself it says where branch and shortcut meet."""

    meets = "currents"

    def __init__(self, in_channels, channels, stride=1, *, neuron, last_neuron=None, bottleneck=False):
        super().__init__(in_channels, channels, stride, bottleneck)
        self.first, self.second = Fire(neuron), Fire(last_neuron or neuron)
        self.w1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.w2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.n1, self.n2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        if self.has_projection:
            self.skip = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x, states=None):
        h = framewise(nn.Sequential(self.w1, self.n1), self.first(x, states=states))
        out = framewise(nn.Sequential(self.w2, self.n2), self.second(h, states=states))
        return out + (framewise(self.skip, x) if self.has_projection else x)


class Telling(Mute):
    """The same, which says all that analysis asks."""

    @property
    def last_neurons(self):
        return self.second

    @property
    def last_norm(self):
        return self.n2


NAMES = {
    ".fire.": ".first.",
    ".conv1.conv.": ".w1.",
    ".conv1.norm.": ".n1.",
    ".conv2.conv.": ".w2.",
    ".conv2.norm.": ".n2.",
    ".shortcut.conv.": ".skip.0.",
    ".shortcut.norm.": ".skip.1.",
}


def renamed(name):
    return next((name.replace(ours, theirs) for ours, theirs in NAMES.items() if ours in name), name)


@pytest.fixture(params=[Mute, Telling])
def pair(request, monkeypatch):
    """A network of the user's family, and the built-in one of the same weights."""
    monkeypatch.setitem(registry.BLOCK_OPTIONS, request.param, registry.NEURON_OPTIONS | {"zero_init"})
    monkeypatch.setitem(registry.MODELS, "mine20", registry.cifar_entry(request.param, 20))
    ours, mine = (sw.build_model(name, num_classes=5, T=3).double() for name in ("ms_resnet20", "mine20"))
    mine.load_state_dict({renamed(name): tensor for name, tensor in ours.state_dict().items()})
    with torch.no_grad():
        for _ in range(30):
            x = torch.randn(4, 3, 16, 16).double()
            ours.train()(x), mine.train()(x)
    return mine, ours, torch.randn(4, 3, 16, 16).double()


def test_it_learns_and_streams_as_the_built_in_one(pair):
    mine, ours, x = pair
    labels = torch.tensor([0, 1, 2, 3])
    losses = [F.cross_entropy(net.train()(x), labels) for net in (mine, ours)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, net.stem.conv.weight)[0] for loss, net in zip(losses, (mine, ours), strict=True)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)
    mine.eval()
    state = None
    for number in (1, 2, 3):
        logits, state = mine.step(x, state)
        assert torch.equal(logits, mine(x.expand(number, *x.shape)))


def test_rates_are_of_spikes_alone_and_gradients_of_every_block(pair):
    mine, ours, x = pair
    rates, expected = firing_rates(mine, [x]), firing_rates(ours, [x])
    spikes = []
    mine.layer2[1].second.neuron.register_forward_hook(lambda _m, _a, out: spikes.append(out))
    with torch.no_grad():
        mine.eval()(x)
    assert expected["layer2.1"].branch == pytest.approx(float(spikes[0].mean()), rel=1e-6)
    gradients, theirs = (block_gradients(net, x, torch.arange(4)) for net in (mine, ours))
    tells = isinstance(mine.layer1[0], Telling)
    for name in mine.blocks:
        assert rates[name].branch == (pytest.approx(expected[name].branch) if tells else pytest.approx(torch.nan, nan_ok=True))
        assert all(rate != rate for rate in (rates[name].output, rates[name].max_value, *rates[name].values)), "a current"
        assert rates[name].distance == pytest.approx(expected[name].distance)
        assert gradients[name].grad_input == pytest.approx(theirs[name].grad_input, rel=1e-6)
        has_theory = not mine.blocks[name].has_projection
        assert gradients[name].predicted == (gradients[name].grad_output if has_theory else None)
    table = "\n".join(format_table(RunAnalysis(rates, gradients, {}, ())))
    assert "nan" not in table
    assert "currents, no spikes, have no rate: layer1.0 to layer3.2, 9 blocks" in table
    assert ("not looked at" in table) != tells


def test_a_picture_is_of_spikes_or_none_is_drawn(pair, tmp_path):
    pytest.importorskip("matplotlib")
    mine, _, x = pair
    analysis = RunAnalysis(firing_rates(mine, [(x, torch.arange(4))]), {}, {}, tuple("abcde"))
    if isinstance(mine.layer1[0], Telling):
        plot_activity(analysis, tmp_path / "a.svg")
        assert "class" in (tmp_path / "a.svg").read_text()
        return
    with pytest.raises(ValueError, match="nothing to draw: outputs are currents"):
        plot_activity(analysis, tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())


def test_a_step_is_recorded_without_currents(pair):
    mine, _, x = pair
    other = copy.deepcopy(mine)
    with record_activity(mine.train()) as watches:
        F.cross_entropy(mine(x), torch.arange(4)).backward()
    F.cross_entropy(other.train()(x), torch.arange(4)).backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(mine.parameters(), other.parameters(), strict=True))
    line = json.loads(json.dumps(step_summary(mine, watches), allow_nan=False))["blocks"]["layer1.1"]
    assert line["output"] is None
    assert line["most"] is None
    assert line["gradient"] > 0
    assert (line["branch"] is None) != isinstance(mine.layer1[0], Telling)


def test_operations_are_those_of_the_built_in_one(pair):
    mine, ours, x = pair
    report, expected = (count_operations(net, [x]) for net in (mine, ours))
    for key in ("twin_macs", "macs", "acs", "neurons", "weights"):
        assert sum(getattr(layer, key) for layer in report.layers) == pytest.approx(
            sum(getattr(layer, key) for layer in expected.layers), rel=1e-12
        )
    assert report.connect_adds == expected.connect_adds > 0
    for cost, theirs in zip(report.costs, expected.costs, strict=True):
        assert cost[1:] == pytest.approx(theirs[1:])
    assert {layer.name: layer.takes for layer in report.layers}["layer2.0.skip.0"] == "values"
    assert not report.not_counted
    mine.layer1[0].scale = nn.Linear(3, 3)
    assert count_operations(mine, [x]).not_counted == ["layer1.0.scale (Linear)"]


def found(net, x):
    return {finding.problem: finding for finding in diagnose(net, x, torch.arange(4))}


def test_diagnosis_finds_what_is_wrong_and_says_what_it_did_not_look_at(pair):
    mine, ours, x = pair
    problems = found(mine, x)
    assert list(problems) == ([] if isinstance(mine.layer1[0], Telling) else ["not looked at"])
    assert not found(ours, x)
    if problems:
        assert problems["not looked at"].location == "layer1.0"
        assert "Mute does not say its last_neurons and last_norm" in problems["not looked at"].evidence
    for net, damaged, location in ((mine, "second", "layer2.1.second"), (ours, "conv1", "layer2.1")):
        broken = copy.deepcopy(net)
        broken.layer2[1].get_submodule(damaged).neuron.v_th = 1e3
        silent = found(broken, x)["silent"]
        assert silent.location == ("layer2.1" if isinstance(mine.layer1[0], Telling) else location)
        assert "layer2.1 passes on what comes along its shortcut" in silent.evidence
        broken = copy.deepcopy(net)
        broken.tail.neuron.v_th = 1e3
        assert "0 blocks behind it" in found(broken, x)["silent"].evidence
    mine.layer1[1].n2.running_var.mul_(3000)
    assert found(mine, x)["batch statistics gone wrong"].location == "layer1.1.n2"
    mine.layer1[2].w1.weight.data.zero_()
    assert found(mine, x)["weights out of scale"].location == "layer1.2.w1"


def test_zero_init_and_idle_branches(pair):
    mine, ours, x = pair
    for net in (mine, ours):
        block = net.layer2[1]
        if block.last_norm is None:
            with pytest.raises(ValueError, match="zero_init: Mute does not say its last_norm"):
                net.zero_init_()
            continue
        block.zero_init_()
        assert found(net, x)["never left the identity"].location == "layer2.1"
        net.zero_init_()
        for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.reset_running_stats()
        assert not found(net, x), "before training"


class Deaf(Mute):
    """Neurons that are called by themselves, and get no states."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        del self.second
        self.second = IF()

    def forward(self, x, states=None):
        h = framewise(nn.Sequential(self.w1, self.n1), self.first(x, states=states))
        return x + framewise(nn.Sequential(self.w2, self.n2), self.second(h))


def test_a_block_that_keeps_no_states_is_looked_at_and_refuses_to_stream():
    net = sw.build_model("ms_resnet20", num_classes=5, T=3)
    net.layer1[1] = Deaf(16, 16, neuron=IF)
    x = torch.randn(4, 3, 16, 16)
    assert list(found(net, x)) == ["not looked at"]
    assert "layer1.1.second" in {layer.name for layer in count_operations(net, [x]).layers}
    with pytest.raises(ValueError, match=r"layer1\.1\.second was not given the stream's `states`"):
        net.eval().step(x)


class Unsaid(Telling):
    """It does not say where branch and shortcut meet."""

    meets = Block.meets


def test_a_block_that_does_not_say_where_it_meets_is_named():
    net, x = sw.build_model("sew_resnet20", num_classes=5, T=3), torch.randn(4, 3, 16, 16)
    adds = count_operations(net, [x]).connect_adds
    net.layer1[1] = Unsaid(16, 16, neuron=IF)
    report = count_operations(net, [x])
    assert report.connect_adds == adds - 3 * 16 * 16 * 16
    assert report.not_counted == ["additions of the shortcut in layer1.1 (Unsaid)"]
    assert "Unsaid does not say its meets" in found(net, x)["not looked at"].evidence


def test_a_module_in_a_blocks_place_is_not_looked_at_and_said_so():
    net = sw.build_model("sew_resnet20", num_classes=5, T=3)
    net.layer1[1] = nn.Identity()
    x = torch.randn(4, 3, 16, 16)
    assert found(net, x)["not looked at"].location == "layer1.1"
    for stage in net.stages:
        for position in range(len(stage)):
            stage[position] = nn.Identity()
    with pytest.raises(ValueError, match="no block of this network is a Block"):
        diagnose(net, x, torch.arange(4))


class Halved(nn.Module):
    """No neuron of ours: spikes of one half."""

    def forward(self, x):
        return (x > 0).to(x.dtype) / 2


def every_norm_is_of_groups(net):
    for layer in net.conv_layers.values():
        layer.norm = nn.GroupNorm(2, layer.norm.num_features)


CHANGES = {
    "group norms": every_norm_is_of_groups,
    "no norm": lambda net: setattr(net.layer1[1].conv2, "norm", nn.Identity()),
    "layer norm": lambda net: setattr(net.layer1[1].conv1, "norm", nn.LayerNorm([16, 12, 12])),
    "no statistics": lambda net: setattr(
        net.layer1[1].conv1, "norm", nn.BatchNorm2d(16, affine=False, track_running_stats=False)
    ),
    "head": lambda net: setattr(net, "head", nn.Sequential(nn.Dropout(0.2), nn.Linear(64, 5))),
    "no head": lambda net: setattr(net, "head", nn.Identity()),
    "neuron": lambda net: setattr(net.layer1[1].conv1, "neuron", Halved()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["sew_resnet20", "ms_resnet20"])
def test_parts_of_ones_own_are_looked_at_or_named(name, change):
    net, x = sw.build_model(name, num_classes=5, T=2), torch.randn(4, 3, 12, 12)
    CHANGES[change](net)
    problems = found(net, x)
    assert set(problems) <= ({"weights without gradient"} if change == "neuron" else set())
    report = count_operations(net, [x])
    assert report.not_counted == (["layer1.1.conv1.norm (LayerNorm)"] if change == "layer norm" else [])
    assert {layer.name for layer in report.layers if "head" in layer.name} == {"head": {"head.1"}, "no head": set()}.get(
        change, {"head"}
    )
    assert "nan" not in "\n".join(
        format_table(RunAnalysis(firing_rates(net, [x]), block_gradients(net, x, torch.arange(4)), {}, ()))
    )


def test_grouped_and_padded_convolutions_are_counted_exactly():
    """Of ones, every value meets as many weights as the convolution itself adds up."""
    net, x = sw.build_model("sew_resnet20", num_classes=5, T=2), torch.randn(4, 3, 12, 12)
    conv = nn.Conv2d(16, 16, (1, 3), padding=(0, 1), groups=4, padding_mode="reflect", bias=False)
    net.layer1[1].conv1.conv, given = conv, []
    handle = conv.register_forward_hook(lambda _m, args, _out: given.append(args[0].detach()))
    layer = next(layer for layer in count_operations(net, [x]).layers if layer.name == "layer1.1.conv1")
    handle.remove()
    ones = copy.deepcopy(conv)
    nn.init.ones_(ones.weight)
    assert layer.acs == pytest.approx(float(ones(given[0]).sum().detach()) / 4)
    assert layer.twin_macs == 16 * 4 * 3 * 12 * 12
