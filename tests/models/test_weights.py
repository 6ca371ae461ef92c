import argparse
import json
import pickle
from pathlib import Path

import pytest
import torch
from published import KEYS, key_list, numbered, write_checkpoint
from safetensors.torch import load_file, save_file

from spikewise.models import CONNECT, build_model
from spikewise.models.key_maps import published_names, torchvision_names
from spikewise.models.weights import load_pretrained, save_pretrained, to_published, to_torchvision
from spikewise.neurons import IF

OF_LIST = {"dvsgesture_PlainNet": "plain_7b", "dvsgesture_SEWResNet": "sew_7b", "dvsgesture_SpikingResNet": "spiking_7b"}
OF_LIST |= {"cifar10dvs_SEWResNet": "sew_wide7b"}
CLASSES = {"plain_7b": 11, "sew_7b": 11, "spiking_7b": 11, "sew_wide7b": 10}


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
def test_kind_depth_and_classes_are_read_from_names_and_shapes(name, tmp_path):
    model = OF_LIST.get(name, name)
    state = numbered(KEYS[name], num_classes=23)
    torch.save(state, tmp_path / "bare.pth")
    overrides = {} if model.startswith("spiking") else {"name": model} if model.startswith("plain") else {"connect": "ADD"}
    net = load_pretrained(tmp_path / "bare.pth", **overrides)
    assert net.spec["name"] == model
    assert net.num_classes == 23
    back = to_published(net)
    assert list(back) == [key for key, _, _ in KEYS[name]]
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("connect_f", ["ADD", "add", "IAND", "iand", "AND"])
def test_connect_and_steps_come_from_the_files_arguments(connect_f, tmp_path):
    content = {"model": numbered(KEYS["sew_resnet18"], num_classes=4), "args": argparse.Namespace(connect_f=connect_f, T=6)}
    torch.save(content, tmp_path / "c.pth")
    net = load_pretrained(tmp_path / "c.pth")
    assert (net.spec["connect"], net.T) == (connect_f.upper(), 6)
    assert load_pretrained(tmp_path / "c.pth", connect="AND", T=2).spec["connect"] == "AND"


@pytest.mark.parametrize(("entry", "model"), [("dg-plain", "plain_7b"), ("dg-IAND", "sew_7b"), ("dg-spiking", "spiking_7b")])
def test_event_networks_are_told_apart_by_the_files_arguments(entry, model, tmp_path):
    write_checkpoint(tmp_path / "c.pth", entry)
    assert load_pretrained(tmp_path / "c.pth").spec["name"] == model


def test_what_nothing_tells_is_asked_for_by_name(tmp_path):
    torch.save(numbered(key_list("sew-18-ADD")), tmp_path / "sew.pth")
    with pytest.raises(ValueError, match=r"doesn't tell how blocks connect; pass connect='ADD' or 'AND' or 'IAND'"):
        load_pretrained(tmp_path / "sew.pth")
    torch.save(numbered(key_list("dg-plain")), tmp_path / "event.pth")
    with pytest.raises(ValueError, match=r"same tensor names; pass name='plain_7b', or connect= \(SEW\)"):
        load_pretrained(tmp_path / "event.pth")


@pytest.mark.parametrize("stem", ["1x1", "3x3"])
@pytest.mark.parametrize("num_blocks", [3, 7])
@pytest.mark.parametrize("model", ["sew_7b", "spiking_7b"])
def test_stem_and_number_of_blocks_are_read_from_shapes(model, num_blocks, stem, tmp_path):
    net = build_model(model, num_classes=11, stem=stem, num_blocks=num_blocks)
    torch.save({"net": to_published(net)}, tmp_path / "c.pth")
    again = load_pretrained(tmp_path / "c.pth", **({"connect": "ADD"} if model == "sew_7b" else {}))
    assert (again.spec["name"], again.spec["stem"], len(again.blocks)) == (model, stem, num_blocks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype, tmp_path):
    state = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in numbered(KEYS["spiking_resnet18"], num_classes=4).items()
    }
    torch.save({"model": state}, tmp_path / "c.pth")
    net = load_pretrained(tmp_path / "c.pth")
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert net.stem.norm.num_batches_tracked.dtype == torch.int64
    assert all(p.requires_grad for p in net.parameters())


