"""Figures and tables of what is trained: numbers beside the paper's and the logs', resumed runs, checks on synthetic data."""

import dataclasses
import json

import pytest
import torch

from spikewise.cli.main import main
from spikewise.config import Config, Data, Model, Optim
from spikewise.models import build_model
from spikewise.models.weights import to_published
from spikewise.paper import TRAINED, UNTRAINED, Options, Result, rates, runs, synthetic_data
from spikewise.paper.catalogue import GRIDS
from spikewise.paper.compare import claim_near_paper, compare_run, compare_with_paper, page_rows, plot_curves, with_cited_rows
from spikewise.paper.experiments import DVS_GESTURE, FIG4, TAB2, TAB3, TAB5, TEMPORAL_DELETE, Experiment
from spikewise.paper.page import format_duration
from spikewise.paper.published_logs import read_published_logs
from spikewise.paper.runs import ExperimentRun, run_experiment, train_command
from spikewise.recipes import RECIPES

LOGS = read_published_logs()
SMALL = Config(
    recipe="small",
    data=Data(name="digits"),
    model=Model(name="sew_7b", neuron="IF", num_blocks=2, T=2),
    optim=Optim(epochs=3, batch=256, lr_batch=256, precision="float32"),
)
SMALL_EXPERIMENT = Experiment("Small", "small", 90.0, "dvsgesture-7b-sew-add")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """A recipe that trains in a second, to be reproduced as any other; synthetic data with one recording of each class."""
    monkeypatch.setitem(RECIPES, "small", lambda: SMALL)
    monkeypatch.setitem(
        TRAINED, "small", lambda o: compare_with_paper("small", "Small", (SMALL_EXPERIMENT,), o, claim_near_paper)
    )
    monkeypatch.setattr(synthetic_data, "SAMPLES_PER_CLASS", {"train": 1, "test": 1})


def finished(accuracies, epochs, experiment=DVS_GESTURE[0], **overrides):
    """A run of an experiment that reached these accuracies, of 100 samples."""
    numbers = {"train_accuracy": 0.5, "test_total": 100}
    lines = [
        {"epoch": i, "train_loss": 1 / i, "test_accuracy": accuracy, "test_correct5": 99 - i} | numbers
        for i, accuracy in enumerate(accuracies, 1)
    ]
    options = {"run": "runs/x", "seconds": 7200.0, "command": "spikewise train x", "machine": "a GPU"} | overrides
    return ExperimentRun(experiment=experiment, lines=lines, epochs=epochs, **options)


# Numbers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "gap", "gap_to"),
    [
        (finished([0.25, 0.5, 0.375], 192), 37.5 - LOGS["dvsgesture-7b-sew-add"][2]["test_acc1"], "the log in epoch 3"),
        (finished([0.9] * 100 + [0.98] + [0.9] * 91, 192), 98 - 97.92, "best epochs"),
        (
            finished([0.6281], 320, FIG4[0], run=None),  # published weights
            62.81 - LOGS["sew_resnet18"][-1]["test_acc1"],
            "the log's last epoch",
        ),
        (finished([0.5], 192, DVS_GESTURE[1]), None, ""),  # unfinished, without a log
    ],
    ids=["same epoch of the log", "best epoch of a complete run", "last epoch of the log", "nothing"],
)
def test_a_run_is_compared_with(run, gap, gap_to):
    row = compare_run(run, LOGS.get(run.experiment.log, []))
    assert row["difference"] == (None if gap is None else pytest.approx(gap))
    assert row["difference of"] == gap_to


def test_numbers_of_run_and_log():
    log = LOGS["dvsgesture-7b-sew-add"]
    row = compare_run(finished([0.25, 0.5, 0.375], 192), log)
    assert (row["best"], row["best epoch"], row["final"], row["mean of the last 10"]) == (50.0, 2, 37.5, 37.5)
    assert (row["epochs"], row["epochs of the recipe"]) == (3, 192)
    assert row["log, best"] == pytest.approx(97.917, abs=1e-3)
    assert row["log, final"] == log[-1]["test_acc1"]
    assert row["log, mean of the last 10"] == pytest.approx(sum(e["test_acc1"] for e in log[-10:]) / 10)


