"""Many processes, the same bits: whoever computes which shard, a run is the same run."""

import dataclasses
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from processes import in_processes
from tiny import CPU, TINY, begin, with_optim
from torch.nn.parallel import DistributedDataParallel

from spikewise.config import Data, Retention
from spikewise.engine import loop
from spikewise.engine.build import load_data
from spikewise.engine.distributed import ALONE, joined, require_same
from spikewise.engine.errors import NonFiniteError, RankLostError
from spikewise.engine.evaluate import evaluate, evaluate_network
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.loop import resume, train
from spikewise.engine.step import TrainState
from spikewise.models import build_model

FILES = ("metrics.jsonl", "probe.jsonl", "checkpoints/last/model.safetensors", "checkpoints/last/training.safetensors")
SHARDED = replace(
    with_optim(batch=24, lr_batch=24, shards=4, ema_decay=0.9),
    model=replace(TINY.model, num_blocks=1),
    retention=Retention(probe_every_steps=2, every_steps=2),
)


def few_samples(config, split, world=ALONE):
    """51 training images: the last of three batches has three samples, one shard, and most processes have none."""
    data = load_data(config, split, world)
    few = 51 if split == "train" else 44
    return replace(data, images=data.images[:few], labels=data.labels[:few])


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch):
    monkeypatch.setattr(loop, "load_data", few_samples)


def train_rank(rank, config, run, **options):
    return train(config, run, device="cpu", quiet=True, **options)


def resume_rank(rank, run, **options):
    return resume(run, device="cpu", quiet=True, **options)


def files_of(run):
    return [(run / name).read_bytes() for name in FILES if (run / name).exists()]


@pytest.mark.parametrize(
    "changes",
    [{}, {"class_weights": "balanced", "clip_grad_norm": 0.5, "optimizer": "adam", "lr": 0.01}, {"precision": "bfloat16"}],
    ids=["plain", "weighted, clipped, adam", "bfloat16"],
)
def test_one_two_three_and_four_processes_write_the_same_bytes(changes, tmp_path):
    config = with_optim(SHARDED, **changes)
    results = {1: train_rank(0, config, tmp_path / "1")}
    for size in (2, 3, 4) if not changes else (3,):
        answers = in_processes(size, train_rank, config, tmp_path / f"{size}")
        assert answers == [replace(results[1], run=tmp_path / f"{size}")] * size
    assert len({tuple(files_of(run)) for run in tmp_path.iterdir()}) == 1
    assert len(files_of(tmp_path / "1")) == len(FILES)


@pytest.mark.slow
def test_eight_processes_write_the_same_bytes_where_samples_are_mixed(tmp_path):
    config = replace(with_optim(SHARDED, batch=48, shards=8), data=Data(mixup=0.2, cutmix=1.0, affine=0.1))
    for size in (1, 2, 5, 8):
        in_processes(size, train_rank, config, tmp_path / f"{size}")
    assert len({tuple(files_of(run)) for run in tmp_path.iterdir()}) == 1


def test_a_run_that_changes_its_number_of_processes_is_the_same_run(tmp_path, capfd):
    config = with_optim(SHARDED, epochs=4)
    train_rank(0, config, tmp_path / "whole")
    run = tmp_path / "cut"
    for epoch, size in enumerate((3, 1, 4, 2), start=1):
        answers = in_processes(size, train_some if epoch == 1 else resume_some, config, run, epoch)
        assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert files_of(run) == files_of(tmp_path / "whole")
    environment = json.loads((run / "environment.json").read_text())
    assert [one["processes"] for one in (environment, *environment["resumed"])] == [3, 1, 4, 2]
    assert "processes 1 -> 4: the same run, bit for bit" in capfd.readouterr().err


def train_some(rank, config, run, epoch):
    return train(config, run, device="cpu", stop_epoch=epoch)


def resume_some(rank, config, run, epoch):
    return resume(run, device="cpu", stop_epoch=epoch)
