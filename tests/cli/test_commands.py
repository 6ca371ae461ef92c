import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import torch

from spikewise.cli.info import all_tables
from spikewise.cli.main import COMMANDS, help_text, main
from spikewise.config import Config, Data, Model, Name, OptionalName, from_json, to_json
from spikewise.data import DATASETS
from spikewise.engine.build import load_data
from spikewise.engine.loop import train
from spikewise.models import CONNECT, MODELS, build_model
from spikewise.models.weights import save_pretrained, to_published
from spikewise.neurons import NEURONS
from spikewise.recipes import RECIPES

OLD_RUN = Path(__file__).parents[1] / "old_files" / "run_finished"

TINY = ["--model.name", "sew_7b", "--model.neuron", "IF", "--model.num-blocks", "2", "--model.T", "2"]
SHORT = ["--optim.epochs", "1", "--optim.batch", "256", "--optim.warmup-epochs", "0", "--optim.ema-decay", "0"]


def run(capsys, *args):
    """Status, standard output and standard error of a command."""
    try:
        status = main(list(args))
    except SystemExit as end:  # the argument parser's own errors
        status = end.code
    out, err = capsys.readouterr()
    return status, out, err


def test_train_evaluate_analyze(capsys, tmp_path):
    folder = str(tmp_path / "run")
    status, out, err = run(
        capsys, "train", "digits", *TINY, *SHORT, "--optim.warmup-epochs", "3", "--out", folder, "--seed", "3"
    )
    assert status == 0
    assert "warm-up is shortened from 3 to 0.5" in err
    last = out.splitlines()[-1]
    accuracy = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["test_accuracy"]
    assert last == f"sew_7b on digits: test accuracy {100 * accuracy:.1f} % (seed 3), run folder {folder}"
    assert "stage1.blocks.1" in out
    assert "the last 1 epoch " in out
    status, out, _ = run(capsys, "evaluate", folder)
    assert (status, f"{100 * accuracy:.2f} %" in out) == (0, True)
    status, out, _ = run(capsys, "analyze", folder, "--batches", "1")
    assert (status, out.count("stage1.blocks."), "branch A" in out) == (0, 2, True)
    status, _, err = run(capsys, "train", "digits", *TINY, *SHORT, "--out", folder)
    assert status == 2
    assert "exists and is not empty" in err


def test_a_relu_twin_trains_without_firing_rates(capsys, tmp_path):
    status, out, _ = run(
        capsys, "train", "digits", "--model.name", "resnet20", *SHORT, "--out", str(tmp_path / "run"), "--quiet"
    )
    assert status == 0
    assert "branch A" not in out