def test_the_page_has_no_difference_where_there_is_nothing_to_compare_with():
    head, row = page_rows([compare_run(finished([0.5], 192, DVS_GESTURE[1]), [])])
    assert head[5] == "difference"
    assert row[:6] == ["SEW IAND", 16, "95.49", "-", "50.00 / 50.00 / 50.00 (best in epoch 1)", ""]


def test_the_page_tells_paper_log_ours_difference_command_machine_time():
    rows = page_rows([compare_run(finished([0.5, 0.25], 320, TAB2[0]), LOGS["sew_resnet18"])])
    page = dict(zip(*rows, strict=True))
    assert page["paper, best epoch, %"] == "63.18"
    assert page["published log, %: best / final / mean of the last 10"] == "63.18 / 62.81 / 62.96"
    assert page["ours, %: best / final / mean of the last 10"] == "50.00 / 25.00 / 37.50 (best in epoch 1)"
    assert page["difference"] == f"{25 - LOGS['sew_resnet18'][1]['test_acc1']:+.2f} (the log in epoch 2)"
    assert page["first five, best, %: paper / ours"] == "84.53 / 98.00"
    assert [page[key] for key in ("epochs", "machine", "time")] == ["2 of 320", "a GPU", "2.0 h"]
    assert page["command"] == "`spikewise train x`"
    assert [format_duration(seconds) for seconds in (5, 900)] == ["5 s", "15.0 min"]


def test_claims_hold_within_a_point():
    assert not claim_near_paper([finished([0.9], 1)])[0].holds
    assert claim_near_paper([finished([0.975, 0.1], 2)])[0].holds
    assert claim_near_paper([finished([0.1], 1, TEMPORAL_DELETE[1])]) == []  # the paper has a curve of it, no number