def test_parameters_of_a_file_do_not_share_memory(tmp_path):
    state = numbered(KEYS["spiking_resnet18"], num_classes=4)
    state["layer1.1.conv1.module.0.weight"] = state["layer1.0.conv1.module.0.weight"]
    torch.save(state, tmp_path / "c.pth")
    net = load_pretrained(tmp_path / "c.pth")
    assert net.layer1[0].conv1.conv.weight.data_ptr() != net.layer1[1].conv1.conv.weight.data_ptr()


def test_torchvision_names_make_the_relu_twin(tmp_path):
    net = build_model("resnet50", num_classes=6)
    state = to_torchvision(net)
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "layer4.2.conv3.weight"} <= set(state)
    torch.save(state, tmp_path / "resnet.pth")
    again = load_pretrained(tmp_path / "resnet.pth")
    assert again.spec["name"] == "resnet50"
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(x), net.eval()(x))


def test_torchvision_names_make_a_spiking_network_only_when_asked(tmp_path):
    torch.save(to_torchvision(build_model("sew_resnet18", num_classes=6)), tmp_path / "c.pth")
    net = load_pretrained(tmp_path / "c.pth", name="sew_resnet18", connect="IAND")
    assert net.spec["name"] == "sew_resnet18"
    with pytest.raises(ValueError, match="doesn't tell how blocks connect"):
        load_pretrained(tmp_path / "c.pth", name="sew_resnet18")


def test_a_time_constant_stored_as_a_scalar_is_read(tmp_path):
    state = numbered(KEYS["dvsgesture_SpikingResNet"])
    torch.save({k: v.reshape(()) if k.endswith(".w") else v for k, v in state.items()}, tmp_path / "c.pth")
    assert torch.equal(to_published(load_pretrained(tmp_path / "c.pth"))["conv.1.sn.w"], state["conv.1.sn.w"])


def test_a_prefix_of_distributed_training_is_dropped(tmp_path):
    state = {f"module.{k}": v for k, v in numbered(KEYS["spiking_resnet18"]).items()}
    torch.save(state, tmp_path / "c.pth")
    assert load_pretrained(tmp_path / "c.pth").spec["name"] == "spiking_resnet18"


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_7b", "resnet18", "sew_wide7b"])
def test_saved_networks_come_back_the_same(name, tmp_path):
    how = {"connect": "IAND", "neuron": "LIF", "tau": 3.0, "T": 6} if name == "sew_resnet20" else {}
    net = build_model(name, num_classes=5, zero_init=True, **how).to(memory_format=torch.channels_last)
    save_pretrained(net, tmp_path / "saved")
    again = load_pretrained(tmp_path / "saved")
    assert again.spec == net.spec
    for key, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


def test_a_function_is_asked_for_again(tmp_path):
    connect = torch.maximum
    save_pretrained(build_model("sew_resnet20", num_classes=5, connect=connect), tmp_path)
    with pytest.raises(ValueError, match=r"saved with a function for 'connect'.*pass it again"):
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


def damaged(state, how):
    """A state dict with one thing wrong."""
    state = dict(state)
    name = "layer2.0.conv1.module.1.weight"
    if how == "missing":
        del state[name]
    elif how == "extra":
        state["layer2.0.conv1.module.1.gain"] = torch.zeros(1)
    elif how == "shape":
        state[name] = state[name][:5]
    elif how == "integer":
        state[name] = state[name].long()
    elif how == "no_tensor":
        state[name] = [1, 2]
    elif how == "head":
        state["fc.weight"] = state["fc.weight"][0]
    elif how == "block":
        state = {k: v for k, v in state.items() if not k.startswith("layer3.1")}
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"not those of sew_resnet18; missing|not those of sew_resnet18: missing: layer2.0.conv1.module.1.weight"),
        ("extra", r"not in it: layer2.0.conv1.module.1.gain"),
        ("shape", r"'layer2.0.conv1.module.1.weight' has shape \[5\], sew_resnet18 needs \[128\] there"),
        ("integer", r"is torch.int64, sew_resnet18 needs torch.float32"),
        ("no_tensor", r"these entries are no tensors: layer2.0.conv1.module.1.weight"),
        ("head", r"'fc.weight' has shape \[512\]; a tensor of 2 dimensions was expected"),
        ("block", r"no network here has \(2, 2, 1, 2\) basic blocks"),
    ],
)
def test_files_that_do_not_fit_say_what_is_wrong(how, message, tmp_path):
    torch.save({"model": damaged(numbered(KEYS["sew_resnet18"]), how)}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path / "c.pth", connect="ADD")


