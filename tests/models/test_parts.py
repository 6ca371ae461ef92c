"""Networks with other parts than they were built with: they are saved and come back, or saving refuses."""

import copy
import dataclasses
import functools
import pathlib
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

import spikewise as sw
from spikewise.data.input_spec import InputSpec
from spikewise.models import build_model
from spikewise.models.parts import changed_parts
from spikewise.models.weights import load_pretrained, save_pretrained, serialize_pretrained, to_published
from spikewise.neurons import IF, LIF, NEURONS, PLIF, Neuron

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # what torch.compile says itself
FRAMES = torch.rand(3, 2, 3, 16, 16)


def small(name="sew_resnet20", **options):
    torch.manual_seed(0)
    return build_model(name, num_classes=5, **options).eval()


def replace(path, make):
    """A change of a network: another module at a path."""

    def change(net):
        parent, _, name = path.rpartition(".")
        setattr(net.get_submodule(parent), name, make())

    return change


def every_threshold(net):
    for layer in net.spiking_layers.values():
        layer.neuron.v_th = 0.5


def learned_threshold(net):
    net.stem.neuron.v_th = nn.Parameter(torch.tensor(0.75))


def connect(net):
    net.layer2[1].connect = sw.CONNECT["IAND"]


def identity_block(net):
    net.layer1[2] = nn.Identity()


CHANGES = {
    "head of another size": replace("fc", lambda: nn.Linear(64, 4)),
    "head without bias": replace("fc", lambda: nn.Linear(64, 4, bias=False)),
    "no head": replace("fc", nn.Identity),
    "a longer head": replace("fc", lambda: nn.Sequential(nn.Dropout(0.25), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))),
    "group norm": replace("layer1.0.conv1.norm", lambda: nn.GroupNorm(4, 16)),
    "instance norm": replace("layer2.0.conv2.norm", lambda: nn.InstanceNorm2d(32, affine=True, track_running_stats=True)),
    "no norm": replace("stem.norm", nn.Identity),
    "another eps": replace("stem.norm", lambda: nn.BatchNorm2d(16, eps=0.01)),
    "a cumulative average": replace("stem.norm", lambda: nn.BatchNorm2d(16, momentum=None)),
    "another neuron": replace("layer3.1.conv1.neuron", lambda: LIF(49.0, decay_input=False, v_reset=None)),
    "a learned neuron": replace("layer3.1.conv1.neuron", lambda: PLIF(3.0, surrogate="erf")),
    "thresholds per channel": replace("stem.neuron", lambda: IF(v_th=torch.linspace(0.5, 1.5, 16))),
    "a learned threshold": learned_threshold,
    "every threshold": every_threshold,
    "connection": connect,
    "no block": identity_block,
    "a plain convolution": replace("layer1.0.conv1.conv", lambda: nn.Conv2d(16, 16, 3, padding="same", groups=2)),
    "T": lambda net: setattr(net, "T", 7),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_network_comes_back_as_it_is(change, tmp_path):
    net = small()
    change(net)
    net.eval()
    save_pretrained(net, tmp_path)
    again = load_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(FRAMES), net(FRAMES))
        assert torch.equal(again(FRAMES[0]), net(FRAMES[0]))  # read T times
    assert str(again) == str(net)
    assert again.num_classes == net.num_classes == net(FRAMES).shape[1]
    assert serialize_pretrained(again) == serialize_pretrained(net)
    again.train()(FRAMES).sum().backward()


@pytest.mark.parametrize("kind", NEURONS)
def test_an_unchanged_network_has_no_changed_parts(kind):
    for name in ("sew_resnet20", "sew_7b"):
        net = small(name, neuron=kind)
        for parameter in net.parameters():
            nn.init.normal_(parameter)  # learning changes no part
        assert changed_parts(net, net.spec) == {}


class OwnNorm(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input) + 1


def own_forward(net):
    net.layer1[0].conv1.norm.forward = lambda x: x


