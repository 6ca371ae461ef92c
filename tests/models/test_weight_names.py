"""Weights under other libraries' names: there and back, strictly, with what is lost and what is other mathematics."""

import pytest
import torch
from published import KEYS, numbered
from safetensors.torch import load_file

from spikewise.data import messages
from spikewise.models import build_model
from spikewise.models.convert import NAMES, convert, write_tensors
from spikewise.models.weights import load_pretrained, to_spikingjelly

CASES = [
    ("authors", "sew_resnet18", {"connect": "AND"}),
    ("authors", "spiking_resnet50", {}),
    ("authors", "sew_7b", {"stem": "3x3", "num_blocks": 3}),
    ("authors", "plain_7b", {}),
    ("authors", "sew_wide7b", {"connect": "IAND"}),
    ("spikingjelly", "sew_resnet34", {"neuron": "PLIF"}),
    ("spikingjelly", "sew_resnet50", {"neuron": "PLIF", "connect": "IAND"}),
    ("spikingjelly", "spiking_resnet18", {"neuron": "PLIF"}),
    ("spikingjelly", "sew_resnet18", {"neuron": "LIF", "tau": 3.0}),
    ("torchvision", "resnet50", {}),
    ("torchvision", "sew_resnet18", {}),
]


def drawn(name, **options):
    """A network whose tensors are all different."""
    net = build_model(name, num_classes=3, **options)
    with torch.no_grad():
        for number, tensor in enumerate(net.state_dict().values()):
            tensor.fill_(number)
    return net


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("to", "name", "options"), CASES, ids=str)
def test_every_tensor_comes_back_from_the_names_of_others(to, name, options, suffix, tmp_path):
    net = drawn(name, **options)
    file = tmp_path / f"net{suffix}"
    converted = write_tensors(net, to, file)
    told = {"model", "args"} if (to, suffix) == ("authors", ".pth") else set()
    asked = {key: value for key, value in converted.untold.items() if key != "T"} | {"name": name}
    read = load_pretrained(file, **({} if told else asked))
    assert read.spec["name"] == name
    assert all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), net.state_dict().values(), strict=True))
    assert {key: read.spec[key] for key in options} == options


@pytest.mark.parametrize("name", [name for name in KEYS if name.startswith(("sew_", "spiking_"))])
def test_the_authors_names_become_spikingjellys_by_the_published_rule(name, tmp_path):
    """`convK.module.0` is convK there, `convK.module.1` bnK, `downsample(.0).module.i` downsample.i."""
    state = numbered(KEYS[name], num_classes=3)
    torch.save(state, tmp_path / "c.pth")
    net = load_pretrained(tmp_path / "c.pth", **({"connect": "ADD"} if name.startswith("sew") else {}))
    expected = {}
    for key, tensor in state.items():
        words = key.split(".")
        if words[2:3] == ["downsample"]:
            words = [word for word in words if word != "module"]
            words = words[:3] + words[-2:]
        elif "module" in words:
            place = words.index("module")
            number = words[place - 1].removeprefix("conv")
            words[place - 1 : place + 2] = [f"conv{number}" if words[place + 1] == "0" else f"bn{number}"]
        expected[".".join(words)] = tensor
    found = to_spikingjelly(net)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_neurons_of_spikingjelly_have_scalar_time_constants_beside_the_norms():
    found = to_spikingjelly(build_model("sew_resnet50", num_classes=3, neuron="PLIF"))
    assert {"sn1.w", "layer1.0.sn3.w", "layer1.0.downsample_sn.w", "layer4.2.sn1.w"} <= found.keys()
    assert {tensor.dim() for name, tensor in found.items() if name.endswith(".w")} == {0}
    assert sum(name.endswith(".w") for name in found) == 1 + 16 * 3 + 4
    spiking = to_spikingjelly(build_model("spiking_resnet18", num_classes=3, neuron="PLIF"))
    assert not [name for name in spiking if "downsample_sn" in name]


