"""Energy: every accumulate counted again by other means."""

import json

import pytest
import torch
import torch.nn.functional as F

import spikewise as sw
from spikewise.analysis.energy import SOURCES, EnergyConstants, compare_with_twin, constant_sources, count_operations
from spikewise.cli.main import main
from spikewise.models.layers import ConvNorm, ConvNormFire


def small_network(**options):
    return sw.build_model("sew_resnet20", num_classes=10, in_channels=1, **({"T": 2} | options))


def settled(net, x):
    """After some steps of training mode, so that the network fires in evaluation mode, too."""
    net.train()
    with torch.no_grad():
        for _ in range(30):
            net(x)
    return net.eval()


def fan_out(conv, x):
    """For every value of x, how many weights it meets: the gradient of a convolution with ones."""
    x = torch.zeros_like(x, dtype=torch.float64, requires_grad=True)
    ones = torch.ones_like(conv.weight, dtype=torch.float64)
    return torch.autograd.grad(F.conv2d(x, ones, None, conv.stride, conv.padding).sum(), x)[0]


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet18", "sew_7b", "sew_resnet50"])
@pytest.mark.parametrize("side", [32, 37])
def test_operations_counted_by_hand(name, side):
    events = name == "sew_7b"
    options = {"num_blocks": 3, "num_classes": 11} if events else {"num_classes": 10, "T": 3}
    x = torch.randint(0, 3, (5, 2, 2, side, side)).float() if events else torch.randn(2, 3, side, side)
    net = settled(sw.build_model(name, **options), x)
    calls = {}
    for layer, module in net.named_modules():
        if isinstance(module, ConvNorm):
            module.conv.register_forward_hook(
                lambda conv, args, out, layer=layer: calls.update({layer: (conv, args[0].detach(), out)})
            )
    report = count_operations(net, [x])
    T = 5 if events else 3
    assert report.T == T
    for layer in report.layers[:-1]:
        conv, given, out = calls[layer.name]
        weights_met, is_stem = fan_out(conv, given), layer is report.layers[0]
        macs = float(weights_met.sum()) / 2
        acs = float((given.double() * weights_met).sum()) / 2
        assert layer.macs == (macs if is_stem else 0)
        assert layer.acs == (0 if is_stem else pytest.approx(acs, rel=1e-12))
        assert is_stem or layer.max_input == int(given.max())
        assert layer.twin_macs == pytest.approx(macs / (1 if is_stem and not events else T), rel=1e-12)
        assert layer.weights == conv.weight.numel() + conv.out_channels
        assert layer.neurons in (0, out[0].numel())
    assert sum(layer.acs for layer in report.layers) == report.synops > 0
    if name != "spiking_resnet18":
        ends = [calls[f"{block}.conv{3 if '50' in name else 2}"][2] for block in net.blocks]
        assert report.connect_adds == T * sum(out[0].numel() for out in ends)


def test_currents_are_multiplied_spikes_are_accumulated_and_membrane_shortcuts_added():
    """MS-ResNet: shortcuts that change the shape take a current, the branch's convolutions take spikes."""
    x = torch.randn(2, 3, 16, 16)
    net, calls = settled(sw.build_model("ms_resnet20", num_classes=10, T=3), x), {}
    for name, module in net.named_modules():
        if isinstance(module, ConvNorm):
            module.conv.register_forward_hook(
                lambda conv, args, _out, name=name: calls.update({name: (conv, args[0].detach())})
            )
    report = count_operations(net, [x], EnergyConstants(memory_byte=1.0))
    by_name = {layer.name: layer for layer in report.layers}
    for name, (conv, given) in calls.items():
        weights_met, layer = fan_out(conv, given), by_name[name]
        multiplied = name == "stem" or name.endswith("shortcut")
        assert layer.takes == ("values" if multiplied else "spikes")
        assert layer.macs == (float(weights_met.sum()) / 2 if multiplied else 0)
        assert layer.acs == (0 if multiplied else pytest.approx(float((given.double() * weights_met).sum()) / 2, rel=1e-12))
        assert (layer.rate is None) == multiplied
        assert multiplied or layer.rate == pytest.approx(float(given.double().mean()))
    sizes = {"layer1": 16 * 256, "layer2": 32 * 64, "layer3": 64 * 16}  # values of a current
    assert report.connect_adds == 3 * 3 * sum(sizes.values())
    first = [4 * sizes["layer1"], 3 * sizes["layer2"], 3 * sizes["layer3"]]  # of blocks, at their input, and the tail's
    assert report.neuron_adds == 3 * (sum(first) + 3 * sum(sizes.values()))
    currents = 16 * 256 + 3 * sum(sizes.values())  # of the stem, and of each block
    assert report.costs[0].activations == pytest.approx(2 * 3 * (report.neuron_adds / 3 / 8 + 4 * currents))


