"""The networks that the paper is compared with, and converted ones: each streams, is planned, diagnosed, counted and exported,
or is refused in words that name what stands against it."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch

from spikewise.analysis.diagnosis.diagnose import diagnose
from spikewise.analysis.energy import count_operations
from spikewise.config import Config, Data, Model, Optim
from spikewise.engine.build import load_or_placeholder
from spikewise.engine.memory.estimate import MemoryEstimator
from spikewise.export.integer import to_integers
from spikewise.export.onnx import export_onnx
from spikewise.models import MODELS, build_model

NETWORKS = {  # options, and what is refused: by whom, and in which words
    "tdbn_resnet17": ({"stem": "3x3", "width": 0.0625}, {}),
    "tdbn_resnet50": ({"stem": "3x3", "width": 0.0625}, {}),
    "ms_resnet18": ({"stem": "3x3", "width": 0.0625}, {"integers": "no MSBlock, whose shortcuts carry currents"}),
    "ms_resnet20": ({"width": 0.25}, {"integers": "no MSBlock, whose shortcuts carry currents"}),
    "rba_resnet20": (
        {"width": 0.25},
        {"diagnose": "a ReLU", "energy": "a ReLU", "integers": "spiking ResNets"},
    ),
    "plif_net": ({"width": 0.0625}, {"diagnose": "a chain without residual blocks", "integers": "not plif_net"}),
    "lif_net": ({"width": 0.0625}, {"diagnose": "a chain without residual blocks", "integers": "not lif_net"}),
    "converted_resnet18": ({"stem": "7x7", "pool": "avg", "width": 0.0625}, {}),
    "converted_resnet20": ({"width": 0.25, "neuron": "STDB", "v_reset": None}, {"integers": "not STDB"}),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def small(name):
    """A network that fires, and frames for it."""
    torch.manual_seed(0)
    net = build_model(name, num_classes=3, **NETWORKS[name][0])
    for weight in (layer.weight for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)):
        torch.nn.init.normal_(weight, 0.02, 0.3)
    side = 128 if MODELS[name].family == "chain" else 16
    return net.eval(), torch.rand(3, 2, net.in_channels, side, side).round()


def allowed(name, what):
    refusal = NETWORKS[name][1].get(what)
    return pytest.raises(ValueError, match=refusal) if refusal else nullcontext()


def test_every_family_of_them_is_here():
    families = {name.partition("_")[0] for name in NETWORKS}
    assert families == {"tdbn", "ms", "rba", "plif", "lif", "converted"}


@every_network
def test_a_stream_is_the_sequence(name):
    net, x = small(name)
    net, x, state = net.double(), x.double(), None
    with torch.no_grad():
        expected = net(x)
        for frame in x:
            logits, state = net.step(frame, state)
    assert torch.equal(logits, expected)


@every_network
def test_a_run_of_it_is_planned(name, tmp_path):
    data = Data(name="dvs-gesture" if MODELS[name].family == "chain" else "cifar10", num_frames=2, root=str(tmp_path))
    model = dataclasses.replace(Model(name=name), **NETWORKS[name][0])
    config = Config(data=data, model=model, optim=Optim(batch=4, lr_batch=4))
    cpu = torch.device("cpu")
    use = MemoryEstimator(config, load_or_placeholder(config)[0], cpu).step(4, packing=True, checkpointing="none")
    assert use.peak > use.activations > 0


@every_network
def test_it_is_diagnosed(name):
    net, x = small(name)
    with allowed(name, "diagnose"):
        findings = diagnose(net, x, torch.tensor([0, 1]))
        assert not [finding for finding in findings if finding.problem == "not looked at"]


@every_network
def test_its_operations_are_counted(name):
    net, x = small(name)
    with allowed(name, "energy"):
        report = count_operations(net, [x])
        assert not report.not_counted
        assert report.synops > 0
        assert sum(layer.neurons for layer in report.layers) > 0


@every_network
def test_it_becomes_whole_numbers(name):
    net, x = small(name)
    with allowed(name, "integers"):
        program = to_integers(net, shape=tuple(x.shape[-2:]))
        assert program.operations


@pytest.mark.slow
@every_network
def test_it_becomes_an_onnx_file_that_gives_its_logits(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net, x = small(name)
    with allowed(name, "onnx"):
        file = export_onnx(net, tmp_path / "net.onnx", shape=tuple(x.shape[-2:]), T=len(x))
        opened = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (logits,) = opened.run(None, {opened.get_inputs()[0].name: x.numpy()})[:1]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), net(x), rtol=1e-4, atol=1e-4)
