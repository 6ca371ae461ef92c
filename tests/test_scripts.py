"""The scripts that try other versions of PyTorch, under this one."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
import compat
import exchange

ROW = dict.fromkeys(compat.COLUMNS, "x")


def test_files_are_written_and_read(tmp_path):
    exchange.write(tmp_path)
    exchange.read(tmp_path)
    logits = torch.load(tmp_path / "logits.pt")
    torch.save(logits + 1e-3, tmp_path / "logits.pt")
    with pytest.raises(AssertionError):
        exchange.read(tmp_path)


def test_a_line_of_the_table_takes_the_place_of_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(compat, "PAGE", tmp_path / "page.md")
    compat.PAGE.write_text("# Title\n\n| PyTorch |\n| --- |\n\nbelow\n")
    for torch_version, passed in (("2.13.0", 1), ("2.8.0", 2), ("2.13.0", 3)):
        compat.fill_table(ROW | {"PyTorch": torch_version, "passed": passed})
    lines = compat.PAGE.read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[4:6]] == ["| 2.8.0", "| 2.13.0"]
    assert " 3 " in lines[5]
    assert lines[6:] == ["", "below"]
