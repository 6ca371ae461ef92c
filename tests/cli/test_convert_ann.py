"""`spikewise convert-ann`: the weights that it writes load back and are scored on their data; mistakes are a line."""

import dataclasses
import json

import pytest
import torch

import spikewise as sw
from spikewise.cli.main import main
from spikewise.engine.build import load_data
from spikewise.recipes import RECIPES


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = RECIPES["digits"]()
    config = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, train_samples=640, test_samples=64),
        model=dataclasses.replace(recipe.model, name="resnet20", width=0.5),
        optim=dataclasses.replace(recipe.optim, epochs=6, ema_decay=0.0),
    )
    folder = tmp_path_factory.mktemp("ann") / "run"
    sw.train(config, folder, quiet=True)
    return folder


def test_a_run_becomes_a_spiking_network_that_says_its_input(run, tmp_path, capsys):
    """Within a point of the ReLU network's accuracy at T = 256."""
    out = tmp_path / "spiking"
    assert main(["convert-ann", str(run), str(out), "--samples", "64"]) == 0
    assert "a spike stands for" in capsys.readouterr().out
    ann, net = sw.load_pretrained(run), sw.load_pretrained(out)
    assert (net.spec["name"], net.T, net.spec["v_reset"]) == ("converted_resnet20", 256, None)
    assert net.input_spec == ann.input_spec
    test = load_data(RECIPES["digits"](), "test")
    images = torch.stack([torch.from_numpy(test.sample(i)) for i in range(128)])
    with torch.no_grad():
        right, spiking = ((network(images).argmax(1) == torch.from_numpy(test.labels[:128])).sum() for network in (ann, net))
    assert right > 110
    assert abs(int(right) - int(spiking)) <= 1


def test_thresholds_are_told_and_training_goes_on_by_spike_times(run, tmp_path, capsys):
    out = tmp_path / "spiking"
    words = ["--method", "spike-norm", "--steps", "24", "--T", "8", "--samples", "16", "--reset", "hard", "--json"]
    assert main(["convert-ann", str(run), str(out), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["T"], len(told["thresholds"])) == ("converted_resnet20", 8, 19)
    assert sw.load_pretrained(out).spec["v_reset"] == 0.0
    assert main(["convert-ann", str(run), str(out), "--percentile", "98", "--samples", "16", "--T", "16"]) == 0
    words = ["--weights", str(out), "--model.neuron", "STDB", "--optim.epochs", "1", "--quiet"]
    more = ["--data.train-samples", "128", "--data.test-samples", "64", "--out", str(tmp_path / "run")]
    assert main(["train", "digits", *words, *more]) == 0
    trained, before = sw.load_pretrained(tmp_path / "run"), sw.load_pretrained(out)
    assert (trained.spec["name"], trained.spec["neuron"], trained.T) == ("converted_resnet20", "STDB", 16)
    assert not torch.equal(trained.stem.conv.bias, before.stem.conv.bias)
    assert torch.equal(trained.layer1[0].shortcut.factor, before.layer1[0].shortcut.factor)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--percentile", "99", "--method", "max"], "percentile=99.0 is for"),
        (["--samples", "0"], "--samples 0"),
        (["--data.name", "fashion-mnist"], "is for weights files"),
    ],
)
def test_mistakes_are_a_line(run, words, message, tmp_path, capsys):
    assert main(["convert-ann", str(run), str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_folder_is_not_written_into_and_data_is_asked_for(run, tmp_path, capsys):
    assert main(["convert-ann", str(run), str(run)]) == 2
    assert "is a run folder, whose weights these would hide" in capsys.readouterr().err
    sw.save_pretrained(sw.build_model("resnet20", num_classes=10), tmp_path / "file")
    assert main(["convert-ann", str(tmp_path / "file"), str(tmp_path / "out")]) == 2
    assert "name the data set: --data.name" in capsys.readouterr().err
