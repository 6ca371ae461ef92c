import argparse
import json
import pickle
from pathlib import Path

import pytest
import torch
from published import KEYS, key_list, numbered, write_checkpoint
from safetensors.torch import load_file, save_file

from spikewise.models import CONNECT, build_model
from spikewise.models.infer_spec import infer_resnet_depth
from spikewise.models.key_maps import published_names, torchvision_names
from spikewise.models.weights import load_pretrained, save_pretrained, to_published, to_torchvision
from spikewise.neurons import IF

OF_LIST = {"dvsgesture_PlainNet": "plain_7b", "dvsgesture_SEWResNet": "sew_7b", "dvsgesture_SpikingResNet": "spiking_7b"}
OF_LIST |= {"cifar10dvs_SEWResNet": "sew_wide7b"}
CLASSES = {"plain_7b": 11, "sew_7b": 11, "spiking_7b": 11, "sew_wide7b": 10}


@pytest.fixture
def load(tmp_path):
    """Loads a network from a checkpoint file of this content."""

    def save_and_load(content, **overrides):
        torch.save(content, tmp_path / "c.pth")
        return load_pretrained(tmp_path / "c.pth", **overrides)

    return save_and_load


@pytest.mark.parametrize("name", KEYS)
def test_published_names_map_one_to_one_onto_ours(name):
    model = OF_LIST.get(name, name)
    with torch.device("meta"):
        net = build_model(model, num_classes=CLASSES.get(model, 1000))
    names = published_names(net)
    assert list(names.values()) == [key for key, _, _ in KEYS[name]]  # in the published order, too
    assert len(set(names)) == len(set(names.values()))
    for ours, (_, shape, dtype) in zip(net.state_dict().values(), KEYS[name], strict=True):
        assert (list(ours.shape), str(ours.dtype)) == (shape, f"torch.{dtype}")


@pytest.mark.parametrize("name", KEYS)
def test_kind_depth_and_classes_are_read_from_names_and_shapes(name, load):
    model, state = OF_LIST.get(name, name), numbered(KEYS[name], num_classes=23)
    overrides = {} if model.startswith("spiking") else {"name": model} if model.startswith("plain") else {"connect": "ADD"}
    net = load(state, **overrides)
    assert net.spec["name"] == model
    assert net.num_classes == 23
    back = to_published(net)
    assert list(back) == [key for key, _, _ in KEYS[name]]
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("connect_f", ["ADD", "add", "IAND", "iand", "AND"])
def test_connect_and_steps_come_from_the_files_arguments(connect_f, load):
    content = {"model": numbered(KEYS["sew_resnet18"], num_classes=4), "args": argparse.Namespace(connect_f=connect_f, T=6)}
    net = load(content)
    assert (net.spec["connect"], net.T) == (connect_f.upper(), 6)
    assert load(content, connect="AND", T=2).spec["connect"] == "AND"


@pytest.mark.parametrize(("entry", "model"), [("dg-plain", "plain_7b"), ("dg-IAND", "sew_7b"), ("dg-spiking", "spiking_7b")])
def test_event_networks_are_told_apart_by_the_files_arguments(entry, model, tmp_path):
    write_checkpoint(tmp_path / "c.pth", entry)
    assert load_pretrained(tmp_path / "c.pth").spec["name"] == model


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("sew-18-ADD", r"doesn't tell how blocks connect; say it: connect='ADD', 'AND' or 'IAND'"),
        ("dg-plain", r"same tensor names; say which: name='plain_7b', or .* connect='ADD'"),
    ],
)
def test_what_nothing_tells_is_asked_for_by_name(entry, message, load):
    with pytest.raises(ValueError, match=message):
        load(numbered(key_list(entry)))


