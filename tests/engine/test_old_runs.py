"""Run folders written by version 0.1.0, before its modules and names were changed."""

import shutil
from pathlib import Path

import pytest
from tiny import json_lines

from spikewise.cli.main import main
from spikewise.engine.evaluate import evaluate
from spikewise.engine.loop import resume
from spikewise.engine.metrics import read_result
from spikewise.engine.run.folder import read_config

OLD_FILES = Path(__file__).parents[1] / "old_files"


def test_a_finished_run_is_read_and_evaluated():
    run = OLD_FILES / "run_finished"
    result, lines = read_result(run, read_config(run)), json_lines(run / "metrics.jsonl")
    assert (result.correct, result.total) == (lines[-1]["test_correct"], lines[-1]["test_total"])
    for checkpoint, line in (("last", lines[-1]), ("best", lines[result.best_epoch - 1])):
        score = evaluate(run, checkpoint=checkpoint, device="cpu")
        assert score.loss == pytest.approx(line["test_loss"], rel=0.05)  # a spike may flip on another processor
        assert abs(score.correct - line["test_correct"]) <= 5
        assert abs(score.correct_top5 - line["test_correct5"]) <= 5


def test_a_finished_run_is_resumed_for_nothing_but_its_result(tmp_path, capsys):
    run = shutil.copytree(OLD_FILES / "run_finished", tmp_path / "run", symlinks=True)
    assert main(["train", "--resume", str(run), "--device", "cpu", "--quiet"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_bytes() == (OLD_FILES / "run_finished" / "metrics.jsonl").read_bytes()


def test_a_killed_run_is_resumed_to_its_end(tmp_path):
    old = OLD_FILES / "run_killed"
    run = shutil.copytree(old, tmp_path / "run", symlinks=True)
    assert resume(run, device="cpu", quiet=True).best_epoch
    for name, key, expected in (("metrics.jsonl", "epoch", [1, 2, 3]), ("probe.jsonl", "step", [3, 6, 9, 12, 15, 18])):
        before, after = json_lines(old / name), json_lines(run / name)
        assert [line[key] for line in after] == expected
        assert after[: len(before)] == before
        assert all(line.keys() == before[0].keys() for line in after)  # the keys are a file format
    assert [path.name for path in sorted((run / "checkpoints").iterdir())][-1] == "step-00000018"
