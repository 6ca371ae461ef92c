"""The table of data sets: what is in it works everywhere; a new data set is one file and one line."""

import json

import new_dataset
import pytest
from checks import refuse, train_and_evaluate

import spikewise.data
from spikewise.cli.main import main
from spikewise.data import DATASETS, find_dataset


def test_a_new_data_set_is_one_file_and_one_line_of_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, "dots", new_dataset.ENTRY)
    (tmp_path / "columns.txt").write_text(" ".join(str(i % 8) for i in range(60)))
    assert main(["data", "prepare", "dots", "--source", str(tmp_path / "columns.txt"), "--data.root", str(tmp_path)]) == 0
    assert "dots: 60 images; 1 file," in capsys.readouterr().out
    assert main(["data", "info", "dots", "--data.root", str(tmp_path), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["samples"], info["shape"], list(info["classes"])) == ({"train": 40, "test": 20}, [1, 8, 8], ["left", "right"])
    assert main(["list", "datasets"]) == 0
    assert "60 dots" in capsys.readouterr().out
    assert main(["plan", "digits", "--data.name", "dots", "--device", "cpu"]) == 2  # a batch of 64 of the 40 that are known
    assert "a batch of 64 from 40 samples" in capsys.readouterr().err
    options = ("--data.name", "dots", "--data.root", tmp_path)
    assert train_and_evaluate(capsys, tmp_path / "run", "digits", *options) == "of 20"


def test_an_unknown_data_set_is_refused():
    refuse(r"no data set named 'mnist'; .*known: digits, digits-events", find_dataset, "mnist")


def test_names_of_earlier_versions_are_found():
    assert spikewise.data.Order is spikewise.data.EpochSampler
    assert DATASETS["digits"].open is DATASETS["digits"].load
    with pytest.raises(AttributeError, match="no attribute 'Orders'"):
        spikewise.data.Orders  # noqa: B018


@pytest.mark.parametrize("name", DATASETS)
def test_an_option_that_a_data_set_does_not_have_is_named(name, tmp_path):
    with pytest.raises(TypeError, match=f"no option of {name} named 'sizes'; .*known: split, root"):
        DATASETS[name].load("train", tmp_path, sizes=3)


def test_a_mistyped_option_is_recognized(tmp_path):
    with pytest.raises(TypeError, match="did you mean 'crop_scale'"):
        DATASETS["image-folder"].load("train", tmp_path, crop_scales=(0.5, 1.0))
