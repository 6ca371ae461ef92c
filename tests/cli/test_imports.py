"""`--import`: own parts, registered by a module of the user's, on every command that builds them."""

import json
import shutil
import sys

import pytest

from spikewise.cli.imports import take_imports
from spikewise.cli.main import main
from spikewise.kernels import CONNECT, SURROGATES
from spikewise.neurons import NEURONS
from spikewise.recipes import RECIPES

MODULE = """
from dataclasses import replace
import spikewise as sw
from spikewise.neurons import LIF

class Slow(LIF):
    '''A LIF of tau 4.'''
    def __init__(self, **threshold):
        super().__init__(tau=4.0, **threshold)

sw.NEURONS["Slow"] = Slow
sw.CONNECT["half"] = lambda a, s: 0.5 * a + s
sw.SURROGATES["box"] = lambda u, alpha: alpha * (u.abs() < 1).to(u.dtype)
start = sw.RECIPES["digits"]()
model = replace(start.model, name="sew_7b", num_blocks=2, T=2, neuron="Slow", connect="half", surrogate="box")
optim = replace(start.optim, epochs=1, batch=256, warmup_epochs=0.0, ema_decay=0.0)
sw.RECIPES["own"] = lambda: replace(start, recipe="own", model=model, optim=optim)
"""
TABLES = (NEURONS, CONNECT, SURROGATES, RECIPES)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A user's module; `forget()` makes the process one that never imported it."""
    path = tmp_path / "own_parts.py"
    path.write_text(MODULE)
    before = [dict(table) for table in TABLES]
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    forget(before)


def forget(tables=None):
    sys.modules.pop("own_parts", None)
    for table, before in zip(TABLES, tables or [{}] * len(TABLES), strict=True):
        for name in [name for name in table if name in ("Slow", "half", "box", "own") and name not in before]:
            del table[name]


def test_own_parts_train_and_are_imported_again_by_what_opens_the_run(file, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", "own", "--import", str(file), "--out", run, "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["imports"] == [str(file)]
    capsys.readouterr()
    for command in (["evaluate", run], ["train", "--resume", run], ["diagnose", run], ["energy", run], ["analyze", run]):
        forget()
        assert main(command) == 0
        assert f"importing {file}, as {run}/config.json says\n" in capsys.readouterr().err
    forget()
    moved = shutil.move(file, tmp_path / "elsewhere.py")
    for command in (["evaluate", run], ["train", "--from", run, "--out", f"{run}-2", "--quiet"]):
        forget()
        assert main(command) == 2
        error = capsys.readouterr().err
        assert f"--import {file}: there is no such file; {run}/config.json asks for it" in error
        assert "--import NEW/PLACE.py" in error
        assert main([*command, "--import", str(moved)]) == 0
        assert "importing" not in capsys.readouterr().err
        sys.modules.pop("elsewhere")
    assert json.loads((tmp_path / "run-2" / "config.json").read_text())["imports"] == [str(moved)]
    forget()
    assert main(["train", "--resume", run, "--epochs", "9", "--stop-epoch", "4", "--quiet", "--import", str(moved)]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["imports"] == [str(moved)]


@pytest.mark.parametrize("args", [["--import", "{}", "list"], ["list", "--import={}"], ["list", "neurons", "--import", "{}"]])
def test_the_option_stands_anywhere(args, file, capsys):
    assert main([arg.format(file) for arg in args]) == 0
    assert "A LIF of tau 4." in capsys.readouterr().out


def test_a_path_in_a_run_folder_is_absolute_and_nothing_else_is_run(file, tmp_path, capsys, monkeypatch):
    """A folder from elsewhere can't bring the code it names."""
    run = tmp_path / "run"
    assert main(["train", "own", "--import", str(file), "--out", str(run), "--quiet"]) == 0
    forget()
    (run / "evil.py").write_text("raise SystemExit('evil')")
    text = (run / "config.json").read_text()
    monkeypatch.chdir(run)
    for name in ("evil.py", "./evil.py"):
        (run / "config.json").write_text(text.replace(str(file), name))
        assert main(["evaluate", str(run)]) == 2
        assert "not absolute" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "nowhere.py", "there is no such file"),
        (None, "no_such_module", "no module of that name is installed"),
        (None, "json.no_such_module", "no module of that name is installed"),
        ("import no_such_module", "needy.py", "No module named 'no_such_module'"),
        ("x = ", "broken.py", "SyntaxError"),
        ("1 / 0", "failing.py", "ZeroDivisionError: division by zero"),
        ("x = 1", "json.py", "another module is named 'json'"),
        ("x = 1", "beside", "give its file: --import beside.py"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line_and_status_2(content, name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    if content is not None:
        (tmp_path / f"{name.removesuffix('.py')}.py").write_text(content)
    assert main(["list", "--import", name]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_an_option_without_its_module_is_refused():
    assert take_imports(["a", "--import", "b", "--import=c", "d"]) == (["b", "c"], ["a", "d"])
    for args in (["--import"], ["list", "--import", "--json"], ["--import="]):
        with pytest.raises(ValueError, match="--import needs a module"):
            take_imports(args)
