"""Networks that come with the package are found by name wherever a file is taken; no file is hidden by them."""

import pytest

import spikewise as sw
from spikewise.cli.main import main
from spikewise.data.input_spec import InputSpec
from spikewise.models import shipped

DIGITS = tuple(map(str, range(10)))


@pytest.fixture
def name(tmp_path, monkeypatch):
    """A tiny network in the package's folder."""
    net = sw.build_model("sew_resnet20", num_classes=10, in_channels=1, width=0.25, T=1)
    net.input_spec = InputSpec("digits", "images", sw.DATASETS["digits"].load("test").class_names, (1, 8, 8))
    sw.save_pretrained(net, tmp_path / "shipped" / "digits" / "tiny")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    return "digits/tiny"


def test_a_name_is_taken_wherever_a_file_is(name, tmp_path, capsys):
    assert sw.load_pretrained(name).spec["name"] == "sew_resnet20"
    assert sw.evaluate(name).total == 359
    assert sw.Predictor(name).spec.data == "digits"
    assert main(["evaluate", name]) == 0
    assert capsys.readouterr().out.startswith("digits/tiny: test accuracy")
    assert main(["train", "digits", "--weights", name, "--optim.epochs", "1", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert "sew_resnet20 on digits" in capsys.readouterr().out


def test_a_file_of_the_same_name_comes_first(name, tmp_path):
    sw.save_pretrained(sw.build_model("sew_resnet32", num_classes=2, width=0.25), tmp_path / name)
    assert sw.load_pretrained(name).spec["name"] == "sew_resnet32"


def test_they_are_listed_with_network_and_data(name, capsys):
    assert main(["list", "weights"]) == 0
    out = capsys.readouterr().out
    assert "digits/tiny" in out
    assert "sew_resnet20 ADD on digits" in out


def test_a_list_of_none_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert main(["list", "weights"]) == 0
    assert "none in this version" in capsys.readouterr().out


def test_what_comes_along_is_small_has_a_card_and_loads():
    for folder, *_ in shipped.shipped_weights().values():
        assert (folder / shipped.WEIGHTS_FILE).stat().st_size < 3e6
        assert (folder / shipped.CARD).is_file()
        assert sw.load_pretrained(folder).class_names
