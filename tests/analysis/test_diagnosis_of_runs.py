"""What a diagnosis says of a run: its input, its options and config, its length and its accuracy."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from examined import BLOCK, IMAGENET, conv1, event_network, frames, images, network, problems

import spikewise as sw
from spikewise.analysis.diagnosis.diagnose import check_chance, check_short_run
from spikewise.analysis.diagnosis.settings import check_learning_rate
from spikewise.analysis.load import load_analysis_input, spread_over_classes
from spikewise.cli.main import main
from spikewise.config import Config, Data, Model, Optim


@pytest.mark.parametrize(
    ("problem", "damage"),
    [
        ("input without contrast", lambda x: torch.full_like(x, 0.5)),
        ("samples all the same", lambda x: x[:1].repeat(8, 1, 1, 1)),
        ("input out of scale", lambda _: 255 * torch.rand(8, 3, 32, 32)),
        ("input that is no numbers", lambda x: x.index_put((torch.tensor(3), torch.tensor(1)), torch.tensor(torch.nan))),
        ("input that is no numbers", lambda x: x.index_put((torch.tensor(3), torch.tensor(1)), torch.tensor(torch.inf))),
    ],
)
def test_input_that_tells_nothing(problem, damage):
    found = problems(network("sew_resnet20"), damage(images()))
    assert list(found) == [problem]
    assert problem != "input that is no numbers" or "1,024 of 24,576 values" in found[problem].evidence


def test_recordings_all_the_same():
    net = event_network(num_blocks=3)
    assert list(problems(net, frames()[:, :1].repeat(1, 4, 1, 1, 1))) == ["samples all the same"]
    assert not problems(net, frames())


def test_options_changed_since_the_network_was_built():
    net = network()
    net.T = 2
    assert "here 2, checkpoint 4" in str(problems(net)["T is not the checkpoint's"])
    with pytest.warns(FutureWarning, match="triangular"):
        net = network(last_surrogate="triangle")
    assert not any("checkpoint" in problem for problem in problems(net))
    conv1(net).neuron.surrogate = "sigmoid"
    assert problems(net)["surrogate is not the checkpoint's"].location == f"{BLOCK}.conv1.neuron"


@pytest.mark.parametrize("change", [{"surrogate": "sigmoid"}, {"T": 8}, {"connect": "IAND"}])
def test_options_that_differ_from_the_config(change):
    net = network(zero_init=True)
    assert not problems(net, config=IMAGENET)
    config = replace(IMAGENET, model=replace(IMAGENET.model, **change))
    assert f"{next(iter(change))} is not the checkpoint's" in problems(net, config=config)


@pytest.mark.parametrize(
    ("optim", "advice"),
    [
        ({"batch": 8, "lr": 1.0, "lr_batch": 8}, "published 0.1 for SGD is for 256 samples"),
        ({"lr": 1e-8}, "nothing is learnt"),
        ({"batch": 256, "lr_batch": 256}, None),
        ({"batch": 64, "lr_batch": 64}, None),
        ({"batch": 32, "lr_batch": 32}, "for SGD is for 256 samples"),
        ({"batch": 4, "lr_batch": 4}, "take about 0.0016: the published 0.1 for SGD is for 256 samples"),
    ],
)
def test_learning_rates_are_compared_with_the_recipes(optim, advice):
    finding = check_learning_rate(replace(IMAGENET, optim=replace(IMAGENET.optim, **optim)))
    assert finding is None if advice is None else advice in finding.advice


@pytest.mark.parametrize("name", sw.RECIPES)
def test_learning_rates_of_recipes_are_in_scale(name):
    assert check_learning_rate(sw.RECIPES[name]()) is None


def test_on_the_command_line(tmp_path, capsys):
    sw.save_pretrained(network(), tmp_path / "healthy")
    assert main(["diagnose", str(tmp_path / "healthy"), "--device", "cpu"]) == 0
    assert "nothing found in 8 blocks" in capsys.readouterr().out
    sw.save_pretrained(network("plain_resnet18", v_th=40.0), tmp_path / "silent")
    assert main(["diagnose", str(tmp_path / "silent"), "--json", "--device", "cpu"]) == 0
    finding = json.loads(capsys.readouterr().out)[0]
    assert list(finding) == ["problem", "location", "evidence", "advice"]
    assert finding["problem"] == "silent"
    assert main(["diagnose", str(tmp_path / "none")]) == 2
    assert main(["diagnose", str(tmp_path / "healthy"), "--samples", "1"]) == 2
    assert "--samples 1; use 2 to 8" in capsys.readouterr().err


@pytest.mark.parametrize(("correct", "found"), [(0, True), (10, True), (15, True), (17, False), (90, False)])
def test_an_accuracy_that_guessing_reaches_is_a_finding(correct, found):
    net = sw.build_model("sew_resnet20", num_classes=10)  # of 100, guessing gets 10 give or take 6
    finding = check_chance(net, (correct, 100))
    assert (finding is not None) == found
    assert not found or "guessing among 10 classes gets 10" in str(finding)
    assert check_chance(net, None) is None


def test_a_run_too_short_to_judge_says_what_was_not_looked_at():
    assert "not looked at: running statistics" in str(check_short_run(3, Config()))
    assert check_short_run(3, None) is check_short_run(30, Config()) is None


def test_samples_come_from_all_classes():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    assert spread_over_classes(labels, 5).tolist() == [0, 4, 6, 1, 5]
    assert sorted(spread_over_classes(labels, 99).tolist()) == list(range(7))


def test_a_diagnosis_is_shown_samples_of_different_classes(tmp_path):
    config = Config(data=Data(name="digits"), model=Model(name="sew_resnet20", T=2), optim=Optim(epochs=1, batch=256))
    sw.train(config, tmp_path / "run", device="cpu", quiet=True)
    opened = load_analysis_input(tmp_path / "run", samples=8, device="cpu")
    _, labels = next(opened.batches)
    assert len(set(labels.tolist())) == 8
    assert opened.score[1] == 359
