"""The report of runs: one file, every section, nothing asked of a network, and words in the place of what is not there."""

import base64
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikewise.cli.main import bind_with_config, main
from spikewise.config import Config, Data, Model, Optim, Retention
from spikewise.engine.build import load_data
from spikewise.engine.evaluate import Answers
from spikewise.engine.loop import train
from spikewise.paper.published_logs import log_of_recipe, read_published_logs
from spikewise.paper.runs import train_command
from spikewise.recipes import RECIPES
from spikewise.report import html, measure, report
from spikewise.report.charts import MAX_POINTS, thin
from spikewise.report.measure import Scope
from spikewise.report.pictures import choose_samples, to_rgb
from spikewise.report.record import read_runs
from spikewise.report.report import SECTIONS, make_page, write_report

OLD = Path(__file__).parents[1] / "old_files"
FIELDS = ("src", "href", "action", "data", "poster", "srcset", "xlink:href")
VOID = {"meta", "link", "img", "br", "input", "line", "th", "td", "tr", "li", "p", "thead", "tbody", "caption"}
TINY = Config(
    recipe="digits",
    data=Data(name="digits"),
    model=Model(name="sew_7b", neuron="IF", num_blocks=2, T=2),
    optim=Optim(lr=0.1, lr_batch=128, batch=128, epochs=2, warmup_epochs=0.5),
    retention=Retention(probe_every_steps=5),
)
EVENTS = Config(
    recipe="digits-events",
    data=Data(name="digits-events", num_frames=3, test_samples=40, train_samples=64),
    model=Model(name="sew_7b", neuron="IF", num_blocks=1),
    optim=Optim(lr=0.1, lr_batch=32, batch=32, epochs=1),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, one that was stopped after the first of two epochs, and one of events."""
    folder = tmp_path_factory.mktemp("runs")
    train(TINY, folder / "finished", quiet=True)
    train(TINY, folder / "stopped", quiet=True, stop_epoch=1)
    train(EVENTS, folder / "events", quiet=True)
    return folder


@pytest.fixture(autouse=True)
def _no_script(monkeypatch, request):
    """Most tests need no chart drawn: the page goes without Plotly's 5 MB."""
    if "plotly" not in request.keywords:
        for module in (html, report):
            monkeypatch.setattr(module, "plotly_js", lambda: "")


class Page(HTMLParser):
    """What a page holds: sections, charts, addresses, words, and whether its elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.addresses, self.labels, self.headings = [], [], [], []
        self.words, self.open, self.charts, self.ids = "", [], {}, []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [value for name, value in attrs.items() if name in FIELDS]
        self.addresses += re.findall(r"url\((.*?)\)", attrs.get("style") or "")
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "section":
            self.sections.append(attrs["id"])
        if tag not in VOID:
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", {"type": "application/json"}):
            figure = next(attrs["id"] for name, attrs in reversed(self.open) if name == "figure")
            self.charts[figure] = json.loads(data)
        elif self.open and self.open[-1][0] not in ("script", "style"):
            self.words += data + " "


def page_of(*paths, **scope):
    return Page(make_page(read_runs(tuple(map(Path, paths)), Scope(**scope))))


def require_whole(page):
    assert page.sections == list(SECTIONS)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert len(page.ids) == len(set(page.ids))
    assert "nan" not in page.words.split()


def test_a_finished_run_has_every_section_and_all_its_charts(runs):
    page = page_of(runs / "finished")
    require_whole(page)
    lines = [json.loads(line) for line in (runs / "finished" / "metrics.jsonl").read_text().splitlines()]
    loss = {trace["name"]: trace["y"] for trace in page.charts["curve-loss"]["data"]}
    assert loss["test"] == pytest.approx([line["test_loss"] for line in lines], rel=1e-5)
    confusion = np.array(page.charts["confusion-1"]["data"][0]["z"])
    assert (confusion.sum(), np.trace(confusion)) == (lines[-1]["test_total"], lines[-1]["test_correct"])
    rates = page.charts["rates-branch-1"]["data"][0]
    assert np.array(rates["z"]).shape == (2, 2)  # blocks, time steps
    probes = [json.loads(line) for line in (runs / "finished" / "probe.jsonl").read_text().splitlines()]
    assert page.charts["training-gradient-1"]["data"][0]["x"] == [str(line["step"]) for line in probes]
    assert {"gradient-norm", "accuracy-1", "energy-1", "throughput", "wait"} <= set(page.charts)
    assert page.words.count("sample ") >= 12
    assert "spikewise train digits" in page.words


def test_two_runs_are_beside_each_other_and_their_differences_named(runs):
    page = page_of(runs / "finished", runs / "events")
    require_whole(page)
    assert {"confusion-1", "confusion-2", "rates-output-1", "rates-output-2"} <= set(page.charts)
    assert {trace["name"] for trace in page.charts["throughput"]["data"]} == {"finished", "events"}
    differing = page.words.partition("What differs between the runs")[2].partition("What differs from")[0]
    assert {"data.name", "optim.batch", "model.num_blocks"} <= set(differing.split())
    assert "optim.lr " not in differing


def test_a_run_in_the_middle_says_where_it_is_and_how_to_go_on(runs):
    page = page_of(runs / "stopped")
    require_whole(page)
    assert "1 of 2 epochs are done" in page.words
    assert f"spikewise train --resume {runs / 'stopped'}" in page.words


def test_frames_of_events_are_there_to_be_played(runs):
    text = make_page(read_runs((runs / "events",), Scope()))
    require_whole(Page(text))
    assert text.count('data-frames="3"') == 12
    assert 'type="range" min="1" max="3"' in text


def test_samples_are_named_by_their_number_in_the_whole_split(runs, monkeypatch):
    monkeypatch.setattr(measure, "spread_over_classes", lambda labels, samples: np.arange(len(labels))[-samples:])
    record = read_runs((runs / "finished",), Scope(samples=30))[0]
    test = load_data(TINY, "test")
    for picture in record.measured.pictures:
        assert test.class_names[test.labels[int(picture.source)]] == picture.label
        pixels = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))).convert("L")
        assert np.array_equal(np.asarray(pixels), (255 * test.sample(int(picture.source))[0]).round())


def test_what_a_run_does_not_have_is_said_in_its_place(runs, tmp_path):
    page = page_of(runs / "events")
    assert "Over training: not recorded" in page.words
    assert "no published curve" in page.words
    page = page_of(runs / "finished", samples=0)
    require_whole(page)
    assert page.words.count("--no-data") >= 6
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(runs / "finished" / "config.json", begun)
    page = page_of(begun)
    require_whole(page)
    for words in ("No epoch is finished yet", "has no checkpoint", "no timing.jsonl", "environment.json is missing"):
        assert words in page.words


def test_photographs_are_shown_and_their_absence_is_said(tmp_path):
    for split, name, number in itertools.product(("train", "val"), ("red", "blue"), range(4)):
        file = tmp_path / "photos" / split / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), name).save(file)
    data = Data(name="image-folder", root=str(tmp_path / "photos"), size=32)
    model = Model(name="sew_resnet20", T=1)
    train(Config(data=data, model=model, optim=Optim(epochs=1, batch=4)), tmp_path / "run", quiet=True)
    record = read_runs((tmp_path / "run",), Scope(samples=6))[0]
    assert len(record.measured.answers.labels) == 6 < record.measured.total
    for picture in record.measured.pictures:  # normalized for the network, and back for the reader
        content = base64.b64decode(picture.uri.partition(",")[2])
        assert Image.open(io.BytesIO(content)).getpixel((9, 9)) == ((255, 0, 0) if picture.label == "red" else (0, 0, 255))
        assert picture.source.endswith(".png")
    shutil.rmtree(tmp_path / "photos")
    page = page_of(tmp_path / "run")
    require_whole(page)
    assert page.words.count("The network was not looked at") >= 6


def test_relu_networks_have_a_report_too(tmp_path):
    config = Config(model=Model(name="resnet20"), data=Data(train_samples=64, test_samples=20), optim=Optim(epochs=1, batch=32))
    train(config, tmp_path / "relu", quiet=True)
    page = page_of(tmp_path / "relu")
    require_whole(page)
    assert page.words.count("ReLU network") >= 4
    assert "--from" in page.words  # begun in Python: there is no recipe of that name


@pytest.mark.parametrize("name", ["run_finished", "run_killed"])
def test_old_runs_have_a_report(name, tmp_path):
    shutil.copytree(OLD / name, tmp_path / name, symlinks=True)
    require_whole(page_of(tmp_path / name))


def test_the_published_curve_of_the_same_recipe_lies_behind(runs, tmp_path):
    run = tmp_path / "gesture"
    shutil.copytree(runs / "events", run, symlinks=True)
    content = json.loads((run / "config.json").read_text()) | {"recipe": "dvs-gesture/sew-add-zero-init"}
    (run / "config.json").write_text(json.dumps(content))
    traces = page_of(run, samples=0).charts["curve-accuracy"]["data"]
    published = [epoch["test_acc1"] for epoch in read_published_logs()["dvsgesture-7b-sew-add"]]
    behind = next(trace for trace in traces if trace["name"].endswith("sew-add: test"))
    assert behind["y"] == pytest.approx(published, rel=1e-5)
    assert behind["x"] == list(range(1, len(published) + 1))
    assert traces.index(behind) < [trace["name"] for trace in traces].index("test")


def test_every_published_log_belongs_to_a_recipe():
    assert {log_of_recipe(recipe) for recipe in RECIPES} - {None} == set(read_published_logs())


@pytest.mark.parametrize(
    "words",
    [
        "images --seed 3 --data.flip --data.size 24 --optim.label-smoothing 0.0 --optim.no-nesterov --memory.no-packing",
        "images --data.crop-scale 0.3,1 --data.mean 0.5,0.5,0.5 --data.size 96,128 --freeze stem",
        "dvs-gesture/sew-add-zero-init --data.num-frames 14 --data.crop 0,0,64,64 --model.no-detach-reset",
        "dvs-gesture/plain --data.split-by duration --data.time-window 10ms --data.filter hot_pixels=500,background=10ms",
        "cifar10-dvs/sew-add --data.representation time_surface --data.tau 20ms",
    ],
)
def test_the_command_of_a_run_makes_the_same_config(words):
    """Through the command line's own parser: what it makes of the words is the config they were made of."""
    config = bind_with_config("train", words.split(), ()).keywords["config"]
    again = train_command(config, config.optim.epochs).split()
    assert bind_with_config("train", again[2:], ()).keywords["config"] == config


def test_thinned_curves_keep_their_ends_and_every_peak():
    xs = list(range(1, 3001))
    ys = [float(i % 7) for i in xs]
    ys[1234], ys[2345], ys[500] = 99.0, -99.0, None
    thin_xs, thin_ys = thin(xs, ys)
    assert len(thin_xs) <= MAX_POINTS
    assert (thin_xs[0], thin_xs[-1]) == (1, 3000)
    assert (thin_xs[thin_ys.index(99.0)], thin_xs[thin_ys.index(-99.0)]) == (1235, 2346)
    assert thin_xs == sorted(thin_xs)
    assert all(ys[x - 1] == y for x, y in zip(thin_xs, thin_ys, strict=True))
    assert thin(xs[:MAX_POINTS], ys[:MAX_POINTS]) == (xs[:MAX_POINTS], ys[:MAX_POINTS])
    assert len(thin(xs, [None] * 3000)[0]) <= MAX_POINTS


def make_long_run(folder, epochs=3000):
    """A run of many epochs, made by hand."""
    folder.mkdir()
    config = TINY.optim.__class__(epochs=epochs)
    (folder / "config.json").write_text(json.dumps({"recipe": "digits", "optim": {"epochs": epochs}}))
    assert config.epochs == epochs
    with (folder / "metrics.jsonl").open("w") as metrics, (folder / "timing.jsonl").open("w") as timing:
        for epoch in range(1, epochs + 1):
            wave = np.sin(epoch / 9) / epoch
            accuracy = {"train_accuracy": 0.9 + wave / 10, "test_accuracy": 0.8 + wave / 10}
            rest = {"train_loss": 1 + wave, "test_loss": 1.1 - wave, "learning_rate": 0.1, "test_correct": 288}
            metrics.write(json.dumps({"epoch": epoch, "step": 9 * epoch, "test_total": 360, **accuracy, **rest}) + "\n")
            line = {"epoch": epoch, "seconds": 2.5, "samples_per_second": 500 + wave, "data_wait_s": 0.1}
            timing.write(json.dumps(line) + "\n")
    return folder


@pytest.mark.plotly
def test_a_run_of_3000_epochs_stays_below_8_megabytes_and_says_that_it_is_thinned(tmp_path):
    pytest.importorskip("plotly", reason="the page carries Plotly's script")
    written = write_report([make_long_run(tmp_path / "long")])
    assert written.file == tmp_path / "long" / "report.html"
    assert written.bytes == written.file.stat().st_size < 8e6
    page = Page(written.file.read_text())
    require_whole(page)
    assert "Of 3,000 points a curve shows 600 at most" in page.words


def test_charts_are_those_that_plotly_knows(runs):
    objects = pytest.importorskip("plotly.graph_objects", reason="Plotly's own check of what it is given")
    for chart in page_of(runs / "finished", runs / "events").charts.values():
        text = re.sub(r"var\(--[\w-]+\)", "#123456", json.dumps(chart))
        objects.Figure(json.loads(text))


def test_names_can_break_neither_the_page_nor_its_scripts(runs, tmp_path):
    evil = tmp_path / "</script><img src=http:evil>&'\"`"[:60].replace("/", "_")
    shutil.copytree(runs / "finished", evil, symlinks=True)
    page = page_of(evil, runs / "finished", samples=0)
    require_whole(page)
    assert evil.name in page.words


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "config.json"),
        ("metrics.jsonl", "{}\n", "metrics.jsonl is damaged: line 1 has no number 'epoch'"),
        ("metrics.jsonl", "nonsense\n", "metrics.jsonl is damaged"),
        ("timing.jsonl", '{"epoch": 1}\n', "timing.jsonl is damaged: line 1 has no number 'seconds'"),
        ("probe.jsonl", "[]\n", "probe.jsonl is damaged: line 1 has no number 'step'"),
        ("checkpoints/last/model.safetensors", "x", "is damaged"),
    ],
)
def test_a_damaged_run_is_one_line(file, content, message, runs, tmp_path, capsys):
    shutil.copytree(runs / "finished", tmp_path / "run", symlinks=True)
    (tmp_path / "run" / file).write_text(content)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{}/finished", "{}/finished"], "is given twice"),
        (["{}/none"], "is no run folder"),
        (["{}/finished"] * 9, "1 to 8 runs, given 9"),
        (["{}/finished", "--out", "{}/none/page.html"], "there is no folder"),
        (["{}/finished", "--samples", "0"], "samples"),
    ],
)
def test_mistakes_are_one_line(args, message, runs, capsys):
    assert main(["report", *(arg.format(runs) for arg in args)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_the_command_writes_beside_the_run_and_says_what(runs, capsys):
    assert main(["report", str(runs / "finished"), "--no-data", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    file = runs / "finished" / "report.html"
    assert told == {
        "file": str(file),
        "bytes": file.stat().st_size,
        "runs": [str(runs / "finished")],
        "sections": list(SECTIONS),
    }
    file.unlink()


def test_without_plotly_it_is_told_what_to_install(runs, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    assert main(["report", str(runs / "finished")]) == 2
    assert "pip install 'spikewise[report]'" in capsys.readouterr().err


def test_mistakes_come_first_then_one_of_each_class():
    answers = Answers(
        class_names=("a", "b"),
        labels=[0, 0, 1, 1, 0, 1],
        predicted=[0, 1, 0, 1, 0, 1],
        probability=[0.9, 0.6, 0.8, 0.7, 0.5, 0.5],
    )
    assert choose_samples(answers, 6) == [2, 1, 0, 3, 4, 5]
    assert choose_samples(answers, 4) == [2, 1, 0, 3]


def test_pictures_are_the_samples():
    image = np.array([[[0.0, 1.0], [0.5, 2.0]]], np.float32)
    assert to_rgb(image, None)[0, :, :, 1].tolist() == [[0, 255], [128, 255]]
    frames = np.zeros((3, 2, 4, 4), np.float32)
    frames[1, 0, 2, 3] = 1  # an OFF event is blue, no event white
    colours = to_rgb(frames, None)
    assert colours[1, 2, 3].tolist() == [0, 114, 178]
    assert (colours != 255).any(-1).sum() == 1