@pytest.mark.parametrize("topic", list(all_tables()))
def test_list_shows_every_table(topic, capsys):
    status, out, _ = run(capsys, "list", topic)
    assert status == 0
    assert out.strip()
    assert out.replace(" ", "") in run(capsys, "list")[1].replace(" ", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "no command named 'trian'; did you mean 'train'? known: train, plan, predict, evaluate"),
        (["data", "downlaod"], "knows download, prepare, shard, check, info; did you mean 'download'? given downlaod"),
        (["events"], "`spikewise events` knows info, show, convert, frames, cut; given nothing"),
        (["events", "info"], "events info needs FILE: spikewise events info FILE"),
        (["train"], "train needs a recipe, or --resume RUN; known: digits"),
        (["train", "--resume"], "train --resume needs RUN: spikewise train --resume RUN"),
        (["evaluate"], "evaluate needs RUN|FILE: spikewise evaluate RUN|FILE"),
        (["evaluate", "a", "b"], "'b' is one argument too many: spikewise evaluate RUN"),
        (["train", "digits", "b"], "'b' is one argument too many: spikewise train RECIPE"),
        (["train", "--resume", "a", "--optim.lr", "1"], "--optim.lr is an option of a new run"),
        (["evaluate", "a", "--devise", "cpu"], "has no option --devise; did you mean '--device'?"),
        (["train", "digits", "--optim.lrr=1"], "has no option --optim.lrr; did you mean '--optim.lr'?"),
        (["list", "neuron"], "no topic named 'neuron'; did you mean 'neurons'?"),
        (["data", "info", "cifar"], "no data set named 'cifar'; did you mean 'cifar10"),
        (["data", "prepare", "nmnis", "--source", "x"], "did you mean 'nmnist'?"),
        (["data", "info", "cifar10"], "--data.root"),
        (["reproduce", "tab22"], "did you mean 'tab2'?"),
        (["train", "digits", "--model.connect", "XOR"], "no connection named 'XOR'; known: ADD, AND, IAND"),
        (
            ["train", "digits", "--model.neuron", "lif"],
            "did you mean 'LIF'? known: IF, LIF, PLIF, ALIF, CUBA, STDB; of your own:",
        ),
        (["train", "digits", "--model.backend", "cpuu"], "no backend named 'cpuu'; did you mean 'cpu'?"),
        (["train", "digits", "--imports", "x"], "no option --imports; did you mean '--import'?"),
        (["train", "digits", "--data.num-frames", "3"], "data.num_frames=3 changes nothing"),
        (["train", "digits", "--data.split-by", "duration"], "data.split_by='duration' changes nothing"),
        (["train", "digits", "--optim.step-epochs", "3"], "optim.step_epochs=3 changes nothing"),
        (["plan", "digits-events", "--model.T", "3"], "model.T=3 changes nothing"),
        (["plan", "digits-events", "--optim.momentum", "0.5"], "optim.momentum=0.5 changes nothing"),
        (["plan", "nmnist", "--data.folds", "3"], "data.folds=3 changes nothing"),
        (["plan", "--json"], "plan needs a recipe before its options; given '--json' first"),
        (["train", "digits", "--resume", "x"], "goes on from a run, with its config; leave out 'digits'"),
        (["train", "digits", "--recipe", "nmnist"], "no option --recipe; the recipe comes first: spikewise train RECIPE"),
        (["train", "mnist"], "no recipe named 'mnist'; did you mean 'nmnist'? known: digits"),
        *(
            ([name, "nowhere"], "nowhere does not exist; give a weights file")
            for name in ("evaluate", "analyze", "diagnose", "energy")
        ),
        *(([name, "."], "holds no model.safetensors") for name in ("evaluate", "analyze", "diagnose", "energy")),
        (["predict", ".", "a.png"], "holds no model.safetensors"),
        (["evaluate", __file__], "is not a checkpoint of plain tensors"),
        (["energy", str(OLD_RUN), "--images", "."], "images and their size are for weights files"),
        (["analyze", str(OLD_RUN), "--data.name", "digits"], "--data.name digits is for weights files"),
        (["analyze", str(OLD_RUN), "--picture", "no/a.png"], "there is no folder"),
        (["plan", "digits", "--data.size", "64x48"], "data.size=(64, 48) is for photographs"),
        (["train", "digits", "--data.name", "mnist"], "no data set named 'mnist'; did you mean 'nmnist'? known: digits"),
        (["train", "digits", "--model.name", "resnet20", "--model.connect", "AND"], "resnet20 has no --model.connect"),
        (["train", "digits", "--optim.batch", "5000"], "use a batch between 1 and 1438"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *args)
    assert (status, out) == (2, "")
    assert err.startswith("spikewise: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_a_value_out_of_range_is_named_with_status_2(capsys):
    status, _, err = run(capsys, "train", "digits", "--optim.lr", "-1")
    assert status == 2
    assert "optim.lr=-1.0 is out of range" in err


def test_a_saved_network_is_evaluated_once_its_data_is_told(capsys, tmp_path):
    save_pretrained(build_model("sew_resnet20", num_classes=2), tmp_path)
    status, _, err = run(capsys, "evaluate", str(tmp_path))
    assert (status, err.count("\n")) == (2, 1)
    assert "name the data set: --data.name" in err


def test_what_a_recipe_says_of_another_data_set_is_left_out(capsys):
    status, out, err = run(capsys, "plan", "nmnist", "--data.name", "digits", "--model.num-blocks", "2", "--measure", "0")
    assert (status, err) == (0, "")
    assert "sew_7b on digits" in out


def test_old_runs_keep_fields_that_change_nothing():
    """Only new ones refuse them: a run folder that was trained so is read and continued."""
    config = Config(data=Data(num_frames=3))
    with pytest.raises(ValueError, match=r"data\.num_frames=3 changes nothing"):
        train(config)
    assert len(load_data(from_json(to_json(config)), "test").labels) == 359


@pytest.mark.parametrize(
    "args",
    [["train", "digits", "--help"], ["evaluate", "--help"], ["data", "info", "-h"], ["train", "--resume", "-h"], ["--version"]],
)
def test_help_of_a_command_and_the_version_are_there(args, capsys):
    status, out, _ = run(capsys, *args)
    assert status in (0, None)
    assert "spikewise" in out


@pytest.mark.parametrize("word", ["", "train", "plan", "data", "events"])
def test_help_shows_every_command_in_a_line_of_readable_width(word, capsys):
    status, out, _ = run(capsys, *filter(None, [word]), "--help")
    assert (status, out) == (0, help_text(word) + "\n")
    names = [name for name in COMMANDS if word in ("", name.split()[0])]
    table = [line.strip() for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
    assert [line.startswith(name) for name, line in zip(names, table, strict=True)] == [True] * len(names)
    assert max(map(len, out.splitlines())) <= 128
    assert all(command.summary.endswith(".") for command in COMMANDS.values())


def test_the_readme_shows_the_commands_as_help_does():
    readme = (Path(__file__).parents[2] / "README.md").read_text().replace("\\|", "|")
    rows = re.findall(r"^\| `spikewise ([^`]+)` \| (.*) \|$", readme, re.MULTILINE)
    assert rows == [(f"{name} {command.usage}".strip(), command.summary) for name, command in COMMANDS.items()]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_arguments_as_the_table_does_and_all_options_alike(name, capsys):
    command = COMMANDS[name]
    start = {"RECIPE": ["digits"], "RUN": [str(OLD_RUN)]}[command.usage] if command.start else []
    words = [*name.split(), *start, "--help"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    positional, _, options = out.partition(" options ")
    positional = positional.partition("positional arguments")[2]
    expected = [] if command.start else re.findall(r"[A-Z|]+", command.usage.partition("--")[0])
    lines = re.findall(r"^\W+([A-Z][A-Z|]+(?:\.\.\. [A-Z]+)?)\b", positional, re.MULTILINE)
    assert re.findall(r"[A-Z|]+", " ".join(lines)) == expected
    assert "PATH" not in out  # of what: a folder, a file, a run
    assert "{None}|STR" not in options.partition("model options")[0]
    assert not {"--root", "--data-root", "--recipe", "--imports"} & set(re.findall(r"--[a-z][\w.-]*", out))


def test_whatever_a_config_takes_by_name_can_be_listed():
    topics = {
        "data.name": "datasets",
        "model.name": "models",
        "model.connect": "connections",
        "model.neuron": "neurons",
        "model.surrogate": "surrogates",
        "model.last_surrogate": "surrogates",
        "model.backend": "backends",
    }
    hints = {f"{section}.{name}": hint for section, kind in (("data", Data), ("model", Model)) for name, hint in hints_of(kind)}
    assert {name for name, hint in hints.items() if hint in (Name, OptionalName)} == topics.keys()
    assert set(topics.values()) < all_tables().keys()
    tables = {"models": MODELS, "datasets": DATASETS, "recipes": RECIPES, "neurons": NEURONS, "connections": CONNECT}
    assert {topic: list(all_tables()[topic]) for topic in tables} == {topic: list(table) for topic, table in tables.items()}


def hints_of(kind):
    return get_type_hints(kind, include_extras=True).items()


def test_help_needs_no_torch():
    code = "import sys; from spikewise.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_options_have_one_name_everywhere():
    """A parameter of the same meaning is called alike in every command; a flag is its name."""
    names = {name for command in COMMANDS.values() for name in inspect.signature(command.function).parameters}
    assert not names & {"root", "folder", "json", "until", "budget", "frames", "stop"}


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    monkeypatch.setattr("spikewise.cli.main.run_command", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "spikewise", "list", "neurons"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "PLIF" in done.stdout


def test_train_prints_its_result_as_json(capsys, tmp_path):
    folder = str(tmp_path / "run")
    status, out, err = run(capsys, "train", "digits", *TINY, *SHORT, "--out", folder, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert {"recipe", "seed", "final", "best", "mean_last_epochs", "correct", "total"} <= found.keys()
    status, out, _ = run(capsys, "train", "--json", "--resume", folder)
    assert json.loads(out) == found
    status, out, _ = run(capsys, "evaluate", folder, "--json")
    assert json.loads(out)["accuracy"] == found["final"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format_version": 2', '"format_version": 7', "format_version 7; this spikewise reads 1 to 2: update it"),
        ('"shift":', '"shfit":', "Data has no field 'shfit'; did you mean 'shift'?"),
        ('"num_blocks": 2', '"num_blocks": 1', "was changed since"),
        ('"seed": 0', '"seed": "zero"', "seed='zero' has the wrong type; use int"),
    ],
    ids=["newer", "key", "checkpoint", "value"],
)
def test_a_run_folder_that_does_not_fit_is_one_line_and_status_2(old, new, message, capsys, tmp_path):
    folder = tmp_path / "run"
    run(capsys, "train", "digits", *TINY, *SHORT, "--out", str(folder), "--quiet")
    config = folder / "config.json"
    config.write_text(config.read_text().replace(old, new))
    for command in (["evaluate", str(folder)], ["train", "--resume", str(folder), "--epochs", "2"]):
        status, out, err = run(capsys, *command)
        assert (status, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1 or "1 -> 2 epochs" in err


def test_damaged_data_is_one_line_and_status_2(capsys, tmp_path):
    """Whatever the number of workers."""
    for split in ("Train", "Test"):
        for label in range(10):
            (tmp_path / "nmnist" / split / str(label)).mkdir(parents=True)
            for k in range(2):
                (tmp_path / "nmnist" / split / str(label) / f"{k}.bin").write_bytes(bytes([k + 1, 2, 0, 0, 9]) * 20)
    bad = tmp_path / "nmnist" / "Train" / "3" / "1.bin"
    options = ["--data.root", str(tmp_path), "--optim.batch", "20", "--optim.epochs", "2", "--out", str(tmp_path / "run")]
    for content, message in (
        (b"123", "was cut: the event at byte 0 has 3 of 5 bytes"),
        (bytes([200, 2, 0, 0, 9]), "outside the sensor"),
    ):
        bad.write_bytes(content)
        for workers in ("0", "1"):
            status, out, err = run(capsys, "train", "nmnist", *options, "--workers", workers, "--quiet")
            assert (status, out) == (2, "")
            assert message in err
            assert err.count("\n") == 1
    bad.unlink()
    (bad.parent / "0.bin").unlink()
    status, _, err = run(capsys, "train", "nmnist", *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "holds no .bin file; unpack N-MNIST again" in err


def test_a_run_that_stopped_early_says_how_it_goes_on(capsys, tmp_path):
    options = [*TINY, *SHORT[2:], "--optim.epochs", "2", "--stop-epoch", "1"]
    status, out, _ = run(capsys, "train", "digits", *options, "--out", str(tmp_path / "run"))
    assert status == 0
    assert out.splitlines()[-1] == f"unfinished, 1 of 2 epochs: go on with spikewise train --resume {tmp_path / 'run'}"


def test_a_published_file_is_looked_at_once_connect_is_told(capsys, tmp_path):
    net = build_model("sew_resnet18", num_classes=5)
    torch.save({"model": to_published(net)}, tmp_path / "file.pth")
    for command in ("diagnose", "energy"):
        given = command, str(tmp_path / "file.pth"), "--samples", "2", "--size", "32"
        status, _, err = run(capsys, *given)
        assert status == 2
        assert "connect" in err
        status, out, _ = run(capsys, *given, "--connect", "ADD")
        assert status == 0
        assert out


@pytest.mark.parametrize("name", ["evaluate", "analyze", "diagnose", "energy", "predict", "export", "train"])
def test_what_a_file_does_not_tell_is_asked_for_by_the_commands_own_option(name, capsys, tmp_path):
    """As keywords in Python, so as options here; a command that lacks one says that it is for Python."""
    image, event = tmp_path / "image.pth", tmp_path / "event.pth"
    torch.save({"model": to_published(build_model("sew_resnet18", num_classes=5))}, image)
    torch.save({"net": to_published(build_model("sew_7b", num_classes=5, num_blocks=2, neuron="IF"))}, event)
    after = {"predict": ["a.png"], "export": ["a.onnx"]}.get(name, [])
    for file, keyword in ((image, "connect"), (event, "neuron")):
        words = ["train", "digits", "--weights", str(file)] if name == "train" else [name, str(file), *after]
        status, _, err = run(capsys, *words)
        flag = f"--model.{keyword} " if name == "train" else "--connect ADD" if keyword == "connect" else "in Python"
        assert (status, err.count("\n")) == (2, 1)
        assert flag in err
        assert ("connect=" in err, "name=" in err) == (False, False)


def test_nothing_is_trained_for_pictures_that_cannot_be_drawn(capsys, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name, *rest))
    status, _, err = run(capsys, "reproduce", "tab5", "--check", "--out", str(tmp_path / "out"))
    assert status == 2
    assert "spikewise[plots]" in err
    assert not (tmp_path / "out").exists()
