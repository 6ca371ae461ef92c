"""Dropout in a run: drawn anew in every step, and the same after a stop; the caller's random numbers stay untouched."""

import pytest
import torch
from tiny import CPU, with_optim
from torch import nn

from spikewise.engine.chance import drawn_from
from spikewise.engine.loop import resume, train
from spikewise.engine.step import TrainState

CONFIG = with_optim(shards=2)


@pytest.fixture(autouse=True)
def _with_dropout(monkeypatch):
    """Networks of runs have dropout before their last layer, as those of modules that a user imports may."""
    build = TrainState.build_net

    def build_with_dropout(self):
        net = build(self)
        net.head = nn.Sequential(nn.Dropout(0.5), net.head)
        return net

    monkeypatch.setattr(TrainState, "build_net", build_with_dropout)


def test_a_stopped_run_draws_what_the_whole_one_drew(tmp_path):
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    train(CONFIG, tmp_path / "whole", quiet=True)
    assert torch.equal(torch.get_rng_state(), expected)
    train(CONFIG, tmp_path / "cut", quiet=True, stop_epoch=1)
    torch.manual_seed(99)
    resume(tmp_path / "cut", quiet=True)
    for file in ("metrics.jsonl", "checkpoints/last/model.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_every_shard_of_every_step_has_its_own_numbers():
    draws = {}
    for key in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)):
        with drawn_from(CPU, *key):
            draws[key] = torch.rand(4).tolist()
    assert len({tuple(values) for values in draws.values()}) == 4
    with drawn_from(CPU, 0, 1, 0):
        assert torch.rand(4).tolist() == draws[0, 1, 0]


def test_joint_norms_refuse_dropout(tmp_path):
    with pytest.raises(ValueError, match="a Dropout, draws at random"):
        train(with_optim(CONFIG, norm_over="batch"), tmp_path / "run", quiet=True)