@pytest.mark.parametrize("stem", ["1x1", "3x3"])
@pytest.mark.parametrize("num_blocks", [3, 7])
@pytest.mark.parametrize("model", ["sew_7b", "spiking_7b"])
def test_stem_and_number_of_blocks_are_read_from_shapes(model, num_blocks, stem, load):
    net = build_model(model, num_classes=11, stem=stem, num_blocks=num_blocks)
    again = load({"net": to_published(net)}, **({"connect": "ADD"} if model == "sew_7b" else {}))
    assert (again.spec["name"], again.spec["stem"], len(again.blocks)) == (model, stem, num_blocks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype, load):
    net = load({"model": numbered(KEYS["spiking_resnet18"], num_classes=4, dtype=dtype)})
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert net.stem.norm.num_batches_tracked.dtype == torch.int64
    assert all(p.requires_grad for p in net.parameters())


def test_parameters_of_a_file_do_not_share_memory(load):
    state = numbered(KEYS["spiking_resnet18"], num_classes=4)
    state["layer1.1.conv1.module.0.weight"] = state["layer1.0.conv1.module.0.weight"]
    net = load(state)
    assert net.layer1[0].conv1.conv.weight.data_ptr() != net.layer1[1].conv1.conv.weight.data_ptr()


def test_torchvision_names_make_the_relu_twin(load):
    net = build_model("resnet50", num_classes=6)
    state = to_torchvision(net)
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "layer4.2.conv3.weight"} <= set(state)
    again, x = load(state), torch.rand(2, 3, 32, 32)
    assert again.spec["name"] == "resnet50"
    assert torch.equal(again.eval()(x), net.eval()(x))


def test_torchvision_names_make_a_spiking_network_only_when_asked(load):
    state = to_torchvision(build_model("sew_resnet18", num_classes=6))
    assert load(state, name="sew_resnet18", connect="IAND").spec["name"] == "sew_resnet18"
    with pytest.raises(ValueError, match="doesn't tell how blocks connect"):
        load(state, name="sew_resnet18")


def test_a_time_constant_stored_as_a_scalar_is_read(load):
    state = numbered(KEYS["dvsgesture_SpikingResNet"])
    scalars = {k: v.reshape(()) if k.endswith(".w") else v for k, v in state.items()}
    assert torch.equal(to_published(load(scalars))["conv.1.sn.w"], state["conv.1.sn.w"])


def test_a_prefix_of_distributed_training_is_dropped(load):
    state = {f"module.{k}": v for k, v in numbered(KEYS["spiking_resnet18"]).items()}
    assert load(state).spec["name"] == "spiking_resnet18"


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_7b", "resnet18", "sew_wide7b"])
def test_saved_networks_come_back_the_same(name, tmp_path):
    how = {"connect": "IAND", "neuron": "LIF", "tau": 3.0, "T": 6} if name == "sew_resnet20" else {}
    net = build_model(name, num_classes=5, zero_init=True, **how).to(memory_format=torch.channels_last)
    save_pretrained(net, tmp_path / "saved")
    again = load_pretrained(tmp_path / "saved")
    assert again.spec == net.spec
    assert not again.training
    for key, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_a_function_is_asked_for_again(tmp_path):
    connect = torch.maximum
    save_pretrained(build_model("sew_resnet20", num_classes=5, connect=connect), tmp_path)
    with pytest.raises(ValueError, match=r"saved with a connect of your own.*give it again: 'connect'"):
        load_pretrained(tmp_path)
    assert load_pretrained(tmp_path, connect=connect).spec["connect"] is connect


