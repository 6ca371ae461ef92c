"""What a diagnosis says of a run as a whole: too short to judge, at chance, and shown samples of all classes."""

import numpy as np
import pytest

import spikewise as sw
from spikewise.analysis.diagnosis.diagnose import check_chance, check_short_run
from spikewise.analysis.load import load_analysis_input, spread_over_classes
from spikewise.config import Config, Data, Model, Optim


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
