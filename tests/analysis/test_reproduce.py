"""Figures by one command: what is measured is what a plain calculation gives; what is left behind can be read."""

import json

import pytest
import torch
import torch.nn.functional as F

from spikewise.analysis.initial import BlockAtStart, identity_areas, measure
from spikewise.analysis.pictures import pictures
from spikewise.cli.main import main
from spikewise.models import build_model
from spikewise.paper import FIGURES, Options
from spikewise.paper.at_start import growth, per_area
from spikewise.paper.logs import published


@pytest.mark.parametrize("name", ["sew_resnet20", "spiking_resnet20"])
def test_rates_and_gradients_are_those_of_a_plain_calculation(name):
    """By retain_grad on the inputs of the blocks, and means of their outputs, in a copy."""
    net = build_model(name, num_classes=10, in_channels=1, T=3)
    images, labels = torch.rand(6, 1, 12, 12), torch.arange(6)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = measure(net.eval(), images, labels)
    assert not net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    inputs, outputs = [], []
    for block in net.blocks.values():
        block.register_forward_pre_hook(lambda _block, given: inputs.append(given[0]))
        block.register_forward_hook(lambda _block, _given, out: outputs.append(out))
    loss = F.cross_entropy(net.train()(images), labels)
    gradients = torch.autograd.grad(loss, inputs)
    assert [block.name for block in found] == list(net.blocks)
    for block, gradient, output in zip(found, gradients, outputs, strict=True):
        assert block.gradient == pytest.approx(float(gradient.norm()), rel=1e-5)
        assert block.output == pytest.approx(float(output.detach().mean()), rel=1e-6)
        if name.startswith("spiking"):
            assert block.branch == block.output
    assert [len(area) for area in identity_areas(found)] == [3, 2, 2]


def test_a_relu_network_has_neither():
    with pytest.raises(ValueError, match="a ReLU network does not spike"):
        measure(
            build_model("resnet20", num_classes=10, in_channels=1), torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
        )


@pytest.mark.parametrize("name", ["fig3", "fig9", "eq15", "a5"])
def test_what_the_paper_says_of_equations_and_logs_holds(name, tmp_path, capsys):
    assert main(["reproduce", name, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["command"] == f"spikewise reproduce {name}"
    assert [claim["holds"] for claim in found["claims"]] == {"eq15": [True, False], "fig3": [True] * 3}.get(name, [True])
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".svg", ".png"}
    page = (tmp_path / f"{name}.md").read_text()
    assert f"![{found['title']}]({name}.svg)" in page
    assert "**otherwise**" in page if name == "eq15" else "**otherwise**" not in page
    assert found["title"] in capsys.readouterr().out


def test_the_published_numbers():
    runs = published()
    best = {name: max(epoch["test_acc1"] for epoch in epochs) for name, epochs in runs.items()}
    assert (best["sew_resnet18"], best["sew_resnet152"], best["spiking_resnet152"]) == (63.182, 69.262, 10.028)
    assert len(runs["sew_resnet34"]) == 320


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fig5", "fig6", "fig7", "fig8"])
def test_what_the_paper_says_of_152_layers_holds(name, tmp_path):
    result = FIGURES[name](Options())
    assert all(claim.holds for claim in result.claims), result.claims
    assert len(result.rows) == 1 + 8 * 50
    result.save(tmp_path, "")


@pytest.mark.slow
def test_with_few_values_for_its_norms_spiking_grows_and_the_page_says_why():
    """64 values per channel and time step in the longest area, not 392."""
    result = FIGURES["fig6"](Options(size=64, batch=4))
    assert [claim.says for claim in result.claims if not claim.holds] == [
        "Spiking without zero init decays towards shallow blocks"
    ]
    assert "too few values for its batch norms" in result.about


def identity_area(gradients):
    """One area, of blocks with these gradients."""
    return [BlockAtStart(str(i), False, 0.2, 0.2, gradient, 1.0) for i, gradient in enumerate(gradients)]


def test_growth_is_counted_towards_shallow_blocks():
    assert growth(identity_area([4.0, 2.0, 1.0])) == pytest.approx(4.0)
    assert growth(identity_area([0.1, 0.2, 1.0])) == pytest.approx(0.1)
    assert growth(identity_area([0.0, 0.0, 1.0])) == 0.0
    assert per_area(identity_area([4.0, 1.0])) == "by 4 per area (4)"


def test_photographs_are_taken_from_a_folder(tmp_path):
    from PIL import Image

    for i in range(3):
        Image.new("RGB", (60 + i, 50), (255, 128, 0)).save(tmp_path / f"{i}.jpg")
    found = pictures(tmp_path, size=32, batch=3)
    assert found.shape == (3, 3, 32, 32)
    assert found[0, 0].mean() == pytest.approx((1 - 0.485) / 0.229, abs=0.05)
    with pytest.raises(ValueError, match="holds 3 photographs, 8 are needed"):
        pictures(tmp_path, size=32, batch=8)
    assert pictures(None, size=32, batch=2, in_channels=1).shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fig99"], "nothing named 'fig99' to reproduce; use list, all, trained, fig3, fig5"),
        (["fig5", "--size", "8"], "size=8 pixels; 152 layers halve an image five times: use 32 or more"),
        (["fig5", "--batch", "1"], "batch=1; batch norm needs 2 or more images"),
    ],
)
def test_mistakes_are_a_line(options, message, capsys):
    assert main(["reproduce", *options]) == 2
    assert message in capsys.readouterr().err
    assert main(["reproduce"]) == 0
    assert "fig5         Fig. 5: firing rates" in capsys.readouterr().out
