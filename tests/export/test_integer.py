"""Integer networks: near the network in floating point, and the same in a second reader, made from the documentation alone."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikewise.export.integer import export_integers, quantize_input, to_integers
from spikewise.export.integer_runner import CONV, FIRE, Operation, Runner, fire, read_program, write_program
from spikewise.models import build_model
from spikewise.neurons import IF, LIF

SIDE = 16
NETWORKS = [
    *(("sew_7b", {"connect": g, "neuron": neuron}) for g in ("ADD", "AND", "IAND") for neuron in ("IF", "PLIF")),
    ("sew_7b", {"pool": "avg", "neuron": "LIF", "v_reset": None, "decay_input": False}),
    ("spiking_7b", {"neuron": "LIF", "tau": 3.0, "v_reset": -0.5}),
    ("plain_7b", {}),
    ("sew_resnet20", {"width": 0.5}),
    ("spiking_resnet20", {"width": 0.5}),
    ("sew_resnet18", {"width": 0.125}),
    ("tdbn_resnet17", {"width": 0.125, "stem": "3x3", "v_th": 0.5}),
]


def network(name, **how):
    torch.manual_seed(0)
    net = build_model(name, num_classes=4, **({"num_blocks": 2} if name.endswith("_7b") else {}) | how).eval()
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.8, 1.6)
        nn.init.uniform_(norm.bias, -0.2, 0.6)
    return net


def frames(net, batch=2, steps=4):
    return (torch.rand(steps, batch, net.in_channels, SIDE, SIDE) * 3).round()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler for the second reader")
    program = tmp_path_factory.mktemp("reader") / "reader"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-o", program, Path(__file__).with_name("integer_reader.c")], check=True
    )
    return program


@pytest.mark.parametrize(("name", "how"), NETWORKS, ids=str)
def test_a_second_reader_of_the_file_finds_the_same_numbers(name, how, reader, tmp_path):
    net = network(name, **how)
    path = export_integers(net, tmp_path / "net.spk", shape=(SIDE, SIDE))
    x = frames(net, batch=1).numpy().astype(np.int32)
    runner = Runner(read_program(path))
    expected = [runner.step(frame)[0].tolist() for frame in x]
    read = subprocess.run([reader, path], input=x.tobytes(), capture_output=True, check=True).stdout
    assert [list(map(int, line.split())) for line in read.splitlines()] == expected
    assert len({tuple(logits) for logits in expected}) > 1


@pytest.mark.parametrize(("name", "how"), NETWORKS, ids=str)
def test_logits_are_near_the_networks(name, how):
    net = network(name, **how)
    x = frames(net, batch=6)
    logits, ours = net(x).detach().numpy(), Runner(to_integers(net, shape=(SIDE, SIDE))).run(x.numpy())
    assert np.corrcoef(ours.ravel(), logits.ravel())[0, 1] > 0.8


def test_where_nothing_has_to_be_rounded_every_spike_of_every_layer_is_the_networks():
    """Weights that are whole numbers of an eighth, the largest of each channel 127 of them."""
    net = build_model("sew_7b", num_classes=4, num_blocks=2, neuron="IF").eval()
    for layer in net.conv_layers.values():
        layer.conv.weight.data = torch.randint(-16, 17, layer.conv.weight.shape) / 8.0
        layer.conv.weight.data[:, 0, 0, 0] = 127 / 8
        layer.norm.eps, layer.norm.running_var.data = 0.0, torch.ones_like(layer.norm.running_var)
    x, fired = frames(net, batch=3), []
    for module in net.neurons.values():
        module.register_forward_hook(lambda _m, _a, out: fired.append(out.detach().numpy()))
    net(x)
    runner = Runner(to_integers(net, shape=(SIDE, SIDE)))
    targets = [operation.target for operation in runner.program.operations if operation.kind == FIRE]
    assert len(targets) == len(fired) == 5
    for t, frame in enumerate(x.numpy()):
        runner.step(frame)
        for target, spikes in zip(targets, fired, strict=True):
            assert 0 < spikes.mean() < 1
            np.testing.assert_array_equal(runner.buffers[target], spikes[t])


@pytest.mark.parametrize("soft", [0, 1])
@pytest.mark.parametrize(("leak", "bits", "decay_input"), [(0, 0, 0), (2**15, 8, 1), (2**14, 3, 0)])
def test_neurons_follow_their_equation_in_rounded_numbers(leak, bits, decay_input, soft):
    """Beside the neuron in floating point, of the same rounded numbers: at most a unit of the fraction apart per step."""
    rng = np.random.default_rng(0)
    x = rng.integers(-40, 120, (30, 1, 2, 3, 3)).astype(np.int32)
    levels = np.array([[50, 70], [-5, 3]]) * 2**bits
    operation = Operation(1, 0, 0, 1, (leak, bits, decay_input, soft), levels.astype(np.int32))
    v, share, fired = None, leak / 2**16, 0.0
    exact = np.broadcast_to(levels[1][:, None, None], x.shape[1:]).astype(float)
    for current in x:
        before = exact if v is None else v.astype(float)
        spikes, v = fire(current, v, operation)
        pull = (levels[1][:, None, None] - before) + (current * 2**bits if decay_input else 0)
        h = before + share * pull + (0 if leak and decay_input else current * 2**bits)
        sure = np.abs(h - levels[0][:, None, None]) > 1
        assert (spikes == (h >= levels[0][:, None, None]))[sure].all()
        behind = h - spikes * levels[0][:, None, None] if soft else np.where(spikes, levels[1][:, None, None], h)
        assert (np.abs(behind - v) <= 1).all()
        fired += spikes.mean() / len(x)
    assert 0.02 < fired < 0.9


@pytest.mark.parametrize(("name", "how"), [NETWORKS[0], NETWORKS[9], NETWORKS[-1]], ids=str)
def test_no_sum_overflows_at_the_largest_input(name, how):
    """Every convolution beside one of float64, on pixels of the sign that the first weights like best."""
    program = to_integers(network(name, **how), shape=(SIDE, SIDE))
    x = np.zeros((1, *program.shape)) + 255.0 * np.sign(program.operations[0].weights[0, :, 0, 0])[None, :, None, None]
    runner = Runner(program)
    for frame in (x, -x, x):
        runner.step(frame)
        for operation in program.operations:
            if operation.kind == CONV:
                stride, padding = operation.numbers[:2]
                tables = (torch.tensor(table, dtype=torch.float64) for table in (operation.weights, operation.bias))
                source = torch.tensor(runner.buffers[operation.source], dtype=torch.float64)
                exact = nn.functional.conv2d(source, *tables, stride, padding)
                np.testing.assert_array_equal(runner.buffers[operation.target], exact.numpy())


@pytest.mark.parametrize(
    "frame", [np.full((1, 2, SIDE, SIDE), 0.5), np.zeros((2, SIDE, SIDE), int)], ids=["fractions", "shape"]
)
def test_the_runner_takes_whole_numbers_of_its_shape(frame):
    with pytest.raises(ValueError, match=r"a frame is whole numbers \[N, 2, 16, 16\]"):
        Runner(to_integers(network("plain_7b"), shape=(SIDE, SIDE))).step(frame)


def test_images_are_quantised_by_their_unit():
    assert quantize_input(torch.tensor([0.0, 0.5, 1.0, 2.0]), 1 / 255).tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_model("resnet20", num_classes=3), "knows spiking ResNets"),
        (lambda: build_model("ms_resnet20", num_classes=3), "layer1.0: .*no MSBlock, whose shortcuts carry currents"),
        (lambda: build_model("sew_7b", num_classes=3, connect=lambda a, s: a + s), "knows ADD, AND and IAND"),
        (lambda: build_model("sew_7b", num_classes=3, neuron=type("Own", (IF,), {})), "not Own"),
    ],
    ids=["relu", "currents", "connection", "neuron"],
)
def test_what_has_no_integer_form_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        to_integers(make(), shape=(128, 128))


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-3], lambda b: b + b"0", lambda b: b"PK" + b[2:], lambda b: b[:8] + b"\2" + b[9:]]
)
def test_damaged_files_are_refused_in_words(spoil, tmp_path):
    path = tmp_path / "net.spk"
    path.write_bytes(spoil(write_program(to_integers(network("plain_7b"), shape=(SIDE, SIDE)))))
    with pytest.raises(ValueError, match=r"net\.spk"):
        read_program(path)


def test_a_threshold_per_channel_is_kept():
    net = network("plain_7b", neuron="LIF")
    net.stage1.widen.neuron = LIF(v_th=torch.linspace(0.5, 1.5, 32))
    program = to_integers(net, shape=(SIDE, SIDE))
    assert len(set(program.operations[1].weights[0].tolist())) > 16