@pytest.mark.parametrize("options", [{}, {"connect": "IAND"}], ids=str)
@pytest.mark.parametrize("name", ["sew_resnet18", "sew_resnet50"])
def test_the_other_iand_of_bottlenecks_is_said_both_ways(name, options, tmp_path, caplog):
    messages.notice.cache_clear()
    other = name == "sew_resnet50" and bool(options)
    net = build_model(name, num_classes=3, **options)
    remarks = write_tensors(net, "spikingjelly", tmp_path / "net.safetensors").remarks
    assert any("A (1 - S) for IAND" in remark for remark in remarks) == other
    load_pretrained(tmp_path / "net.safetensors", name=name, connect=options.get("connect", "ADD"))
    assert ("A (1 - S) for IAND" in caplog.text) == other


def test_what_names_and_shapes_do_not_tell_is_listed():
    net = build_model("sew_resnet18", num_classes=3, T=6, connect="AND", v_th=0.5, neuron="LIF", tau=3.0, width=0.5)
    assert convert(net, "spikingjelly").untold == {"T": 6, "connect": "AND", "neuron": "LIF", "v_th": 0.5, "tau": 3.0}
    assert any("width=0.5" in remark for remark in convert(net, "spikingjelly").remarks)
    assert any("ReLU where this one has neurons" in remark for remark in convert(net, "torchvision").remarks)


def test_a_connection_of_ones_own_is_told_by_its_name_alone(tmp_path):
    def mine(a, s):
        return a + s

    assert (
        write_tensors(build_model("sew_resnet18", num_classes=3, connect=mine), "authors", tmp_path / "net.pth").untold[
            "connect"
        ]
        == "mine"
    )
    with pytest.raises(ValueError, match="MINE"):  # asked for, not taken for another
        load_pretrained(tmp_path / "net.pth")


def replaced():
    net = build_model("sew_resnet18", num_classes=3)
    net.fc = torch.nn.Identity()
    return net


@pytest.mark.parametrize(
    ("net", "to", "message"),
    [
        (lambda: build_model("sew_resnet18", num_classes=3, neuron="PLIF"), "authors", r"'stem.neuron.w' has no counterpart"),
        (lambda: build_model("sew_resnet20", num_classes=3), "spikingjelly", "SpikingJelly has no such network"),
        (lambda: build_model("plain_resnet18", num_classes=3), "spikingjelly", "SpikingJelly has no such network"),
        (lambda: build_model("sew_7b", num_classes=3), "spikingjelly", "SpikingJelly has no such network"),
        (lambda: build_model("sew_7b", num_classes=3), "torchvision", "torchvision has no such network"),
        (replaced, "torchvision", "its fc was replaced"),
        (lambda: build_model("resnet18", num_classes=3), "keras", f"use {', '.join(NAMES)}"),
    ],
)
def test_networks_that_others_do_not_have_are_refused_and_nothing_is_written(net, to, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_tensors(net(), to, tmp_path / "net.pth")
    assert not list(tmp_path.iterdir())


def test_files_are_what_others_open(tmp_path):
    net = build_model("sew_resnet18", num_classes=3)
    write_tensors(net, "torchvision", tmp_path / "net.pth")
    write_tensors(net, "torchvision", tmp_path / "net.safetensors")
    bare, safe = torch.load(tmp_path / "net.pth", weights_only=True), load_file(tmp_path / "net.safetensors")
    assert bare.keys() == safe.keys() == convert(net, "torchvision").tensors.keys()
    write_tensors(net, "authors", tmp_path / "authors.pth")
    assert torch.load(tmp_path / "authors.pth", weights_only=True)["args"]["connect_f"] == "ADD"
    with pytest.raises(ValueError, match=r"OUT=.*net.h5 has another ending; use NAME.pth"):
        write_tensors(net, "authors", tmp_path / "net.h5")
