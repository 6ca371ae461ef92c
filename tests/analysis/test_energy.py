"""Energy: every accumulate counted again by other means."""

import json

import pytest
import torch
import torch.nn.functional as F

import spikewise as sw
from spikewise.analysis.energy import SOURCES, Joules, count, sources, verdict
from spikewise.cli.main import main
from spikewise.models.layers import ConvNorm, ConvNormFire


def fan_out(conv, x):
    """For every value of x, how many weights it meets: the gradient of a convolution with ones."""
    x = torch.zeros_like(x, dtype=torch.float64, requires_grad=True)
    ones = torch.ones_like(conv.weight, dtype=torch.float64)
    return torch.autograd.grad(F.conv2d(x, ones, None, conv.stride, conv.padding).sum(), x)[0]


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet18", "sew_7b", "sew_resnet50"])
@pytest.mark.parametrize("odd", [False, True])
def test_operations_counted_by_hand(name, odd):
    events = name == "sew_7b"
    options = {"num_blocks": 3, "num_classes": 11} if events else {"num_classes": 10, "T": 3}
    net = sw.build_model(name, **options).train()
    side = 37 if odd else 32
    x = torch.randint(0, 3, (5, 2, 2, side, side)).float() if events else torch.randn(2, 3, side, side)
    with torch.no_grad():
        for _ in range(30):
            net(x)  # estimates settle, so that it fires in evaluation, too
    net.eval()
    seen = {}
    for layer, module in net.named_modules():
        if isinstance(module, ConvNorm):
            module.conv.register_forward_hook(lambda m, g, o, layer=layer: seen.__setitem__(layer, (m, g[0].detach(), o)))
    found = count(net, [x])
    T = 5 if events else 3
    assert found.T == T
    for layer in found.layers[:-1]:
        conv, given, out = seen[layer.name]
        weights_met = fan_out(conv, given)
        stem = layer is found.layers[0]
        if stem:
            assert (layer.multiplies, layer.accumulates) == (float(weights_met.sum()) / 2, 0)
        else:
            assert layer.multiplies == 0
            assert layer.accumulates == pytest.approx(float((given.double() * weights_met).sum()) / 2, rel=1e-12)
            assert layer.most == int(given.max())
        runs = 1 if stem and not events else T
        assert layer.dense == pytest.approx(float(weights_met.sum()) / 2 / runs, rel=1e-12)
        assert layer.weights == conv.weight.numel() + conv.out_channels
        if layer.neurons:
            assert layer.neurons == out[0].numel()
    assert sum(layer.accumulates for layer in found.layers) == found.synaptic > 0
    if name != "spiking_resnet18":
        assert found.connect_adds == T * sum(
            seen[f"{block}.conv{3 if '50' in name else 2}"][2][0].numel() for block in net.blocks
        )


def test_a_network_counted_on_paper():
    """One convolution that matters: 4 x 4 places, 2 x 3 channels, 3 x 3 weights, T = 2, and the constants of the table."""
    energy = count(sw.build_model("sew_resnet20", num_classes=10, in_channels=1, T=2), [torch.randn(3, 1, 8, 8)])
    stem, head = energy.layers[0], energy.layers[-1]
    assert stem.dense == 16 * (36 * 9 + 4 * 6 * 6 + 4 * 4)  # inside, edges, corners of 8 x 8
    assert stem.neurons == 16 * 64
    assert head.dense == 640
    assert energy.neuron_adds == 2 * (7 * 16 * 64 + 7 * 32 * 16 + 7 * 64 * 4)
    twin = next(cost for cost in energy.costs if cost.what == "ReLU twin, float32")
    dense = sum(layer.dense for layer in energy.layers)
    assert twin.operations == pytest.approx(4.6 * dense)
    assert twin.weights == pytest.approx(4 * sum(layer.weights for layer in energy.layers) * 1300 / 8)


def test_bits_between_layers_are_those_of_the_values_that_leave_each():
    """The block's output goes to the next block, not to the shortcut that is listed behind its last layer."""
    net = sw.build_model("sew_resnet20", num_classes=10, in_channels=1, T=3).train()
    x = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        for _ in range(30):
            net(x)
    net.eval()
    out = {}
    for name, module in net.named_modules():
        if isinstance(module, ConvNormFire):
            module.register_forward_hook(lambda _m, _g, o, name=name: out.__setitem__(name, o))
    energy = count(net, [x], Joules(memory_byte=1.0))
    assert {layer.name: layer.most_out for layer in energy.layers[:-1]} == {name: int(o.max()) for name, o in out.items()}
    assert max(layer.most_out for layer in energy.layers) > 1 == energy.layers[0].most_out
    bits = sum(o[0, 0].numel() * len(bin(int(o.max()))[2:]) for o in out.values())
    assert energy.costs[0].activations == pytest.approx(2 * 3 * bits / 8)


def test_every_constant_has_a_source():
    assert set(SOURCES) == set(vars(Joules()))
    assert "dram_byte 1 pJ: replaced, by default 162.5" in sources(Joules(dram_byte=1))
    assert sum("ISSCC 2014" in line for line in sources(Joules())) == len(SOURCES) - 2


def test_constants_can_be_replaced(tmp_path, capsys):
    sw.save_pretrained(sw.build_model("sew_resnet20", num_classes=10, in_channels=1, T=2), tmp_path / "net")
    options = ["energy", str(tmp_path / "net"), "--samples", "2", "--size", "16", "--device", "cpu"]
    (tmp_path / "free.json").write_text(json.dumps({"dram_byte": 0, "memory_byte": 0}))
    assert main([*options, "--json", "--constants", str(tmp_path / "free.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(cost["weights"] == cost["activations"] == cost["membranes"] == 0 for cost in found["costs"])
    assert found["constants"]["add_float32"] == 0.9
    (tmp_path / "wrong.json").write_text(json.dumps({"dram": 1}))
    assert main([*options, "--constants", str(tmp_path / "wrong.json")]) == 2
    assert "known: add_float32, multiply_float32" in capsys.readouterr().err
    (tmp_path / "list.json").write_text("[1]")
    assert main([*options, "--constants", str(tmp_path / "list.json")]) == 2
    assert "list.json holds no object of numbers; known: add_float32" in capsys.readouterr().err
    (tmp_path / "cut.json").write_text("{")
    assert main([*options, "--constants", str(tmp_path / "cut.json")]) == 2
    assert "cut.json is no JSON" in capsys.readouterr().err
    assert main(options) == 0
    said = capsys.readouterr().out
    assert "microjoules per sample" in said
    assert 'dram_byte 162.5 pJ: M. Horowitz, "Computing' in said
    assert "of the ReLU twin, 4 bits, which needs less" in said
    with pytest.raises(ValueError, match="energies are picojoules, 0 or more"):
        Joules(dram_byte=-1)


def test_a_loss_is_said():
    """A busy spiking network needs more than its twin in as many bits, and the verdict says so."""
    net = sw.build_model("sew_resnet20", num_classes=10, in_channels=1, T=16, v_th=0.05).train()
    x = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        for _ in range(30):
            net(x)
    assert "which needs less" in verdict(count(net, [x]))
    with pytest.raises(ValueError, match="no samples"):
        count(net, [])
    with pytest.raises(ValueError, match="a ReLU network does not spike"):
        count(sw.build_model("resnet20", num_classes=10), [torch.rand(1, 3, 8, 8)])
