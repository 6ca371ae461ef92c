"""Lines every minute, where no terminal shows a bar."""

import dataclasses
import re
import sys

import pytest
from PIL import Image

import spikewise as sw
from spikewise import progress
from spikewise.cli.main import main
from spikewise.data.fetch.prepare import progress_bar
from spikewise.wording import count, did_you_mean, option, options_as_flags

TINY = ["--model.name", "sew_7b", "--model.num-blocks", "2", "--model.T", "2", "--optim.epochs", "2", "--optim.batch", "720"]
TINY += ["--optim.warmup-epochs", "0", "--optim.ema-decay", "0"]


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def test_a_line_a_minute_with_the_time_left(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.MinuteLines(said.append, total=100, done=10)
    for second in range(0, 181, 10):
        now[0] = float(second)
        lines.at(10 + second / 4, lambda second=second: f"at {second} s")
    assert said == ["at 60 s, 5.0 min left", "at 120 s, 4.0 min left", "at 180 s, 3.0 min left"]


def test_nothing_is_said_without_a_place_to_say_it(always):
    progress.MinuteLines(None).at(1, lambda: pytest.fail("not called"))


def test_training_and_evaluation_say_where_they_are(always, tmp_path, capsys):
    assert main(["train", "digits", *TINY, "--out", str(tmp_path / "run")]) == 0
    err = capsys.readouterr().err
    steps = re.findall(r"epoch +(\d)/2  step (\d)/4  [\d,]+ samples/s  .* loss \d\.\d+(?:, (.*) left)?$", err, re.MULTILINE)
    assert [step[:2] for step in steps] == [("1", "1"), ("1", "2"), ("2", "3"), ("2", "4")]
    assert all(step[2] for step in steps)
    assert "evaluating digits: 359 of 359 samples" in err
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "evaluating digits: 359 of 359 samples, loss " in capsys.readouterr().err
    assert main(["plan", "digits", *TINY, "--measure", "1"]) == 0
    err = capsys.readouterr().err
    assert "counting memory: packing on, checkpointing none" in err
    assert "timing step 2 of 2" in err


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_quiet_runs_say_nothing(option, always, tmp_path, capsys):
    assert main(["train", "digits", *TINY, "--out", str(tmp_path / "run"), option]) == 0
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_its_bar_and_no_lines(always, tmp_path, capsys, monkeypatch):
    start = sw.RECIPES["digits"]()
    model = dataclasses.replace(start.model, name="sew_7b", num_blocks=2, T=2)
    optim = dataclasses.replace(start.optim, epochs=1, batch=720)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    sw.train(dataclasses.replace(start, model=model, optim=optim), tmp_path / "run")
    assert "epoch   1/1  step" not in capsys.readouterr().err


def test_preparing_says_how_many_bytes_are_done(always):
    said = []
    with progress_bar("nmnist", 4_000_000, said.append) as advance:
        advance(1_000_000)
        advance(2_000_000)
    assert [line.partition(",")[0] for line in said] == ["nmnist: 1.0 MB of about 4.0 MB", "nmnist: 3.0 MB of about 4.0 MB"]


def test_work_without_a_bar_says_where_it_is(always, capsys):
    assert list(progress.told_each_minute("ab", "read {} of {} letters")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines()[0].startswith("read 0 of 2 letters")


def test_packing_shards_and_measuring_say_where_they_are(always, tmp_path, capsys):
    for number in range(2):
        for split in ("train", "val"):
            (tmp_path / "images" / split / "a").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / split / "a" / f"{number}.png")
    assert main(["data", "shard", str(tmp_path / "images"), str(tmp_path / "shards")]) == 0
    lines = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines.count("read 2 of 2 files") == 4  # both splits, before they are written and then
    assert len(sw.DATASETS["image-shards"].load("train", tmp_path / "shards")) == 2
    assert "image-shards: indexed 0 of 1 shards" in capsys.readouterr().err


def test_words():
    assert [count(n, "class") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [count(n, "epoch") for n in (0, 1, 1200)] == ["0 epochs", "1 epoch", "1,200 epochs"]
    assert did_you_mean("LIFF", ["IF", "LIF"]) == did_you_mean("lif", ["IF", "LIF"]) == "did you mean 'LIF'? "
    assert did_you_mean("xyz", ["IF", "LIF"]) == did_you_mean(None, []) == ""


def test_an_option_is_spelt_as_its_reader_gives_it():
    assert option("connect", "ADD", "AND", "IAND") == "connect='ADD', 'AND' or 'IAND'"
    assert option("connect") == "'connect'"
    with options_as_flags({"connect": "--model.connect", "zero_init": "--model.zero-init"}):
        assert option("connect", "ADD", "AND") == "--model.connect ADD or AND"
        assert option("connect") == "--model.connect"
        assert (option("zero_init", True), option("zero_init", False)) == ("--model.zero-init", "--model.no-zero-init")
        assert option("neuron", "IF").startswith("neuron='IF' (in Python")
        assert (option("zero_init", 0), option("zero_init", 1.0)) == ("--model.zero-init 0", "--model.zero-init 1.0")
    assert option("connect") == "'connect'"


def test_diagnosis_and_energy_say_where_they_are(always, tmp_path, capsys):
    sw.save_pretrained(sw.build_model("sew_resnet20", num_classes=2, in_channels=1), tmp_path)
    options = [str(tmp_path), "--size", "16", "--samples", "3", "--device", "cpu"]
    for command, line in (("diagnose", "gradients are measured"), ("energy", "operations of 3 samples are counted")):
        assert main([command, *options]) == 0
        assert line in capsys.readouterr().err
        assert main([command, *options, "--json"]) == 0
        assert capsys.readouterr().err == ""
