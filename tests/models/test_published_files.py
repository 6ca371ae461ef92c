"""The authors' files, known by name and by what they record, and the accuracy to expect of them."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from published import KEYS, numbered

from spikewise.cli.main import main
from spikewise.data.datasets.imagenet import imagenet_classes
from spikewise.models.published_files import PUBLISHED_RUNS, find_published
from spikewise.models.weights import load_pretrained
from spikewise.paper.published_logs import read_published_logs

LOGS = {"sew_7b": "dvsgesture-7b-sew-add", "sew_wide7b": "cifar10dvs-sew-add"}
RUN = PUBLISHED_RUNS[0]


def checkpoint(folder, name, *, keys="sew_resnet18", num_classes=None, connect="ADD", **record):
    content = {"model": numbered(KEYS[keys], num_classes), "args": Namespace(connect_f=connect, T=4), **record}
    torch.save(content, folder / name)
    return folder / name


def photographs(folder, classes):
    """A folder of one black photograph of each class, the same for train and val."""
    for name in classes:
        (folder / "train" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "train" / name / "a.png")
    (folder / "val").symlink_to("train")
    return ["--data.name", "image-folder", "--data.root", str(folder)]


@pytest.mark.parametrize("run", PUBLISHED_RUNS, ids=lambda run: run.model)
def test_accuracies_are_those_of_the_published_logs(run):
    epochs = [epoch["test_acc1"] for epoch in read_published_logs()[LOGS.get(run.model, run.model)]]
    assert len(epochs) == run.last_epoch + 1
    assert [round(accuracy, 2) for accuracy in (epochs[-1], epochs[run.best_epoch], max(epochs))] == [
        run.last,
        run.best,
        run.best,
    ]


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("sew18_checkpoint_319.pth", {}, (319, 62.81)),
        ("sew18_checkpoint_319.pth", {"epoch": 319, "max_test_acc1": 63.178}, (319, 62.81)),
        ("mine.pth", {"epoch": 319, "max_test_acc1": 63.178}, (319, 62.81)),
        ("mine.pth", {"epoch": 313, "max_test_acc1": 63.178}, (313, 63.18)),
        ("mine.pth", {"epoch": 315, "max_test_acc1": 63.178}, (315, None)),
        ("mine.pth", {"epoch": 319, "max_test_acc1": 63.1}, None),
        ("mine.pth", {}, None),
        ("sew18_checkpoint_319.pth", {"epoch": 319, "max_test_acc1": 12.0}, None),
        ("sew18_checkpoint_319.pth", {"num_classes": 10}, None),
        ("sew18_checkpoint_319.pth", {"connect": "IAND"}, None),
        ("sew34_checkpoint_319.pth", {}, None),
    ],
)
def test_a_file_is_known_by_its_name_or_by_what_it_records(name, record, expected, tmp_path):
    net = load_pretrained(checkpoint(tmp_path, name, **record))
    assert (net.published and net.published[1:]) == expected
    assert (net.input_spec is not None) == (expected is not None)


def test_the_authors_event_network_is_known_by_its_accuracy(tmp_path):
    content = {"net": numbered(KEYS["cifar10dvs_SEWResNet"]), "epoch": 41, "max_test_acc": 0.744}
    torch.save(content, tmp_path / "checkpoint_max.pth")
    net = load_pretrained(tmp_path / "checkpoint_max.pth", connect="ADD")
    assert (net.published.run.data, net.published.accuracy, net.class_names[0]) == ("cifar10-dvs", 74.4, "airplane")


def test_classes_are_matched_by_name_before_a_sample_is_seen(tmp_path, capsys):
    file = checkpoint(tmp_path, "sew18_checkpoint_319.pth")
    net = load_pretrained(file)
    assert net.class_names == imagenet_classes()
    options = photographs(tmp_path / "photographs", (*imagenet_classes()[:-1], "n99999999"))
    assert main(["evaluate", str(file), *options]) == 2
    assert "the network does not know 'n99999999'" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_evaluate_sets_its_accuracy_beside_the_published_one(as_json, tmp_path, monkeypatch, capsys):
    """On three photographs of ImageNet's classes: a stand-in for its 50,000."""
    monkeypatch.setattr("spikewise.models.published_files.PUBLISHED_RUNS", (RUN._replace(num_classes=3),))
    monkeypatch.setattr("spikewise.data.datasets.imagenet.imagenet_classes", lambda: ("n01", "n02", "n03"))
    file = checkpoint(tmp_path, "sew18_checkpoint_319.pth", num_classes=3)
    options = photographs(tmp_path / "photographs", ("n01", "n02", "n03"))
    assert main(["evaluate", str(file), *options, *as_json]) == 0
    said = capsys.readouterr().out
    if as_json:
        assert json.loads(said)["published"] == {"run": RUN.model, "epoch": 319, "accuracy": 62.81}
    else:
        assert "published sew_resnet18 ADD on imagenet, T = 4, epoch 319: 62.81 %; here " in said


def test_with_another_head_nothing_is_expected(tmp_path):
    with pytest.warns(UserWarning, match="untrained"):
        net = load_pretrained(checkpoint(tmp_path, "sew18_checkpoint_319.pth"), num_classes=7)
    assert (net.published, net.class_names) == (None, ())


def test_hostile_records_are_no_accuracy(tmp_path):
    record = {"epoch": [1], "max_test_acc1": "63.18"}
    net = load_pretrained(checkpoint(tmp_path, "mine.pth", **record))
    assert find_published(Path("mine.pth"), net, record | {"best": None}) is None