def test_files_that_are_no_weights_are_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; give a weights file"):
        load_pretrained(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match=r"holds no model.safetensors"):
        load_pretrained(tmp_path)
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(ValueError, match="is not a"):
            load_pretrained(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no dict of tensors"):
        load_pretrained(tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="belong to no network known here: a"):
        load_pretrained(tmp_path / "other.pth")
    torch.save(numbered(KEYS["spiking_resnet18"]), tmp_path / "s.pth")
    with pytest.raises(ValueError, match="no option named 'depth'; options of build_model"):
        load_pretrained(tmp_path / "s.pth", depth=18)


def odd_file(path, how):
    """Files that are no checkpoint, but look a little like one."""
    state = numbered(KEYS["sew_resnet18"], num_classes=4)
    if how == "sparse":
        state["fc.weight"] = state["fc.weight"].float().to_sparse()
    elif how == "huge_by_strides":
        state["fc.weight"] = torch.zeros(1).expand(10**11, 512)
    elif how == "scalar":
        state = {"conv.0.0.module.0.weight": torch.zeros(())}
    content = {"model": state, "args": torch.zeros(2) if how == "tensor_args" else {"connect_f": "ADD"}}
    torch.save(content, path)


@pytest.mark.parametrize("how", ["sparse", "huge_by_strides", "scalar", "tensor_args"])
@pytest.mark.filterwarnings("ignore")
def test_odd_files_are_refused_with_a_value_error(how, tmp_path):
    odd_file(tmp_path / "odd.pth", how)
    with pytest.raises(ValueError, match=r"odd\.pth"):
        load_pretrained(tmp_path / "odd.pth")


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


def test_bare_tensors_under_our_own_names_are_read_when_named(tmp_path):
    net = build_model("sew_resnet20", num_classes=5, in_channels=1, connect="IAND").eval()
    torch.save(net.state_dict(), tmp_path / "own.pth")
    with pytest.raises(ValueError, match="own names without its header; pass name="):
        load_pretrained(tmp_path / "own.pth")
    again = load_pretrained(tmp_path / "own.pth", name="sew_resnet20", connect="IAND")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(x), net(x))


def test_members_of_the_tables_are_stored_by_name(tmp_path):
    save_pretrained(build_model("sew_resnet20", num_classes=5, neuron=IF, connect=CONNECT["AND"]), tmp_path)
    spec = load_pretrained(tmp_path).spec
    assert (spec["neuron"], spec["connect"]) == ("IF", "AND")


def test_a_loaded_network_is_ready_for_use(tmp_path):
    save_pretrained(build_model("sew_resnet20", num_classes=5), tmp_path)
    assert not load_pretrained(tmp_path).training


def test_a_truncated_checkpoint_is_refused_in_words(tmp_path):
    torch.save(numbered(KEYS["spiking_resnet18"]), tmp_path / "c.pth")
    whole = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a checkpoint of plain tensors"):
        load_pretrained(tmp_path / "c.pth")


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    save_pretrained(build_model("sew_resnet20", num_classes=5), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file), file, metadata={"spikewise": json.dumps({"format_version": 99})})
    with pytest.raises(ValueError, match="has format 99, newer than 2; update spikewise"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["resnet18", "plain_resnet18", "sew_resnet20"])
def test_networks_that_were_never_published_have_no_published_names(name):
    with pytest.raises(ValueError, match=f"{name}: there are no published names"):
        published_names(build_model(name, num_classes=5))


def test_event_networks_have_no_torchvision_names():
    with pytest.raises(ValueError, match="torchvision has no such network"):
        torchvision_names(build_model("sew_7b", num_classes=5))


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
