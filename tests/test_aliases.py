"""Old names, every one of them: they lead where the new ones do, and say so."""

import dataclasses
import importlib
import json
import pickle
import subprocess
import sys
import warnings

import pytest

from spikewise import aliases
from spikewise.cli.main import main
from spikewise.config import Config, Data, Model, from_dict, from_json, to_json
from spikewise.engine.run.fingerprint import describe_changes, flatten_config
from spikewise.models import build_model
from spikewise.neurons import IF

BELOW = ["spikewise.data.formats.aedat2", "spikewise.analysis.reproduce.runs"]  # modules of moved packages
OLD_FIELDS = [old for old in aliases.FIELDS if "." in old]


def old_config(config):
    """A config's JSON as format 1 had it."""
    new_to_old = {new: old for old, new in aliases.FIELDS.items()}
    content = {"format_version": 1, "recipe": config.recipe, "seed": config.seed}
    for section, fields in json.loads(to_json(config)).items():
        if isinstance(fields, dict):
            leaf = {name: new_to_old.get(f"{section}.{name}", name).rpartition(".")[2] for name in fields}
            content[new_to_old.get(section, section)] = {leaf[name]: value for name, value in fields.items()}
    return content


@pytest.mark.parametrize("old", [*aliases.MODULES, *BELOW])
def test_an_old_module_is_the_new_one(old):
    with warnings.catch_warnings(action="ignore"):
        importlib.import_module(old.rpartition(".")[0])  # which may be an old name, too
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} is now {aliases.new_home(old)}$") as warned:
        module = importlib.import_module(old)
    assert module is importlib.import_module(aliases.new_home(old))
    assert module.__spec__.name == module.__name__ == aliases.new_home(old)
    assert len([one for one in warned if str(one.message).startswith(f"{old} ")]) == 1