class Evil:
    """What a hostile file would hold: it runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("where", ["args", "model", "tensor", "extra"])
def test_nothing_in_a_file_can_run_code(where, tmp_path):
    evil, state = Evil(str(tmp_path / "pwned")), {"conv1.weight": torch.zeros(1)}
    content = {
        "args": {"model": state, "args": evil},
        "model": {"model": evil},
        "tensor": {"model": state | {"x": evil}},
        "extra": {"model": state, "args": argparse.Namespace(x=evil)},
    }[where]
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"is not a checkpoint of plain tensors: .*open") as refused:
        load_pretrained(tmp_path / "evil.pth")
    assert "trust" not in str(refused.value)  # torch's advice to load it all the same is not passed on
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match="is not a checkpoint of plain tensors"):
        load_pretrained(tmp_path / "raw.pth")
    assert not (tmp_path / "pwned").exists()


SPOILT = "layer2.0.conv1.module.1.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop(SPOILT), f"not those of sew_resnet18: missing: {SPOILT}"),
        (
            lambda state: state.update({"layer2.0.conv1.module.1.gain": torch.zeros(1)}),
            r"not in it: layer2.0.conv1.module.1.gain",
        ),
        (
            lambda state: state.update({SPOILT: state[SPOILT][:5]}),
            rf"'{SPOILT}' has shape \[5\], sew_resnet18 needs \[128\] there",
        ),
        (lambda state: state.update({SPOILT: state[SPOILT].long()}), r"is torch.int64, sew_resnet18 needs torch.float32"),
        (lambda state: state.update({SPOILT: [1, 2]}), f"these entries are no tensors: {SPOILT}"),
        (
            lambda state: state.update({"fc.weight": state["fc.weight"][0]}),
            r"'fc.weight' has shape \[512\]; a tensor of 2 dimensions was expected",
        ),
        (
            lambda state: [state.pop(name) for name in [*state] if name.startswith("layer3.1")],
            r"no network here has \(2, 2, 1, 2\) basic blocks",
        ),
        (lambda state: state.update({"fc.weight": state["fc.weight"].float().to_sparse()}), r"c\.pth"),
        (lambda state: state.update({"fc.weight": torch.zeros(1).expand(10**11, 512)}), r"c\.pth"),
    ],
    ids=["missing", "extra", "shape", "integer", "no tensor", "head", "block", "sparse", "huge by strides"],
)
@pytest.mark.filterwarnings("ignore")  # of sparse tensors
def test_files_that_do_not_fit_say_what_is_wrong(spoil, message, load):
    state = numbered(KEYS["sew_resnet18"])
    spoil(state)
    with pytest.raises(ValueError, match=message):
        load({"model": state}, connect="ADD")


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ([1, 2], {}, "holds no dict of tensors"),
        ({"a": torch.zeros(1)}, {}, "of no network that build_model makes: a; .* your own class .*load_state_dict"),
        (numbered(KEYS["spiking_resnet18"], num_classes=4), {"depth": 18}, "no option named 'depth'; options of build_model"),
        ({"conv.0.0.module.0.weight": torch.zeros(())}, {}, r"c\.pth"),
        ({"model": numbered(KEYS["sew_resnet18"], num_classes=4), "args": torch.zeros(2)}, {}, r"c\.pth"),
    ],
    ids=["list", "foreign", "option", "scalar", "arguments"],
)
def test_files_of_other_content_are_refused_in_words(content, overrides, message, load):
    with pytest.raises(ValueError, match=message):
        load(content, **overrides)


def test_files_that_are_no_weights_are_refused_in_words(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="does not exist; give a weights file"):
        load_pretrained(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match=r"holds no model.safetensors"):
        load_pretrained(tmp_path)
    load(numbered(KEYS["spiking_resnet18"]))
    whole = (tmp_path / "c.pth").read_bytes()
    for name, content in (("x.pth", b"no weights"), ("x.safetensors", b"no weights"), ("half.pth", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is not a"):
            load_pretrained(tmp_path / name)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        "[1]",
        '{"model": 3}',
        '{"model": {"name": "sew_resnet20", "num_classes": 5}, "functions": 5}',
        '{"model": {"name": "sew_resnet20", "num_classes": 5, "in_channels": 4611686018427387904}}',
        '{"model": {"name": ["a"], "num_classes": 5}}',
        '{"model": {"name": "sew_resnet20", "num_classes": "many"}}',
        '{"model": {"name": "sew_resnet20"}}',
        '{"model": {"name": "sew_resnet20", "num_classes": 5, "last_surrogate": [1]}}',
        '{"model": {"name": "sew_7b", "num_classes": 5, "num_blocks": 100000}}',
    ],
    ids=range(10),
)
def test_hostile_headers_are_refused_with_a_value_error(header, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"spikewise": header})
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_pretrained(tmp_path)


def test_bare_tensors_under_our_own_names_are_read_when_named(load):
    net, x = build_model("sew_resnet20", num_classes=5, in_channels=1, connect="IAND").eval(), torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"say which: name=.* your own class is built by that class"):
        load(net.state_dict())
    assert torch.equal(load(net.state_dict(), name="sew_resnet20", connect="IAND")(x), net(x))


@pytest.mark.parametrize("name", ["plif_net", "lif_net"])
def test_bare_tensors_of_chains_tell_classes_and_channels(name, load):
    net = build_model(name, num_classes=3, in_channels=1, width=0.0625)
    read = load(net.state_dict(), name=name, width=0.0625)
    assert (read.num_classes, read.in_channels) == (3, 1)
    assert all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), net.state_dict().values(), strict=True))


def test_members_of_the_tables_are_stored_by_name(tmp_path):
    save_pretrained(build_model("sew_resnet20", num_classes=5, neuron=IF, connect=CONNECT["AND"]), tmp_path)
    spec = load_pretrained(tmp_path).spec
    assert (spec["neuron"], spec["connect"]) == ("IF", "AND")


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    save_pretrained(build_model("sew_resnet20", num_classes=5), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file), file, metadata={"spikewise": json.dumps({"format_version": 99})})
    with pytest.raises(ValueError, match="has format 99, newer than 3; update spikewise"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        ("resnet18", published_names, "resnet18: there are no published names"),
        ("plain_resnet18", published_names, "plain_resnet18: there are no published names"),
        ("sew_resnet20", published_names, "sew_resnet20: there are no published names"),
        ("sew_7b", torchvision_names, "torchvision has no such network"),
        ("lif_net", published_names, "published no network of this kind"),
        ("lif_net", torchvision_names, "torchvision has no such network"),
    ],
)
def test_networks_that_were_never_published_have_no_such_names(name, names, message):
    with pytest.raises(ValueError, match=message):
        names(build_model(name, num_classes=5))


def test_a_network_built_by_hand_cannot_be_saved_without_its_spec(tmp_path):
    net = build_model("sew_resnet20", num_classes=5)
    net.spec = {}
    with pytest.raises(ValueError, match="was not built by build_model"):
        save_pretrained(net, tmp_path)


def test_weights_written_before_the_names_changed_are_read_as_they_were():
    """By version 0.1.0 before its rooms moved: surrogates of the old names, a header and a bare state dict."""
    folder = Path(__file__).parents[1] / "old_files" / "weights"
    expected = torch.load(folder / "expected.pt", weights_only=True)
    net = load_pretrained(folder)
    torch.testing.assert_close(net(expected["x"]), expected["logits"], rtol=1e-4, atol=1e-5)
    assert net.spec["surrogate"] == "rectangular"
    assert net.stage1.widen.neuron.surrogate == "rectangular"
    bare = load_pretrained(folder / "bare.pt", **net.spec)
    assert torch.equal(bare(expected["x"]), net(expected["x"]))


def test_bottlenecks_in_the_stages_of_ms_resnet104_are_no_network_here():
    """MS-ResNet-104, the only network of 104 layers, has basic blocks."""
    names = [f"layer{n}.{i}.conv{k}" for n, count in enumerate((3, 8, 32, 8), 1) for i in range(count) for k in (1, 2, 3)]
    with pytest.raises(ValueError, match=r"no network here has \(3, 8, 32, 8\) bottleneck blocks"):
        infer_resnet_depth({f"{name}.weight": torch.zeros(1) for name in names}, "")