def test_curves_of_logs_end_where_ours_do():
    figure = plot_curves([finished([0.5, 0.6], 192), finished([0.5], 192, TEMPORAL_DELETE[1])], LOGS)
    loss = figure.axes[0]
    labels = [line.get_label() for line in loss.lines]
    assert labels == ["SEW ADD", "SEW ADD, published log", "SEW ADD, no RTD"]
    assert [list(line.get_xdata()) for line in loss.lines] == [[1, 2], [1, 2], [1]]
    assert [axis.get_title() for axis in figure.axes] == ["train loss", "train accuracy, %", "test accuracy, %"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels


def test_every_experiment_has_a_recipe_and_the_logs_it_names():
    for experiment in (*TAB2, *TAB3, *TAB5, *FIG4, *DVS_GESTURE, *TEMPORAL_DELETE):
        assert experiment.recipe in RECIPES
        assert experiment.log is None or experiment.log in LOGS
    gesture = [RECIPES[experiment.recipe]() for experiment in DVS_GESTURE]
    assert [config.optim.lr for config in gesture] == [0.001, 0.063, 0.005, 0.1, 0.03]  # Tab. 7
    settings = [(c.optim.epochs, c.optim.batch, c.optim.step_epochs, c.optim.step_gamma, c.data.num_frames) for c in gesture]
    assert set(settings) == {(192, 16, 64, 0.1, 16)}  # Tab. 6


# Runs --------------------------------------------------------------------------------------------------------------------


def page_of(folder, name):
    page = json.loads((folder / f"{name}.json").read_text())
    return page, [dict(zip(page["columns"], row, strict=True)) for row in page["rows"]]


def test_more_epochs_resume_where_fewer_ended(tmp_path, capsys):
    assert main(["reproduce", "small", "--max-epochs", "1", "--out", str(tmp_path)]) == 0
    page, (first,) = page_of(tmp_path, "small")
    assert (first["epochs"], first["epochs of the recipe"], page["claims"]) == (1, 3, [])
    assert first["command"] == "spikewise train small --stop-epoch 1"
    assert first["difference of"] == "the log in epoch 1"
    assert "compared at the same epoch" in capsys.readouterr().out
    run = tmp_path / "runs" / "small-0"
    line = (run / "metrics.jsonl").read_text()
    assert main(["reproduce", "small", "--out", str(tmp_path)]) == 0
    assert (run / "metrics.jsonl").read_text().startswith(line)
    page, (whole,) = page_of(tmp_path, "small")
    assert (whole["epochs"], whole["command"], whole["difference of"]) == (3, "spikewise train small", "best epochs")
    assert [claim["statement"] for claim in page["claims"]] == ["Small: 90.00 %"]
    unbroken = run_experiment(SMALL_EXPERIMENT, Options(runs=tmp_path / "unbroken"))
    assert [entry["test_loss"] for entry in unbroken.lines] == [
        json.loads(entry)["test_loss"] for entry in (run / "metrics.jsonl").read_text().splitlines()
    ]
    before = (run / "metrics.jsonl").stat().st_mtime_ns
    assert main(["reproduce", "small", "--out", str(tmp_path)]) == 0  # finished: the page is made anew, nothing is trained
    assert (run / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_run_with_other_options_is_not_taken_for_this_one(tmp_path):
    o = Options(runs=tmp_path, max_epochs=1)
    run_experiment(SMALL_EXPERIMENT, o)
    with pytest.raises(ValueError, match=r"small-0 was trained otherwise \(optim.batch 256 -> 128\); ask for the same"):
        run_experiment(SMALL_EXPERIMENT, dataclasses.replace(o, batch_size=128))
    assert run_experiment(SMALL_EXPERIMENT, dataclasses.replace(o, seed=1)).run == tmp_path / "small-1"


def test_the_command_of_a_run_says_what_is_not_as_published():
    config = runs.build_config(TEMPORAL_DELETE[1], Options(seed=3, device="cpu", data_root="/data", batch_size=8))
    assert train_command(config, 10) == (
        "spikewise train dvs-gesture/sew-add-zero-init --seed 3 --data.temporal-delete 0 --optim.batch 8 "
        "--optim.precision bfloat16 --stop-epoch 10"
    )


# Checks and published weights --------------------------------------------------------------------------------------------


def test_a_check_runs_everything_on_synthetic_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "CHECK_EPOCHS", 1)
    assert main(["reproduce", "tab5", "--check", "--out", str(tmp_path)]) == 0
    assert "A check on synthetic data" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"check"}  # neither pages nor runs that could be taken for real
    numbers, rows = page_of(tmp_path / "check", "tab5")
    assert numbers["command"] == "spikewise reproduce tab5 --check"
    assert (rows[0]["network"], rows[0]["epochs"], rows[0]["paper (best epoch)"]) == ("SEW ADD", 1, 97.92)
    assert [(row["network"], row["T"]) for row in rows] == [(other.name, other.steps) for other in TAB5]
    assert [row["T"] for row in rows] == [16, 20, 40, 60]
    assert numbers["claims"] == []
    page = (tmp_path / "check" / "tab5.md").read_text()
    assert "| command | machine | time |" in page
    assert "its numbers mean nothing" in page
    assert {file.suffix for file in (tmp_path / "check").iterdir()} == {".json", ".md", ".svg", ".png"}


def published_weights(folder):
    """Random weights in the format of a published file."""
    net = build_model("sew_resnet18", num_classes=1000)
    torch.save({"model": to_published(net), "epoch": 319}, folder / FIG4[0].weights)
    return folder