@pytest.mark.parametrize("package", aliases.PACKAGES)
def test_a_package_shows_what_the_module_of_its_name_held(package):
    home = importlib.import_module(aliases.PACKAGES[package])
    name = next(
        name for name, value in vars(home).items() if getattr(value, "__module__", None) == home.__name__ and name != "main"
    )
    vars(importlib.import_module(package)).pop(name, None)
    with pytest.warns(FutureWarning, match=rf"{package}.{name} is now"):
        assert getattr(importlib.import_module(package), name) is getattr(home, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = importlib.import_module(package).nothing


def test_old_imports_say_one_line_at_the_users_line():
    code = """import spikewise.data.formats as f
from spikewise.data.frames import frames_by_count
from spikewise.data import formats
from spikewise.data.events import Events
import spikewise.data.events.formats as g
assert f is formats is g"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if "FutureWarning" in line]
    assert [line.partition(": ")[0] for line in lines] == ["<string>:1", "<string>:2"]


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"spikewise\.data\.framez"):
        importlib.import_module("spikewise.data.framez")


@pytest.mark.parametrize("old", OLD_FIELDS)
def test_an_old_field_is_read_from_files_quietly(old):
    (section, field), (new_section, new_field) = old.split("."), aliases.FIELDS[old].split(".")
    default = getattr(getattr(Config(), new_section), new_field)
    value = {"rule": "duration", "part": "seeded"}.get(field, default + 0.5 if isinstance(default, float) else 3)
    config = from_json(json.dumps({"format_version": 1, section: {field: value}}))
    assert getattr(getattr(config, new_section), new_field) == value
    assert from_json(to_json(config)) == from_json(json.dumps(old_config(config))) == config


@pytest.mark.parametrize("old", OLD_FIELDS)
def test_python_takes_an_old_field_and_shows_it(old):
    field, (section, new) = old.partition(".")[2], aliases.FIELDS[old].split(".")
    part = getattr(Config(), section)
    with pytest.warns(FutureWarning, match=new):
        assert getattr(part, field) == getattr(part, new)
    with pytest.warns(FutureWarning, match=new):
        assert dataclasses.replace(part, **{field: getattr(part, new)}) == part
    with pytest.warns(FutureWarning, match="retention"):
        assert Config().keep == Config().retention


def test_replacing_an_old_field_replaces_the_new_one():
    with pytest.warns(FutureWarning, match="num_frames"):
        assert dataclasses.replace(Data(num_frames=5), frames=4).num_frames == 4
    assert pickle.loads(pickle.dumps(Data(num_frames=5))).num_frames == 5
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = Data().nothing
    with pytest.raises(ValueError, match="did you mean 'num_frames'"):
        from_dict(Data, {"num_framez": 3})


def test_a_checkpoint_with_old_names_belongs_to_the_same_run():
    config = Config(data=Data(num_frames=5, split_by="duration", affine=0.5))
    content = old_config(config)
    then = {f"{a}.{b}": v for a, fields in content.items() if isinstance(fields, dict) for b, v in fields.items()}
    assert {"data.rule", "keep.mean_of_last"} <= then.keys()
    then["seed"] = 0
    assert describe_changes(then, flatten_config(config)) == []
    assert describe_changes(then | {"data.frames": 6}, flatten_config(config)) == ["data.num_frames 6 -> 5"]


@pytest.mark.parametrize("old", ["keep.last", "keep.no_best", *OLD_FIELDS])
@pytest.mark.parametrize("form", ["--{}=1", "--{}"])
def test_an_old_flag_of_the_config_becomes_the_new_one(old, form):
    new = aliases.renamed_field(old)
    for spelled in (old, old.replace("_", "-")):
        args, notices = aliases.rename_flags("plan", [form.format(spelled), "7"])
        assert args == [form.format(new.replace("_", "-")), "7"]
        assert notices == [f"--{spelled} is now --{new.replace('_', '-')}"]


@pytest.mark.parametrize(
    ("args", "notice"),
    [
        (["train", "digits", "--until", "0"], "--until is now --stop-epoch"),
        (["train", "--resume", "nowhere", "--until=1"], "--until is now --stop-epoch"),
        (["reproduce", "tab4", "--budget", "0"], "--budget is now --max-epochs"),
        (["data", "info", "nmnist", "--root", "nowhere"], "--root is now --data.root"),
        (["data", "download", "nothing", "--root", "nowhere"], "--root is now --data.root"),
        (["data", "prepare", "nothing", "--source", "x", "--root", "nowhere"], "--root is now --data.root"),
        (["evaluate", "nowhere", "--data-root", "x"], "--data-root is now --data.root"),
        (["events", "show", "nowhere", "--frames", "3"], "--frames is now --num-frames"),
    ],
)
def test_an_old_flag_of_a_command_does_the_same_and_says_the_new_one(args, notice, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new = aliases.rename_flags(" ".join(args[:2]) if args[0] in ("data", "events") else args[0], args)[0]
    assert new != args
    assert main(args) == 2
    notice_line, error = capsys.readouterr().err.split("\n", 1)
    assert notice_line == f"spikewise: {notice}"
    assert main(new) == 2
    assert capsys.readouterr().err == error


def test_current_flags_and_values_stay_as_they_are(capsys):
    args = ["digits", "--data.root", "keep.last", "--optim.lr=1", "until", "--", "--x"]
    assert aliases.rename_flags("train", args) == (args, [])
    assert main(["list", "neurons"]) == 0
    assert capsys.readouterr().err == ""


def test_an_old_class_of_the_config_is_the_new_one():
    import spikewise.config as config

    with pytest.warns(FutureWarning, match="Keep is now spikewise.config.Retention"):
        assert config.Keep is config.Retention
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = config.nothing


@pytest.mark.parametrize("flag", ["--model.surrogate", "--model.last_surrogate", "--model.last-surrogate"])
def test_an_old_word_on_the_command_line_becomes_the_new_one(flag):
    notice = ["rectangle is now rectangular"]
    assert aliases.rename_flags("train", ["digits", flag, "rectangle"]) == (["digits", flag, "rectangular"], notice)
    assert aliases.rename_flags("plan", [f"{flag}=rectangle"]) == ([f"{flag}=rectangular"], notice)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Model(surrogate="rectangle").surrogate,
        lambda: IF(surrogate="rectangle").surrogate,
        lambda: build_model("sew_resnet20", num_classes=2, surrogate="rectangle").spec["surrogate"],
    ],
    ids=["config", "neuron", "network"],
)
def test_an_old_word_in_python_is_told_once_and_becomes_the_new_one(make):
    with pytest.warns(FutureWarning, match="'rectangle' is now 'rectangular'") as warned:
        assert make() == "rectangular"
    assert [warning.filename for warning in warned] == [__file__]


def test_an_old_word_in_a_file_is_read_quietly():
    assert from_json('{"format_version": 1, "model": {"surrogate": "triangle"}}').model.surrogate == "triangular"
    now = flatten_config(Config(model=Model(surrogate="triangular")))
    assert describe_changes(now | {"model.surrogate": "triangle"}, now) == []


def test_old_words_have_new_ones():
    assert [aliases.renamed(word) for word in ("rectangle", "triangle", "atan")] == ["rectangular", "triangular", "atan"]
