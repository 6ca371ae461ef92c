"""`spikewise convert`, and `evaluate --fold`."""

import json

import numpy as np
import pytest
import torch

import spikewise as sw
from spikewise.cli.main import main
from spikewise.data.input_spec import InputSpec
from spikewise.models.folding import fold_norms
from spikewise.models.weights import load_pretrained, save_pretrained


@pytest.fixture
def digits(tmp_path):
    """A network of the digits whose norms are not those of fresh weights."""
    net = sw.build_model("sew_resnet20", num_classes=10, in_channels=1, width=0.25, T=2).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        if name.endswith("norm.bias"):
            tensor.uniform_(0, 1)  # so that neurons fire
    net.input_spec = InputSpec("digits", "images", sw.DATASETS["digits"].load("test").class_names, (1, 8, 8))
    save_pretrained(net, tmp_path / "digits")
    return tmp_path / "digits"


def test_there_and_back_by_the_command(tmp_path, capsys):
    net = sw.build_model("sew_resnet18", num_classes=3, connect="AND", T=6)
    save_pretrained(net, tmp_path / "net")
    assert main(["convert", str(tmp_path / "net"), str(tmp_path / "theirs.pth"), "--to", "authors"]) == 0
    out = capsys.readouterr().out
    assert "122 tensors of sew_resnet18" in out
    assert "(120 renamed)" in out
    assert "connect='AND'" in out
    assert main(["convert", str(tmp_path / "theirs.pth"), str(tmp_path / "ours"), "--license", "mit"]) == 0
    back = load_pretrained(tmp_path / "ours")
    assert (back.spec["connect"], back.T) == ("AND", 6)
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), net.state_dict().values(), strict=True))
    assert 'license: "mit"' in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.pth"], "are a folder"),
        (["net.h5", "--to", "authors"], "use NAME.pth"),
        (["net.pth", "--to", "authors"], "sew_resnet20: there are no published names"),
        (["net.pth", "--to", "torchvision", "--license", "mit"], "--license is for the model card"),
        (["absent/net.pth", "--to", "torchvision"], "there is no folder"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_nothing_is_written(arguments, message, digits, monkeypatch, capsys):
    monkeypatch.chdir(digits.parent)
    before = sorted(digits.parent.rglob("*"))
    assert main(["convert", str(digits), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(digits.parent.rglob("*")) == before


def test_a_run_becomes_a_folder_with_all_that_it_knows(tmp_path, capsys):
    options = ["--stop-epoch", "1", "--data.train-samples", "128", "--data.test-samples", "64", "--model.width", "0.25"]
    assert main(["train", "digits", *options, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "mine")]) == 0
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "| recipe | `digits`, seed 0, with data.train_samples=128" in card
    assert ", 1 of 12 epochs |" in card
    correct = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["test_correct"]
    assert f"({correct} of 64)" in card
    assert "layer3.2 0." in card
    assert "ReLU twin, 8 bits" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_evaluate_says_what_folding_changes(as_json, digits, monkeypatch, capsys):
    """Against a fold that does change answers: one that turns the head round."""

    def turned(net):
        net = fold_norms(net)
        net.fc.weight.data.neg_()
        return net

    monkeypatch.setattr("spikewise.engine.evaluate.fold_norms", turned)
    plain = load_pretrained(digits)
    data = sw.DATASETS["digits"].load("test")
    x = torch.from_numpy(np.stack([data.sample(number) for number in range(len(data))]))
    with torch.no_grad():
        before, after = plain(x).argmax(1), turned(plain)(x).argmax(1)
    changed, labels = int((before != after).sum()), torch.from_numpy(data.labels)
    assert changed
    assert main(["evaluate", str(digits), "--fold", *as_json]) == 0
    out = capsys.readouterr().out
    if as_json:
        found = json.loads(out)
        assert found["answers_changed_by_folding"] == changed
        assert found["correct"] == int((after == labels).sum())
        assert found["unfolded_accuracy"] == float((before == labels).sum()) / len(data)
    else:
        assert f"norms folded; unfolded {100 * float((before == labels).sum()) / len(data):.2f} %, {changed} of 359" in out


def test_folding_itself_changes_hardly_an_answer(digits, capsys):
    assert main(["evaluate", str(digits), "--fold", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers_changed_by_folding"] <= 3
