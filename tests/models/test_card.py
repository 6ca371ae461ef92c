"""Model cards: what is known stands there, in Hugging Face's form, and nothing else."""

import json

import pytest
import torch

from spikewise.data.input_spec import InputSpec
from spikewise.models import build_model
from spikewise.models.card import MARK, TrainingFacts, model_card
from spikewise.models.weights import save_pretrained


def read_yaml(text):
    """The front matter: each line a name and a value that is JSON, which is YAML, too."""
    _, front, body = text.split("---\n", 2)
    lines = [line for line in front.splitlines() if not line.startswith("#")]
    return {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines)}, body


def small_net(**spec):
    net = build_model("sew_resnet20", num_classes=2, in_channels=1, width=0.25)
    if spec:
        net.input_spec = InputSpec(**{"kind": "images", "shape": (1, 8, 8)} | spec)
    return net


def test_a_card_of_a_network_alone_says_nothing_that_is_not_known():
    front, body = read_yaml(model_card(small_net()))
    assert front == {"library_name": "spikewise", "tags": ["spiking-neural-network", "sew_resnet20"]}
    assert "sew_resnet20, ADD, IF neurons, T = 4" in body
    assert not [word for word in ("accuracy", "recipe", "energy", "licence", "input", "classes") if f"| {word}" in body]


def test_a_card_says_all_that_is_known():
    facts = TrainingFacts(
        recipe="`digits`, seed 3",
        correct=9,
        total=10,
        rates={"layer1.0": 0.125},
        energy={"spiking, float32": 3.25},
        samples=16,
        license="mit",
    )
    front, body = read_yaml(model_card(small_net(data="digits", class_names=("a|b", "c")), facts))
    assert (front["license"], front["datasets"], front["pipeline_tag"]) == ("mit", ["digits"], "image-classification")
    assert front["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.9}]
    for row in (
        r"| classes | a\|b, c |",
        "| test accuracy | 90.00 % (9 of 10) |",
        "| spikes per neuron and step | layer1.0 0.125, on 16 test samples |",
        "spiking, float32 3.25 µJ",
        "| licence | mit |",
        "`digits`, seed 3",
    ):
        assert row in body


def test_the_front_matter_is_yaml():
    yaml = pytest.importorskip("yaml")
    text = model_card(small_net(data="a: 'b' \"c\" ☃ 🦉 # d"), TrainingFacts(license="other"))
    expected, _ = read_yaml(text)
    assert yaml.safe_load(text.split("---\n")[1]) == expected


def test_a_card_is_written_anew_but_nobody_elses_file_is(tmp_path, caplog):
    save_pretrained(small_net(), tmp_path)
    save_pretrained(small_net(), tmp_path, facts=TrainingFacts(license="mit"))
    card = tmp_path / "README.md"
    assert 'license: "mit"' in card.read_text()
    card.write_text(card.read_text().replace(MARK, "") + "mine")
    save_pretrained(small_net(), tmp_path)
    assert card.read_text().endswith("mine")
    assert "kept as it is" in caplog.text


def test_parts_of_ones_own_are_called_by_their_names():
    def mine(a, s):
        return a + s

    assert "sew_resnet20, mine, IF neurons" in model_card(build_model("sew_resnet20", num_classes=2, connect=mine))


def test_recordings_bring_their_own_time_steps():
    assert "T = 4" not in model_card(build_model("sew_7b", num_classes=2))


def test_a_network_of_relu_is_not_called_spiking():
    front, body = read_yaml(model_card(build_model("resnet20", num_classes=2)))
    assert front["tags"] == ["resnet20"]
    assert "neurons" not in body


def test_a_network_with_another_head_has_a_card(tmp_path):
    net = small_net()
    net.fc = torch.nn.Linear(net.num_features, 5)
    save_pretrained(net, tmp_path)
    assert (tmp_path / "README.md").is_file()