def without_a_part(net):
    net.layer1[0].conv1.neuron = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("layer1.0.conv1.norm", lambda: OwnNorm(16)), "layer1.0.conv1.norm is a OwnNorm"),
        (own_forward, "layer1.0.conv1.norm: its forward was replaced"),
        (lambda net: setattr(net.layer1[0], "connect", lambda a, s: a + s), "layer1.0.conv2.connect is of your own"),
        (replace("fc", lambda: nn.utils.parametrizations.weight_norm(nn.Linear(64, 4))), "fc is a Parametrized"),
        (lambda net: setattr(net.stem.neuron, "step", lambda x, state: (x, state)), "stem.neuron: its step was replaced"),
        (lambda net: prune.l1_unstructured(net.fc, "weight", 0.5), "'fc.weight'"),
        (lambda net: net.register_buffer("mu", torch.zeros(3)), "'mu' is added"),
        (lambda net: setattr(net.layer1[0].conv1.norm.weight, "data", torch.ones(17)), "norm.weight' is added, missing or of"),
        (lambda net: setattr(net.layer1[0].conv1.conv, "weight", net.layer1[0].conv2.conv.weight), "is the same tensor as"),
        (lambda net: setattr(net, "extra", nn.Linear(3, 3)), "extra is added"),
        (replace("fc", lambda: nn.Linear(5, 4)), "fc: this Linear cannot take the network's 64 features"),
        (replace("fc", lambda: nn.Sequential(nn.ReLU(), nn.Linear(63, 4))), "fc: this Sequential cannot take"),
        (replace("fc", lambda: nn.Conv2d(64, 4, 1)), "fc: this Conv2d cannot take"),
        (without_a_part, "layer1.0.conv1.neuron is missing"),
    ],
)
def test_what_a_file_cannot_tell_is_refused_by_name(change, message, tmp_path):
    net = small()
    change(net)
    with pytest.raises(ValueError, match=message):
        save_pretrained(net, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_neuron_of_ones_own_in_the_table_is_saved(monkeypatch, tmp_path):
    class Half(Neuron):
        def __init__(self, share=0.5, **options):
            super().__init__(**options)
            self.share = share

        def coefficients(self):
            return self.share, 1.0, 0.0

    monkeypatch.setitem(NEURONS, "Half", Half)
    net = small()
    net.stem.neuron = Half(0.25)
    save_pretrained(net, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_pretrained(tmp_path)(FRAMES), net(FRAMES))
    monkeypatch.delitem(NEURONS, "Half")
    with pytest.raises(ValueError, match="'Half' is not known here"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("path", ["stem", "layer1.0.conv1", "layer2.0.shortcut"])
def test_a_layer_is_replaced_by_what_is_called_alike_or_not_at_all(path):
    net = small()
    with pytest.raises(ValueError, match="replace its parts"):
        replace(path, lambda: nn.Conv2d(16, 16, 3))(net)


@pytest.mark.parametrize("module", [nn.Identity(), nn.Conv2d(16, 16, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Dropout(0.5))])
def test_pytorch_modules_in_place_of_a_block_see_every_frame(module):
    net = small()
    net.layer1[2] = module
    net.eval()
    seen = []
    module.register_forward_hook(lambda _module, args, out: seen.append((args[0], out)))
    with torch.no_grad():
        logits, state = net(FRAMES), None
        assert seen[0][0].dim() == 4
        assert torch.equal(seen[0][1], module(seen[0][0]))
        for frame in FRAMES:
            streamed, state = net.step(frame, state)
        torch.testing.assert_close(streamed, logits)


def averaged(net):
    return AveragedModel(torch.compile(net))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel, averaged])
def test_wrapped_networks_are_unwrapped(wrap, tmp_path):
    net = small()
    save_pretrained(wrap(copy.deepcopy(net)), tmp_path / "whole")
    torch.save({"model": wrap(copy.deepcopy(net)).state_dict()}, tmp_path / "c.pth")
    for again in (load_pretrained(tmp_path / "whole"), load_pretrained(tmp_path / "c.pth", name="sew_resnet20")):
        with torch.no_grad():
            assert torch.equal(again(FRAMES), net(FRAMES))


def test_what_scripts_leave_beside_the_tensors_is_read(tmp_path):
    net = small()
    beside = {
        "best": np.float64(0.5),
        "curve": np.arange(3),
        "epoch": np.int64(3),
        "out": pathlib.Path("runs") / "a",
        "classes": np.array(["cat", "dog"]),
    }
    torch.save({"state_dict": net.state_dict(), **beside}, tmp_path / "c.pth")
    with torch.no_grad():
        assert torch.equal(load_pretrained(tmp_path / "c.pth", name="sew_resnet20")(FRAMES), net(FRAMES))


