"""The page of conversions, and table rows that are converted: every cell once, pages from lines alone."""

import dataclasses
import json
import shutil

import pytest

from spikewise.config import Config, Data, Model, Optim
from spikewise.paper import Options, conversion, reproduce
from spikewise.paper.compare import claim_near_paper, compare_run, compare_with_paper
from spikewise.paper.experiments import TAB3, TAB5, Conversion, Experiment
from spikewise.paper.runs import run_experiment
from spikewise.recipes import RECIPES

SMALL = Config(
    recipe="digits",
    data=Data(name="digits", train_samples=128),
    model=Model(name="sew_resnet20", width=0.25),
    optim=Optim(epochs=1, batch=64, lr_batch=64),
)
NAME = "conversion-digits"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(RECIPES, "digits", lambda: SMALL)
    ann = dataclasses.replace(SMALL, recipe="ann", model=Model(name="resnet20", width=0.25))
    hybrid = Model(name="converted_resnet20", neuron="STDB", v_reset=None, width=0.25)
    monkeypatch.setitem(RECIPES, "ann", lambda: ann)
    monkeypatch.setitem(RECIPES, "hybrid", lambda: dataclasses.replace(SMALL, recipe="hybrid", model=hybrid))
    monkeypatch.setattr(conversion, "STEPS", (4, 6))
    monkeypatch.setattr(conversion, "TEST_SAMPLES", {"digits": 32})
    monkeypatch.setattr(conversion, "HYBRID_STEPS", 4)
    monkeypatch.setattr(conversion, "HYBRID_EPOCHS", 1)
    monkeypatch.setattr(conversion, "CONVERSIONS", {"percentile 99.9": Conversion("percentile", samples=16)})


def page(out, **options):
    ((result, _),) = reproduce(NAME, Options(**options), out)
    return result


def test_every_cell_is_a_line_that_is_made_once_and_pages_come_from_lines_alone(tmp_path):
    first = page(tmp_path)
    lines = (tmp_path / f"{NAME}.jsonl").read_text()
    cells = [json.loads(line) for line in lines.splitlines()]
    assert [cell.get("conversion", {}).get("method") for cell in cells] == [None, None, "percentile", None]
    assert set(cells[2]["accuracy"]) == {"4", "6"}
    assert cells[2]["test_total"] == 32
    assert [row[0] for row in first.rows[1:]] == [
        "ReLU network",
        "SEW ADD, trained directly",
        "percentile 99.9, then STDB for 1 epochs",
        "converted: percentile 99.9",
    ]
    assert len(first.claims) == 2
    shutil.rmtree(tmp_path / "runs")
    assert page(tmp_path).rows == first.rows
    assert page(tmp_path, from_ledger=True).rows == first.rows
    assert (tmp_path / f"{NAME}.jsonl").read_text() == lines


def test_a_ledger_without_cells_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no cell of this grid"):
        page(tmp_path, from_ledger=True)


def test_a_row_is_converted_or_converted_and_trained_on(tmp_path):
    o = Options(runs=tmp_path)
    how = Conversion("max", samples=16)
    converted = Experiment("converted", "ann", 50.0, T=6, conversion=how)
    run = run_experiment(converted, o)
    assert (run.is_complete, run.done, len(run.lines)) == (True, 1, 1)
    assert run.command.endswith("spikewise convert-ann RUN OUT --method max --samples 16 --T 6")
    row = compare_run(run, [])
    assert (row["T"], row["difference of"]) == (6, "the converted last epoch")
    assert claim_near_paper([run])[0].evidence.endswith("(converted)")
    hybrid = run_experiment(converted._replace(name="hybrid", then="hybrid", T=4), o)
    assert hybrid.is_complete
    assert "convert-ann" in hybrid.command
    assert "--weights" in hybrid.command
    result = compare_with_paper("t", "T", (converted,), o, claim_near_paper)
    assert len(result.claims) == 1


def test_every_row_of_tables_3_and_5_says_what_it_does():
    assert [experiment.steps for experiment in TAB3] == [4, 6, 6, 4096, 2000, 250, 4, 6, 350, 4]
    assert [experiment.steps for experiment in TAB5] == [16, 20, 40, 60]
    assert [experiment.name for experiment in TAB3 if experiment.conversion] == [
        "ResNet-34 converted (Han et al.)",
        "ResNet-34 converted (Sengupta et al.)",
        "ResNet-34 converted and trained (Rathi et al.)",
        "ResNet-50 converted (Hu et al.)",
    ]
    for experiment in (*TAB3, *TAB5):
        assert {experiment.recipe, experiment.then or experiment.recipe} <= set(RECIPES)
        model = RECIPES[experiment.recipe]().model.name
        assert (model in ("resnet34", "resnet50")) == (experiment.conversion is not None)