def test_published_weights_are_evaluated_in_place_of_training(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_data, "SAMPLES_PER_CLASS", {"train": 1, "test": 2})
    o = Options(weights=published_weights(tmp_path), check=True)
    result = compare_with_paper("tab", "Tab.", FIG4[:1], o, claim_near_paper)
    row = dict(zip(*result.rows, strict=True))
    assert (row["epochs"], row["difference of"]) == (1, "the log's last epoch")
    assert row["command"] == "evaluated, not trained: sew18_checkpoint_319.pth"
    assert (result.figures, result.claims) == ({}, [])
    assert "nothing is trained" in result.text
    with pytest.raises(FileNotFoundError, match=r"sew34_checkpoint_319.pth does not exist"):
        compare_with_paper("tab", "Tab.", FIG4[1:2], o, claim_near_paper)
    with pytest.raises(ValueError, match="no weights of SEW AND were published; leave out --weights"):
        run_experiment(DVS_GESTURE[-1], o)
    page = rates.rates_page("fig", "Fig.", FIG4[:1], o, lambda _: [], ("branch",))
    assert [row[1] for row in page.rows[1:]][:2] == ["layer1.0", "layer1.1"]
    assert {row[5] for row in page.rows[1:]} == {"published weights"}
    assert page.figures["fig"].axes[0].get_ylabel() == "firing rate of $A^l$"


def test_rates_of_trained_networks(tmp_path):
    result = rates.rates_page(
        "fig", "Fig.", (SMALL_EXPERIMENT,), Options(runs=tmp_path, max_epochs=1), lambda _: [], ("branch", "output")
    )
    assert [row[:2] for row in result.rows[1:]] == [["Small", "stage1.blocks.0"], ["Small", "stage1.blocks.1"]]
    assert all(0 <= row[2] <= 1 and row[5] == "1 of 3" for row in result.rows[1:])
    assert result.table[0] == result.rows[0][:-1]


@pytest.mark.slow
def test_a_check_of_everything(tmp_path, monkeypatch):
    monkeypatch.delitem(TRAINED, "small")
    assert main(["reproduce", "trained", "--check", "--out", str(tmp_path)]) == 0
    assert {file.stem for file in (tmp_path / "check").iterdir()} == set(TRAINED)


# Mistakes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["tab9"], "nothing named 'tab9' to reproduce; did you mean"),
        (["fig5", "--check"], "--check changes nothing in fig5, it is for trained, tab2, tab3"),
        (["fig3", "--size", "64"], "--size changes nothing in fig3, it is for all, fig5, fig6, fig7, fig8; leave it out"),
        (["all", "--max-epochs", "2"], "--max-epochs changes nothing in all, it is for trained, tab2"),
        (["tab4", "--images", "x"], "--images changes nothing in tab4, it is for all, fig5"),
        (["tab4", "--weights", "x"], "--weights changes nothing in tab4, it is for tab2, tab3, fig4; leave it out"),
        (["tab2", "--weights", "x", "--max-epochs", "1"], "--weights evaluates and trains nothing; leave out --max-epochs"),
        (["tab4", "--check", "--data.root", "x"], "--check makes its own data; leave out --data.root"),
        (["tab4", "--max-epochs", "0"], "max_epochs=0; use 1 epoch or more"),
        (["tab4", "--batch-size", "1"], "batch_size=1; batch norm needs 2 or more samples"),
        (["tab4", "--data.root", "nowhere"], "nowhere"),
        (["fig5", "--size", "8"], "size=8; 152 layers halve an image five times: use 32 or more pixels"),
        (["fig5", "--batch", "1"], "batch=1; batch norm needs 2 or more images"),
        (["fig5", "--seed", "-1"], "seed=-1; use 0 or more"),
    ],
)
def test_mistakes_are_a_line(options, message, capsys, tmp_path):
    assert main(["reproduce", *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_list_says_what_needs_data(capsys):
    assert main(["reproduce"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == [*UNTRAINED, *TRAINED, *GRIDS]
    assert all(line.endswith("(trained: needs the data)") == (name not in UNTRAINED) for name, line in lines.items())


def test_rows_of_others_fit_the_table():
    rows = page_rows([compare_run(finished([0.5], 1), [])])
    result = with_cited_rows(Result("tab", "Tab.", "", rows, table=rows), TAB3)
    assert {len(row) for row in result.table} == {len(rows[0])}
    assert result.table[5][:3] == ["ResNet-34 converted (Han et al.)", 4096, "69.89"]
