"""Runs that hold samples out for validation, and visit each class equally often."""

import dataclasses
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY, json_lines, with_optim

from spikewise.cli.main import main
from spikewise.config import Data
from spikewise.engine.errors import Interrupted
from spikewise.engine.evaluate import evaluate
from spikewise.engine.loop import resume, train
from spikewise.engine.metrics import best_epoch_metrics
from spikewise.engine.step import TrainState

HELD_OUT = dataclasses.replace(
    with_optim(epochs=3, ema_decay=0.9), data=Data(name="digits", shift=1, validation=0.2, sampling="balanced")
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out") / "run"
    return train(HELD_OUT, folder, quiet=True)


def test_the_best_epoch_is_chosen_on_the_validation_samples(unbroken):
    lines = json_lines(unbroken.run / "metrics.jsonl")
    assert {line["val_total"] for line in lines} == {287}
    assert {line["test_total"] for line in lines} == {359}
    assert all(line["val_accuracy"] == line["val_correct"] / line["val_total"] for line in lines)
    best = max(lines, key=lambda line: line["val_accuracy"])
    assert (unbroken.best_epoch, unbroken.best, unbroken.chosen_on) == (best["epoch"], best["test_accuracy"], "validation")
    assert evaluate(unbroken.run, checkpoint="best", device="cpu").correct == best["test_correct"]
    assert best_epoch_metrics([{"test_accuracy": 0.9, "val_accuracy": 0.1}, {"test_accuracy": 0.1, "val_accuracy": 0.2}])[
        "test_accuracy"
    ] == pytest.approx(0.1)


def test_a_run_without_validation_has_no_such_fields(tmp_path):
    result = train(TINY, tmp_path / "run", quiet=True, stop_epoch=1)
    assert result.chosen_on == "test"
    assert not [name for name in json_lines(tmp_path / "run" / "metrics.jsonl")[0] if name.startswith("val_")]


def test_a_stopped_run_ends_as_the_one_that_was_not(unbroken, tmp_path, monkeypatch):
    step = TrainState.step_shards

    def step_and_signal(self, shards):
        loss = step(self, shards)
        if self.steps_done == 14:  # within the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "step_shards", step_and_signal)
        with pytest.raises(Interrupted):
            train(HELD_OUT, tmp_path / "run", quiet=True)
    resume(tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (unbroken.run / "metrics.jsonl").read_bytes()
    ours, theirs = (load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (tmp_path / "run", unbroken.run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_printed_says_which_split_chose(unbroken, capsys):
    assert main(["train", "--resume", str(unbroken.run), "--device", "cpu", "--quiet"]) == 0
    assert "chosen on the samples held out for validation" in capsys.readouterr().out
