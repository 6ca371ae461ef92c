"""Runs that begin with trained weights, and parts that do not learn."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import spikewise as sw
from spikewise.cli.main import main
from spikewise.config import Config, Data, Model, Optim
from spikewise.data.input_spec import InputSpec
from spikewise.engine.build import build_network, load_data
from spikewise.engine.finetune import describe_weights
from spikewise.engine.loop import resume, train
from spikewise.engine.loss import balanced_class_weights
from spikewise.engine.optim import build_optimizer
from spikewise.engine.step import TrainState
from spikewise.models import build_model
from spikewise.models.weights import save_pretrained, to_published


@pytest.fixture
def photographs(tmp_path):
    """Two classes of twelve small photographs, bright and dark."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for name, level in (("bright", 200), ("dark", 40)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(level, 20, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def published(tmp_path):
    """A checkpoint as the paper's authors wrote them: 1,000 classes, connection among the script's arguments."""
    torch.manual_seed(0)
    net = build_model("sew_resnet18", num_classes=1000, T=2, connect="AND")
    import argparse

    torch.save({"model": to_published(net), "args": argparse.Namespace(connect_f="AND", T=2)}, tmp_path / "c.pth")
    return tmp_path / "c.pth", net


def small(**options):
    data = Data(name="image-folder", size=32)
    return Config(data=data, optim=Optim(batch=8, epochs=1, lr=0.01), **options)


