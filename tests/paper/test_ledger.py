"""Grids whose finished runs are lines of a ledger: nothing is run twice, pages are made from the lines alone."""

import dataclasses
import json
import shutil

import pytest

from spikewise.config import Config, Data, Model, Optim
from spikewise.engine.loop import train
from spikewise.paper import Options, degradation, reproduce
from spikewise.paper.degradation import Family
from spikewise.recipes import RECIPES

SMALL = Config(
    recipe="degradation",
    data=Data(name="digits", train_samples=256, test_samples=64),
    model=Model(name="sew_resnet20", T=2, width=0.25),
    optim=Optim(epochs=1, batch=128, lr_batch=128),
)
NAME = "degradation-cifar10"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(RECIPES, "degradation", lambda: SMALL)
    monkeypatch.setattr(degradation, "DEPTHS", (20,))
    monkeypatch.setattr(degradation, "FAMILIES", (Family("Plain", "plain", {}, (20,)), Family("MS", "ms", {}, (20,))))
    whole = degradation.grid
    monkeypatch.setattr(degradation, "grid", lambda name, o: whole("digits", o))


def page(out, **options):
    ((result, _),) = reproduce(NAME, Options(**options), out)
    return result


def test_finished_runs_are_not_made_again_and_pages_come_from_their_lines_alone(tmp_path):
    first = page(tmp_path)
    lines = (tmp_path / f"{NAME}.jsonl").read_text()
    assert [json.loads(line)["test_total"] for line in lines.splitlines()] == [359, 359], "not the 64 seen while training"
    shutil.rmtree(tmp_path / "runs")
    assert page(tmp_path).rows == first.rows
    assert (tmp_path / f"{NAME}.jsonl").read_text() == lines
    assert not (tmp_path / "runs").exists()

    both = page(tmp_path, seed=1)
    assert [row[2] for row in both.rows[1:]] == [2, 2]
    assert "±" in both.rows[1][3]
    assert page(tmp_path, from_ledger=True).rows == both.rows


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    longer = dataclasses.replace(SMALL, optim=dataclasses.replace(SMALL.optim, epochs=2))
    monkeypatch.setitem(RECIPES, "degradation", lambda: longer)
    whole = page(tmp_path / "whole")
    config = dataclasses.replace(longer, model=dataclasses.replace(longer.model, name="plain_resnet20"))
    train(config, tmp_path / "cut" / "runs" / NAME / "plain_resnet20-ADD-0", quiet=True, stop_epoch=1)
    assert page(tmp_path / "cut").rows == whole.rows


def test_a_ledger_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no run of this grid"):
        page(tmp_path, from_ledger=True)
