"""Figures and equations that need no data: the paper's claims hold, and the pages can be read."""

import json

import pytest

from spikewise.analysis.block_stats import BlockStats
from spikewise.cli.main import main
from spikewise.paper import UNTRAINED, Options
from spikewise.paper.published_logs import read_published_logs
from spikewise.paper.untrained import format_growths, mean_area_growth


@pytest.mark.parametrize(
    ("name", "holds"), [("fig3", [True] * 3), ("fig9", [True]), ("eq10", [True] * 2), ("eq15", [True, False]), ("a5", [True])]
)
def test_claims_about_equations_and_logs(name, holds, tmp_path, capsys):
    assert main(["reproduce", name, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert result["command"] == f"spikewise reproduce {name}"
    assert [list(claim) for claim in result["claims"]] == [["statement", "holds", "evidence"]] * len(holds)
    assert [claim["holds"] for claim in result["claims"]] == holds
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".svg", ".png"}
    page = (tmp_path / f"{name}.md").read_text()
    assert f"![{result['title']}]({name}.svg)" in page
    assert ("**otherwise**" in page) == (not all(holds))
    assert result["title"] in capsys.readouterr().out


def test_the_published_numbers():
    runs = read_published_logs()
    best = {name: max(epoch["test_acc1"] for epoch in epochs) for name, epochs in runs.items()}
    assert (best["sew_resnet18"], best["sew_resnet152"], best["spiking_resnet152"]) == (63.182, 69.262, 10.028)
    assert len(runs["sew_resnet34"]) == 320


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fig5", "fig6", "fig7", "fig8"])
def test_claims_about_152_layers_hold(name, tmp_path):
    result = UNTRAINED[name](Options())
    assert all(claim.holds for claim in result.claims), result.claims
    assert len(result.rows) == 1 + 8 * 50
    result.save(tmp_path, "")


@pytest.mark.slow
def test_with_few_values_for_its_norms_spiking_grows_and_the_page_says_why():
    """64 values per channel and time step in the longest area, not 392."""
    result = UNTRAINED["fig6"](Options(size=64, batch=4))
    failed = [claim.statement for claim in result.claims if not claim.holds]
    assert failed == ["Spiking without zero init decays towards shallow blocks"]
    assert "too few values for its batch norms" in result.text


@pytest.mark.parametrize(
    ("gradients", "growth", "text"),
    [
        ([4.0, 2.0, 1.0], 4.0, "by 4 per area (4)"),
        ([0.1, 0.2, 1.0], 0.1, "by 0.1 per area (0.1)"),
        ([0.0, 0.0, 1.0], 0.0, "by 0 per area (0)"),
    ],
)
def test_growth_is_counted_towards_shallow_blocks(gradients, growth, text):
    area = [BlockStats(str(i), False, 0.2, 0.2, gradient, 1.0) for i, gradient in enumerate(gradients)]
    assert mean_area_growth(area) == pytest.approx(growth)
    assert format_growths(area) == text
