"""ONNX files in onnxruntime, which has no PyTorch: equal to the network, for any batch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikewise.data.input_spec import InputSpec
from spikewise.export.onnx import export_onnx
from spikewise.models import build_model

onnxruntime = pytest.importorskip("onnxruntime")
SIDE = 8


def network(name, **how):
    """With norms that let every layer fire."""
    torch.manual_seed(0)
    of_kind = {"num_blocks": 1} if name.endswith("7b") else {} if name.startswith("resnet") else {"T": 2}
    how = {"width": 0.25} | of_kind | how
    net = build_model(name, num_classes=3, **how).eval()
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.8, 1.6)
        nn.init.uniform_(norm.bias, -0.2, 0.6)
    return net


def session(path):
    opened = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return opened, json.loads(opened.get_modelmeta().custom_metadata_map["spikewise"])


def frames(net, batch, steps=3):
    return torch.rand(steps, batch, net.in_channels, SIDE, SIDE) * 2


def stream(path, x):
    """The logits behind the last frame, by the file alone: what a program without PyTorch does."""
    opened, facts = session(path)
    feed = {"frames_seen": np.zeros(1, np.float32), "feature_sum": np.zeros((x.shape[1], facts["features"]), np.float32)}
    feed |= {s["name"]: np.full((x.shape[1], *s["shape"]), s["rest"], np.float32) for s in facts["states"]}
    for frame in x.numpy():
        logits, *ends = opened.run(None, feed | {"frame": frame})
        feed = dict(zip(feed, ends, strict=True))
    return torch.from_numpy(logits)


OTHERS = [
    *(("sew_7b", {"connect": g, "neuron": neuron}) for g in ("ADD", "AND", "IAND") for neuron in ("IF", "LIF", "PLIF")),
    *((name, {}) for name in ("spiking_7b", "plain_7b", "sew_resnet20", "spiking_resnet20", "plain_resnet20", "ms_resnet20")),
]
STEPS = [
    ("sew_7b", {"connect": "IAND", "neuron": "LIF", "v_reset": None}),
    ("sew_7b", {"connect": "AND", "neuron": "IF", "v_reset": -0.5}),
    *(pytest.param(name, how, marks=pytest.mark.slow) for name, how in OTHERS),
]
STILL = [pytest.param(name, True, marks=pytest.mark.slow) for name in ("sew_resnet20", "resnet20", "tdbn_resnet17")]


@pytest.mark.parametrize(("name", "how"), STEPS, ids=str)
def test_steps_of_a_file_are_the_networks_stream(name, how, tmp_path):
    net = network(name, **how)
    path = export_onnx(net, tmp_path / "step.onnx", shape=(SIDE, SIDE), step=True)
    for batch in (1, 3):
        x = frames(net, batch)
        logits = net(x)
        assert logits.std() > 1e-3
        torch.testing.assert_close(stream(path, x), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "still"), [("sew_7b", False), *STILL])
def test_a_file_of_a_sequence_takes_any_batch_and_tells_what_it_is(name, still, tmp_path):
    net = network(name)
    kind = "events" if net.in_channels == 2 else "images"
    net.input_spec = InputSpec("mine", kind, ("a", "b", "c"), (net.in_channels, SIDE, SIDE), num_frames=3)
    opened, facts = session(export_onnx(net, tmp_path / "net.onnx", shape=(SIDE, SIDE), T=3))
    assert (facts["class_names"], facts["shape"]) == (["a", "b", "c"], [net.in_channels, SIDE, SIDE])
    net.T = 3
    for batch in (1, 2, 5):
        x = frames(net, batch)[0] if still else frames(net, batch)
        (logits,) = opened.run(None, {opened.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), net(x), rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_gives_nan(tmp_path):
    net, x = network("sew_7b"), torch.ones(3, 2, 2, SIDE, SIDE)
    path = export_onnx(net, tmp_path / "step.onnx", shape=(SIDE, SIDE), step=True)
    x[1, 0, 0, 0, 0] = torch.nan
    logits = stream(path, x)
    assert logits[0].isnan().all()
    assert not logits[1].isnan().any()


def test_the_pages_program_runs(tmp_path, monkeypatch):
    """The Python of docs/onnx.md, as it stands."""
    net = network("sew_7b")
    export_onnx(net, tmp_path / "step.onnx", shape=(SIDE, SIDE), step=True)
    code = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    x = frames(net, batch=1)
    found = {"frames": x.numpy()}
    exec(code, found)
    torch.testing.assert_close(torch.from_numpy(found["logits"]), net(x), rtol=1e-5, atol=1e-6)


def test_other_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"net\.pt does not end in \.onnx"):
        export_onnx(network("sew_7b"), tmp_path / "net.pt", shape=(SIDE, SIDE))
    with pytest.raises(ValueError, match="T=0 must be a whole number"):
        export_onnx(network("sew_7b"), tmp_path / "net.onnx", shape=(SIDE, SIDE), T=0)
    assert not list(tmp_path.iterdir())
