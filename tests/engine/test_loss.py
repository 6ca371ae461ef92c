"""The losses, against plain sums; and a run that is trained and evaluated by the one that its config names."""

import pytest
import torch
from tiny import TINY, with_optim

from spikewise.config import Optim
from spikewise.engine.evaluate import evaluate
from spikewise.engine.loop import train
from spikewise.engine.loss import LOSSES
from spikewise.engine.run.folder import METRICS, read_lines


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "shares"])
def test_the_squared_error_is_a_plain_sum(smoothing, mixed):
    logits, labels = torch.rand(4, 3, dtype=torch.float64), torch.tensor([2, 0, 1, 1])
    shares = torch.tensor([[0.2, 0.0, 0.8], [1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]], dtype=torch.float64)
    total = 0.0
    for n in range(4):
        for c in range(3):
            share = float(shares[n, c]) if mixed else float(labels[n] == c)
            total += (float(logits[n, c]) - (share * (1 - smoothing) + smoothing / 3)) ** 2
    assert float(LOSSES["mse"](logits, shares if mixed else labels, smoothing)) == pytest.approx(total / 12, rel=1e-12)


def test_a_run_learns_and_is_scored_by_its_loss(tmp_path):
    config = with_optim(loss="mse", epochs=1)
    train(config, tmp_path / "mse", quiet=True)
    train(with_optim(epochs=1), tmp_path / "ce", quiet=True)
    by_mse, by_entropy = (read_lines(tmp_path / name / METRICS)[0] for name in ("mse", "ce"))
    assert by_mse["train_loss"] != by_entropy["train_loss"]
    assert evaluate(tmp_path / "mse").loss == pytest.approx(by_mse["test_loss"], rel=1e-6)
    assert TINY.optim.loss == "cross_entropy"


def test_class_weights_are_of_the_cross_entropy():
    with pytest.raises(ValueError, match=r"optim.class_weights='balanced' is out of range; use none with optim.loss=mse"):
        Optim(loss="mse", class_weights="balanced")