@pytest.mark.parametrize("published", [True, False])
def test_another_number_of_classes_keeps_all_but_the_head(published, tmp_path):
    net = small("sew_resnet18")
    if published:
        torch.save({"model": to_published(net)}, tmp_path / "w.pth")
    else:
        save_pretrained(net, tmp_path / "w.pth")
    load = functools.partial(load_pretrained, tmp_path / "w.pth", **({"connect": "ADD"} if published else {}))
    with pytest.warns(UserWarning, match="all but its head of 5 classes"):
        again = load(num_classes=7)
    assert again(torch.rand(1, 3, 32, 32)).shape == (1, 7)
    for name, tensor in net.state_dict().items():
        assert name.startswith("fc.") or torch.equal(again.state_dict()[name], tensor)
    save_pretrained(again, tmp_path / "seven")
    assert load_pretrained(tmp_path / "seven").spec["num_classes"] == 7


@pytest.mark.parametrize(
    "parts",
    [
        {"fc": {"kind": "Network"}},
        {"fc": {"kind": "Linear", "in_features": -1}},
        {"fc": {"kind": "Linear", "in_features": 64, "out_features": 5, "forward": 1}},
        {"fc": 3},
        {"nowhere.at.all": {"kind": "Identity"}},
        {"layer1.9": {"kind": "Identity"}},
        {"layer1.0.conv2.connect": "XOR"},
        {"fc": {"kind": "Sequential", "parts": 3}},
        {"__class__": {"kind": "Identity"}},
        {"stem.forward": {"kind": "Identity"}},
    ],
)
def test_damaged_parts_are_refused_by_the_file(parts, tmp_path):
    import json

    from safetensors.torch import load_file, save_file

    file = save_pretrained(small(), tmp_path)
    header = {"format_version": 2, "model": small().spec, "functions": [], "parts": parts}
    save_file(load_file(file), file, metadata={"spikewise": json.dumps(header)})
    with pytest.raises(ValueError, match=file.name):
        load_pretrained(file)


def test_options_that_parts_would_not_follow_are_refused_and_backends_followed(tmp_path):
    net = small()
    every_threshold(net)
    save_pretrained(net, tmp_path)
    with pytest.raises(ValueError, match=r"v_th'? would not reach stem.neuron"):
        load_pretrained(tmp_path, v_th=0.7)
    assert load_pretrained(tmp_path, backend="reference").layer1[0].conv1.neuron.backend == "reference"


def test_settings_of_an_own_neuron_that_the_file_cannot_tell_are_refused(tmp_path):
    class Own(IF):
        def step(self, x, state):
            return super().step(x, state)

    net = small(neuron=Own)
    save_pretrained(net, tmp_path / "as built")
    every_threshold(net)
    with pytest.raises(ValueError, match=r"stem.neuron is a Own"):
        save_pretrained(net, tmp_path / "changed")


@pytest.mark.parametrize("word", ["IAND", "iand"])
def test_a_connection_is_set_by_its_name(word):
    net, same = small(), small(connect="IAND")
    for block in net.blocks.values():
        block.connect = word
    assert all(block.connect is sw.CONNECT["IAND"] for block in net.blocks.values())
    with torch.no_grad():
        assert torch.equal(net(FRAMES), same(FRAMES))
    for wrong in ("XOR", 3):
        with pytest.raises(ValueError, match="no connection named"):
            net.layer1[0].connect = wrong


def test_another_head_has_no_names_of_classes():
    net = small()
    net.input_spec = InputSpec("digits", "images", tuple("abcde"), (3, 8, 8))
    assert net.class_names == tuple("abcde")
    net.fc = nn.Linear(64, 3)
    assert net.class_names == ()


def test_another_head_is_not_saved_with_the_names_of_the_old_one(tmp_path):
    net = small()
    net.input_spec = InputSpec("digits", "images", tuple("abcde"), (3, 8, 8))
    net.fc = nn.Linear(64, 3)
    with pytest.raises(ValueError, match="5 class_names, but this network has 3 outputs"):
        save_pretrained(net, tmp_path / "net")
    assert not any(tmp_path.iterdir())
    for names in (tuple("xyz"), ()):
        net.input_spec = dataclasses.replace(net.input_spec, class_names=names)
        save_pretrained(net, tmp_path / "net")
        assert load_pretrained(tmp_path / "net").class_names == names


@pytest.mark.parametrize("edit", [lambda spec: spec.update(v_th=0.5), lambda spec: spec.pop("T"), lambda spec: spec.clear()])
def test_what_a_network_was_built_with_cannot_be_edited(edit):
    net = small()
    for copied in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        before = dict(copied.spec)
        with pytest.raises(TypeError, match="cannot be edited"):
            edit(copied.spec)
        with pytest.raises(TypeError, match="cannot be edited"):
            copied.spec["v_th"] = 0.5
        assert copied.spec == before == net.spec