def test_averaged_spikes_are_multiplied():
    x = torch.randint(0, 3, (4, 2, 2, 16, 16)).float()
    report = count_operations(settled(sw.build_model("sew_7b", num_classes=11, num_blocks=3, pool="avg"), x), [x])
    takes = {layer.name: layer.takes for layer in report.layers}
    assert takes["stage1.blocks.1.conv1"] == "values"
    assert takes["stage1.blocks.0.conv1"] == takes["stage1.blocks.1.conv2"] == "spikes"


def test_a_network_counted_on_paper():
    """One convolution that matters: 4 x 4 places, 2 x 3 channels, 3 x 3 weights, T = 2, and the constants of the table."""
    report = count_operations(small_network(), [torch.randn(3, 1, 8, 8)])
    stem, head = report.layers[0], report.layers[-1]
    assert stem.twin_macs == 16 * (36 * 9 + 4 * 6 * 6 + 4 * 4)  # inside, edges, corners of 8 x 8
    assert stem.neurons == 16 * 64
    assert head.twin_macs == 640
    assert report.neuron_adds == 2 * (7 * 16 * 64 + 7 * 32 * 16 + 7 * 64 * 4)
    twin = next(cost for cost in report.costs if cost.what == "ReLU twin, float32")
    assert twin.operations == pytest.approx(4.6 * sum(layer.twin_macs for layer in report.layers))
    assert twin.weights == pytest.approx(4 * sum(layer.weights for layer in report.layers) * 1300 / 8)


def test_bits_between_layers_are_those_of_the_values_that_leave_each():
    """The block's output goes to the next block, not to the shortcut that is listed behind its last layer."""
    x = torch.randn(4, 1, 16, 16)
    net, outputs = settled(small_network(T=3), x), {}
    for name, module in net.named_modules():
        if isinstance(module, ConvNormFire):
            module.register_forward_hook(lambda _m, _args, out, name=name: outputs.update({name: out}))
    report = count_operations(net, [x], EnergyConstants(memory_byte=1.0))
    max_outputs = {layer.name: layer.max_output for layer in report.layers[:-1]}
    assert max_outputs == {name: int(out.max()) for name, out in outputs.items()}
    assert max(max_outputs.values()) > 1 == max_outputs["stem"]
    bits = sum(out[0, 0].numel() * int(out.max()).bit_length() for out in outputs.values())
    assert report.costs[0].activations == pytest.approx(2 * 3 * bits / 8)


def test_every_constant_has_a_source():
    assert set(SOURCES) == set(vars(EnergyConstants()))
    assert "dram_byte 1 pJ: replaced, by default 162.5" in constant_sources(EnergyConstants(dram_byte=1))
    assert sum("ISSCC 2014" in line for line in constant_sources(EnergyConstants())) == len(SOURCES) - 2


@pytest.fixture
def command(tmp_path):
    sw.save_pretrained(small_network(), tmp_path / "net")
    return ["energy", str(tmp_path / "net"), "--samples", "2", "--size", "16", "--device", "cpu"]


def test_on_the_command_line(command, tmp_path, capsys):
    (tmp_path / "free.json").write_text(json.dumps({"dram_byte": 0, "memory_byte": 0}))
    assert main([*command, "--json", "--constants", str(tmp_path / "free.json")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all(cost["weights"] == cost["activations"] == cost["membranes"] == 0 for cost in report["costs"])
    assert report["constants"]["add_float32"] == 0.9
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "microjoules per sample" in out
    assert 'dram_byte 162.5 pJ: M. Horowitz, "Computing' in out
    assert "of the ReLU twin, 4 bits, which needs less" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"dram": 1}', "'dram' is unknown; known: add_float32, multiply_float32"),
        ("[1]", "constants.json holds no object of numbers; known: add_float32"),
        ("{", "constants.json is no JSON"),
        ('{"dram_byte": -1}', "energies are picojoules, 0 or more"),
        ('{"dram_byte": "1"}', "energies are picojoules, 0 or more"),
    ],
)
def test_constants_that_do_not_fit(content, message, command, tmp_path, capsys):
    (tmp_path / "constants.json").write_text(content)
    assert main([*command, "--constants", str(tmp_path / "constants.json")]) == 2
    assert message in capsys.readouterr().err


def test_a_busy_spiking_network_needs_more_than_its_twin():
    x = torch.rand(4, 1, 16, 16)
    report = count_operations(settled(small_network(T=16, v_th=0.05), x), [x])
    assert "which needs less" in compare_with_twin(report)


@pytest.mark.parametrize(
    ("net", "batches", "message"),
    [("sew_resnet20", [], "no samples"), ("resnet20", [torch.rand(1, 3, 8, 8)], "a ReLU network does not spike")],
)
def test_nothing_to_count(net, batches, message):
    with pytest.raises(ValueError, match=message):
        count_operations(sw.build_model(net, num_classes=10), batches)