def test_photographs_are_fine_tuned_from_a_published_checkpoint_by_one_command(photographs, published, tmp_path, capsys):
    file, source = published
    words = ["train", "images/finetune", "--data.root", str(photographs), "--weights", str(file), "--freeze", "stem,layer1"]
    words += [
        "--data.size",
        "32",
        "--optim.epochs",
        "1",
        "--optim.batch",
        "8",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "all but its head of 1,000 classes; the head of 2 is new" in captured.err
    learning = (
        sum(p.numel() for name, p in source.named_parameters() if not name.startswith(("stem", "layer1", "fc"))) + 513 * 2
    )
    assert f"frozen: stem,layer1; {learning:,} of " in captured.err
    assert "stays as it is drawn" not in captured.err
    net = sw.load_pretrained(tmp_path / "run")
    assert (net.spec["name"], net.T, net.spec["connect"], net.num_classes) == ("sew_resnet18", 2, "AND", 2)
    state, theirs = net.state_dict(), source.state_dict()
    for name, tensor in state.items():
        if name.startswith(("stem", "layer1")):
            assert torch.equal(tensor, theirs[name]), name
    assert not torch.equal(state["layer4.1.conv2.conv.weight"], theirs["layer4.1.conv2.conv.weight"])
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["weights"]["file"] == str(file)


def test_a_run_with_weights_goes_on_without_their_file(photographs, tmp_path):
    torch.manual_seed(0)
    file = save_pretrained(build_model("sew_resnet20", num_classes=2, connect="IAND"), tmp_path / "w")
    config = small(weights=str(file))
    config = replace(config, data=replace(config.data, root=str(photographs)), optim=replace(config.optim, epochs=2))
    train(config, tmp_path / "whole", device="cpu", quiet=True)
    train(config, tmp_path / "cut", device="cpu", quiet=True, stop_epoch=1)
    file.unlink()
    resume(tmp_path / "cut", device="cpu", quiet=True)
    whole, cut = (sw.load_pretrained(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_new_run_from_another_runs_weights_with_another_rate(photographs, tmp_path, capsys):
    config = replace(small(model=Model(name="sew_resnet20", T=2)), seed=3, freeze="stem")
    optim = replace(config.optim, head_lr=10.0)
    config = replace(config, data=replace(config.data, root=str(photographs)), optim=optim)
    train(config, tmp_path / "first", device="cpu", quiet=True)
    words = ["train", "--from", str(tmp_path / "first"), "--optim.lr", "1e-30", "--out", str(tmp_path / "second")]
    assert main([*words, "--device", "cpu"]) == 0
    inherited, _, changed = capsys.readouterr().err.splitlines()[0].partition("; changed: ")
    assert inherited.startswith(f"spikewise: as in {tmp_path / 'first'}: ")
    assert all(word in inherited for word in ("freeze='stem'", "optim.head_lr=10.0", "seed=3", "data.size=32"))
    assert changed == "optim.lr 0.01 -> 1e-30"
    first, second = (sw.load_pretrained(tmp_path / name) for name in ("first", "second"))
    assert second.spec == first.spec
    assert torch.equal(first.fc.weight, second.fc.weight)  # nothing is learned at such a rate
    written = json.loads((tmp_path / "second" / "config.json").read_text())
    assert (written["weights"], written["optim"]["lr"], written["seed"]) == (str(tmp_path / "first"), 1e-30, 3)
    descent = json.loads((tmp_path / "second" / "environment.json").read_text())["weights"]
    assert describe_weights(replace(config, weights=str(tmp_path / "second")))["weights"] == descent
    assert descent["file"].startswith(str(tmp_path / "first"))
    assert main(["train", "digits", "--from", str(tmp_path / "first")]) == 2
    assert "leave out 'digits'" in capsys.readouterr().err


@pytest.mark.parametrize(("num_classes", "new"), [(2, False), (3, True)])
def test_a_new_head_that_never_learns_is_told(num_classes, new, photographs, tmp_path, capsys):
    file = save_pretrained(build_model("sew_resnet20", num_classes=num_classes), tmp_path / "w")
    words = ["train", "images", "--data.root", str(photographs), "--weights", str(file), "--freeze", "fc", "--data.size", "32"]
    words += ["--optim.epochs", "1", "--optim.batch", "8", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert ("stays as it is drawn: take it out of --freeze" in capsys.readouterr().err) == new


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--freeze", "layer9"], "there is no 'layer9'; use stem, layer1,"),
        (["--freeze", "stem,layer1,layer2,layer3,layer4,fc"], "nothing to learn"),
        (["--freeze", "stem,pool"], "'pool' has no weights; use stem, layer1,"),
        (["--freeze", "stem,layer1,stem"], "'stem' is given twice"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message, photographs, tmp_path, capsys):
    start = ["train", "images", "--data.root", str(photographs), "--data.size", "32", "--optim.batch", "8", "--device", "cpu"]
    assert main([*start, "--out", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "run" / "config.json").exists()


def test_training_says_which_options_contradict_its_weights(photographs, tmp_path, caplog):
    """Those of the command line hold, whichever command; they are told once."""
    file = save_pretrained(build_model("sew_resnet20", num_classes=2, T=2, connect="IAND", alpha=3.0), tmp_path / "w")
    common = ["--data.root", str(photographs), "--data.size", "32", "--optim.batch", "8", "--optim.epochs", "1", "--quiet"]
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["train", "images", *common, "--weights", str(file), "--model.connect", "ADD", "--model.T", "1"]
    assert main([*words, "--model.neuron", "IF", "--device", "cpu", "--out", str(first)]) == 0
    assert [message for message in caplog.messages if str(file) in message] == [
        f"{file}: --model.connect ADD as given, not 'IAND' as the file says"
    ]
    caplog.clear()
    words = ["train", "--from", str(first), "--model.alpha", "2", "--device", "cpu", "--out", str(second), "--quiet"]
    assert main(words) == 0
    assert ["--model.alpha 2.0 as given, not 3.0" in message for message in caplog.messages] == [True]
    spec = sw.load_pretrained(second).spec
    assert (spec["connect"], spec["alpha"], spec["T"]) == ("ADD", 2.0, 1)


def test_other_channels_and_replaced_parts_are_refused(photographs, tmp_path):
    gray = save_pretrained(build_model("sew_resnet20", num_classes=2, in_channels=1), tmp_path / "gray")
    net = build_model("sew_resnet20", num_classes=2)
    net.stem.norm = torch.nn.GroupNorm(4, 16)
    changed = save_pretrained(net, tmp_path / "changed")
    config = small()
    config = replace(config, data=replace(config.data, root=str(photographs)))
    for file, message in ((gray, "takes 1 channel, image-folder has 3"), (changed, "its stem.norm was replaced")):
        with pytest.raises(ValueError, match=message):
            train(replace(config, weights=str(file)), tmp_path / "run", device="cpu", quiet=True)


def test_the_head_has_its_own_rate_and_frozen_weights_none():
    net = build_model("sew_7b", num_classes=3, num_blocks=1)
    net.stage1.widen.requires_grad_(False)
    groups = build_optimizer(Optim(head_lr=10.0, plif_lr_multiplier=3.0, weight_decay=0.1), net).param_groups
    found = {id(p): (group["scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, p in net.named_parameters():
        scale = 10.0 if name.startswith("out.") else 3.0 if name.endswith(".w") else 1.0
        expected = None if name.startswith("stage1.widen") else (scale, 0.1 if p.dim() > 1 else 0.0)
        assert found.get(id(p)) == expected, name


def test_balanced_classes_have_the_same_share_of_the_loss():
    labels = np.array([0, 0, 0, 2])
    weights = balanced_class_weights(labels, 3)
    torch.testing.assert_close(weights, torch.tensor([4 / 9, 0.0, 4 / 3]))
    logits = torch.randn(4, 3)
    each = F.cross_entropy(logits, torch.from_numpy(labels), reduction="none")
    weighted = F.cross_entropy(logits, torch.from_numpy(labels), weights)
    torch.testing.assert_close(weighted, (each[:3].mean() + each[3]) / 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_are_clipped_to_a_norm(precision, photographs, tmp_path):
    """One step of plain SGD: the weights move by at most rate times norm."""
    config = small(model=Model(name="sew_resnet20", T=2))
    optim = replace(config.optim, momentum=0.0, lr_batch=8, lr=1.0, clip_grad_norm=0.01, schedule="constant", batch=24)
    config = replace(config, data=replace(config.data, root=str(photographs)), optim=replace(optim, precision=precision))
    before = build_network(config, load_data(config, "train")).state_dict()
    train(config, tmp_path / "run", device="cpu", quiet=True)
    after = dict(sw.load_pretrained(tmp_path / "run").named_parameters())
    moved = torch.stack([(after[name] - before[name]).norm() for name in after]).norm()
    assert moved <= 3 * 0.01 * (1 + 1e-4)
    assert moved >= 3 * 0.01 * (1 - 1e-2)


def test_classes_in_another_order_take_their_rows_of_the_head_and_others_a_new_one(photographs, tmp_path):
    source = build_model("sew_resnet20", num_classes=2, T=2)
    for names, rows in ((("dark", "bright"), [1, 0]), (("bright", "dark"), [0, 1]), (("cat", "dog"), None)):
        source.input_spec = InputSpec("image-folder", "photographs", names, (3, 32, 32), (0.5,) * 3, (0.5,) * 3)
        file = save_pretrained(source, tmp_path / "-".join(names))
        config = small(weights=str(file), model=Model(name="sew_resnet20", T=2))
        config = replace(config, data=replace(config.data, root=str(photographs)))
        state = TrainState(config, load_data(config, "train"), torch.device("cpu"), fresh=True)
        assert ("the head of 2 is new" in state.begins_with) == (rows is None)
        assert rows is None or torch.equal(state.net.fc.weight, source.fc.weight[rows])
    source.stem.neuron.v_th = 0.3
    file = save_pretrained(source, tmp_path / "changed")
    with pytest.raises(ValueError, match=r"its stem.neuron was replaced"):
        TrainState(replace(config, weights=str(file)), load_data(config, "train"), torch.device("cpu"), fresh=True)


def test_a_run_whose_first_checkpoint_is_lost_does_not_begin_with_other_weights(photographs, tmp_path):
    file = save_pretrained(build_model("sew_resnet20", num_classes=2), tmp_path / "w")
    config = small(weights=str(file))
    config = replace(config, data=replace(config.data, root=str(photographs)))
    train(config, tmp_path / "run", device="cpu", quiet=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="not even that of its first weights"):
        resume(tmp_path / "run", device="cpu", quiet=True)


def rename_class(photographs, old, new):
    for split in ("train", "val"):
        (photographs / split / old).rename(photographs / split / new)


@pytest.fixture
def run(photographs, tmp_path):
    """One of two epochs."""
    config = small(model=Model(name="sew_resnet20", T=2))
    data, optim = replace(config.data, root=str(photographs)), replace(config.optim, epochs=2)
    train(replace(config, data=data, optim=optim), tmp_path / "run", device="cpu", quiet=True, stop_epoch=1)
    return tmp_path / "run"


def test_resuming_on_other_classes_names_them_as_evaluation_does(run, photographs, capsys):
    rename_class(photographs, "dark", "gloomy")
    for words in (["train", "--resume", str(run)], ["evaluate", str(run)]):
        assert main([*words, "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert all(word in error for word in ("'gloomy'", "'dark'", "(renamed?)", f"image-folder in {photographs}"))
    for split in ("train", "val"):
        shutil.copytree(photographs / split / "gloomy", photographs / split / "dark")
    assert main(["train", "--resume", str(run), "--device", "cpu"]) == 2
    assert "samples 24 -> 36, labels changed, classes: new 'gloomy'; undo that" in capsys.readouterr().err


def test_a_new_head_says_which_classes_are_others(run, photographs, tmp_path, capsys):
    rename_class(photographs, "dark", "gloomy")
    words = ["train", "images", "--data.root", str(photographs), "--weights", str(run), "--data.size", "32", "--device", "cpu"]
    words += ["--optim.batch", "8", "--optim.epochs", "1", "--data.mean", "0.4,0.4,0.4", "--out", str(tmp_path / "new")]
    assert main(words) == 0
    error = capsys.readouterr().err
    assert "the head of 2 is new: added 'gloomy'; left out 'dark'" in error
    assert "trained with --data.mean 0.485," in error


def test_a_run_that_fails_before_its_first_step_is_done_leaves_nothing(photographs, tmp_path, monkeypatch):
    file = save_pretrained(build_model("sew_resnet20", num_classes=2), tmp_path / "w")
    config = small(weights=str(file))
    config = replace(config, data=replace(config.data, root=str(photographs)))

    def fail(*_):
        raise ValueError("this batch cannot be read")

    monkeypatch.setattr("spikewise.engine.loop.step_or_oom_hint", fail)
    (tmp_path / "mine").mkdir()
    for folder in ("new", "mine"):
        with pytest.raises(ValueError, match="cannot be read"):
            train(config, tmp_path / folder, device="cpu", quiet=True)
    assert [path.name for path in tmp_path.iterdir() if path.name in ("new", "mine")] == ["mine"]
    assert not list((tmp_path / "mine").iterdir())


def test_a_checkpoint_inside_a_run_knows_the_runs_data(run, monkeypatch, tmp_path, capsys):
    newest = (run / "checkpoints" / "last").resolve()
    monkeypatch.chdir(tmp_path)
    main(["evaluate", str(run), "--device", "cpu", "--json"])
    score = json.loads(capsys.readouterr().out)["accuracy"]
    for path in (newest, newest / "model.safetensors", run / "checkpoints" / "last" / "model.safetensors"):
        assert main(["evaluate", str(path), "--device", "cpu", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == score
    assert main(["train", "--from", str(newest)]) == 2
    assert "its run is run" in capsys.readouterr().err
    for command in ("analyze", "diagnose", "energy"):
        assert main([command, str(newest / "model.safetensors"), "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("model", "option", "said"),
    [
        ({"name": "sew_resnet20"}, ["--model.zero-init"], "--model.zero-init has no effect"),
        ({"name": "sew_7b", "num_blocks": 1, "in_channels": 3}, ["--model.tau", "3"], "--model.tau 3.0 has no effect"),
    ],
)
def test_options_that_learned_weights_override_are_refused(model, option, said, photographs, tmp_path, capsys):
    file = save_pretrained(build_model(num_classes=2, **model), tmp_path / "w")
    words = ["train", "images", "--data.root", str(photographs), "--weights", str(file), "--out", str(tmp_path / "run")]
    assert main([*words, *option]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    name = option[0].removeprefix("--model.").replace("-", "_")
    with pytest.raises(ValueError, match="has no effect"):
        sw.load_pretrained(file, **{name: True if name == "zero_init" else 3.0})
    assert sw.load_pretrained(file, zero_init=False).spec["name"] == model["name"]
