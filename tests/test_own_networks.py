"""docs/own_networks.md: its code runs, section by section; its commands, too."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import spikewise as sw
from spikewise.cli.main import main

PAGE = (Path(__file__).parents[1] / "docs" / "own_networks.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
BLOCKS = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TABLES = (sw.NEURONS, sw.SURROGATES, sw.CONNECT, sw.MODELS, sw.DATASETS)


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """In a folder of its own; what a section adds to the tables is taken out again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, modules = [dict(table) for table in TABLES], set(sys.modules)
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)
    for name in set(sys.modules) - modules:
        if not name.startswith(("spikewise", "torch", "numpy")):
            del sys.modules[name]


@pytest.mark.parametrize("section", [title for title, text in SECTIONS.items() if "```" in text])
def test_what_the_page_shows_runs(section):
    names = {"__name__": "own"}
    for kind, file, code in BLOCKS.findall(SECTIONS[section]):
        if file:
            with Path(file).open("a") as opened:
                opened.write(code)
        elif kind == "python":
            exec(compile(code, f"own_networks.md, {section}", "exec"), names)
        else:
            for command in code.splitlines():
                assert main(shlex.split(command)[1:]) == 0, command


def test_all_code_of_the_page_is_in_a_section_and_examples_are_short():
    blocks = BLOCKS.findall(PAGE)
    assert len(blocks) == PAGE.count("```") // 2 == sum(len(BLOCKS.findall(text)) for text in SECTIONS.values())
    assert {kind for kind, _, _ in blocks} == {"python", "sh"}
    assert max(code.count("\n") for _, _, code in blocks) < 45
