"""docs/scaling.md: its scripts parse, and name options that there are."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spikewise.config import Config
from spikewise.engine.run.fingerprint import flatten_config
from spikewise.recipes import RECIPES

PAGE = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("language", "text"), BLOCKS, ids=[f"{language}{i}" for i, (language, _) in enumerate(BLOCKS)])
def test_scripts_parse(language, text):
    if language == "yaml":
        text = pytest.importorskip("yaml").safe_load(text)["run"]
    if language == "python":
        ast.parse(text)
    else:
        bash = shutil.which("bash") or pytest.skip("no bash here")
        checked = subprocess.run([bash, "-n"], input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_options_and_recipes_are_real():
    fields = flatten_config(Config())
    options = {word.replace("-", "_") for word in re.findall(r"--((?:optim|data|model|retention)\.[\w-]+)", PAGE)}
    assert len(options) > 3
    assert options <= set(fields)
    recipes = set(re.findall(r"imagenet/[\w-]+", PAGE))
    assert recipes
    assert recipes <= set(RECIPES)
