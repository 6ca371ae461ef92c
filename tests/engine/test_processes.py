"""Many processes, the same bits: whoever computes which shard, a run is the same run."""

import copy
import json
import os
import re
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from processes import in_processes
from tiny import CPU, TINY, begin, with_optim
from torch.nn.parallel import DistributedDataParallel

from spikewise.config import Data, Model, Retention
from spikewise.data.datasets.image_shards import write_shards
from spikewise.data.images import shards
from spikewise.engine import build, loop
from spikewise.engine.build import load_data
from spikewise.engine.distributed import ALONE, MESSAGE, joined
from spikewise.engine.errors import NonFiniteError, RankLostError
from spikewise.engine.evaluate import evaluate_network
from spikewise.engine.loader import ShardBatches, TrainingBatches
from spikewise.engine.loop import resume, train
from spikewise.engine.non_finite import BufferSnapshot
from spikewise.engine.run import folder
from spikewise.engine.step import TrainState

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
    monkeypatch.setattr(loop, "load_run_data", few_samples)


def train_rank(rank, config, run, **options):
    return train(config, run, device="cpu", quiet=True, **options)


def resume_rank(rank, run, **options):
    return resume(run, device="cpu", quiet=True, **options)


def files_of(run):
    return [(run / name).read_bytes() for name in FILES if (run / name).exists()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_weights": "balanced", "clip_grad_norm": 0.5, "optimizer": "adam", "lr": 0.01},
        {"precision": "bfloat16"},
        {"norm_over": "batch"},
        {"norm_over": "batch", "precision": "bfloat16"},
    ],
    ids=["plain", "weighted, clipped, adam", "bfloat16", "norms over the batch", "norms over the batch, bfloat16"],
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


def test_with_sums_in_float32_the_number_of_processes_matters_and_that_is_said(tmp_path, capfd):
    config = with_optim(SHARDED, gradient_sum="float32")
    in_processes(2, train_some, config, tmp_path / "run", 1)
    resume_some(0, config, tmp_path / "run", 2)
    assert "different setup (processes 2 -> 1): no longer bit-identical" in capfd.readouterr().err


def score_rank(rank, size):
    state, _ = begin()
    with joined(CPU) as world:
        seen = []
        state.net.register_forward_hook(lambda _net, _args, out: seen.append(len(out)))
        return evaluate_network(state.net, few_samples(TINY, "test"), CPU, batch=5, world=world), sum(seen)


@pytest.mark.parametrize("size", [2, 3, 12])
def test_an_evaluation_sees_every_sample_once_and_is_exact_for_any_number_of_processes(size):
    alone, total = score_rank(0, 1)
    scores, counts = zip(*in_processes(size, score_rank, size), strict=True)
    assert set(scores) == {alone}
    assert sum(counts) == total == 44


def fail_at_step_one(rank, config, run, kind):
    make = TrainingBatches.make

    def broken(self, step, indices, part):
        samples, labels = make(self, step, indices, part)
        if (rank, step) == (1, 1):
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "data":
                raise ValueError("a file is damaged")
            samples[0] = torch.nan
        return samples, labels

    TrainingBatches.make = broken
    start = time.monotonic()
    try:
        train_rank(rank, config, run)
    except Exception as error:
        return error, time.monotonic() - start
    return None


def test_what_is_not_finite_in_one_process_ends_all_and_that_one_says_where(tmp_path):
    errors = [error for error, _ in in_processes(3, fail_at_step_one, SHARDED, tmp_path / "run", "nan")]
    assert all(isinstance(error, NonFiniteError) for error in errors)
    assert ["samples themselves are not finite" in str(error) for error in errors] == [False, True, False]
    assert "the loss of another rank is not finite at step 1" in str(errors[0])


@pytest.mark.parametrize("kind", ["data", "killed"])
def test_a_process_that_fails_or_is_killed_ends_the_others_in_words(kind, tmp_path):
    answers = in_processes(3, fail_at_step_one, SHARDED, tmp_path / "run", kind)
    for rank in (0, 2):
        assert isinstance(answers[rank][0], RankLostError)
        assert answers[rank][1] < 30
    assert answers[1] is None if kind == "killed" else "a file is damaged" in str(answers[1][0])


def step_under_scaler(rank, size, norm_over):
    """Three steps with a loss scaler; in the second one sample's gradient overflows, and the step is skipped."""
    with joined(CPU) as world:
        state = TrainState(with_optim(SHARDED, norm_over=norm_over), few_samples(SHARDED, "train"), CPU, world=world)
        state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
        batches = ShardBatches(TrainingBatches(SHARDED, state.data, state.order), rank, size)
        for step in range(3):
            overflows = step == 1 and rank == size - 1
            net = state.lockstep.first if state.joint_norms else state.net
            hook = net.head.weight.register_hook(lambda g: g * torch.inf if overflows else g)  # noqa: B023  # removed below
            state.step_shards(batches[step])
            hook.remove()
        return state.scaler.get_scale(), [p.detach().numpy() for p in state.net.parameters()]


@pytest.mark.parametrize("norm_over", ["shard", "batch"])
def test_an_overflow_in_one_process_skips_the_step_in_all(norm_over):
    scale, alone = step_under_scaler(0, 1, norm_over)
    assert scale == 2.0**15
    for answer in in_processes(2, step_under_scaler, 2, norm_over):
        assert answer[0] == scale
        assert all(map(np.array_equal, answer[1], alone))


def other_seed(rank, run):
    return train_rank(rank, replace(SHARDED, seed=rank // 2), run)


def other_labels(rank, run):
    def load(config, split, world):
        data = few_samples(config, split)
        return replace(data, labels=data.labels[::-1].copy()) if rank == 1 else data

    loop.load_run_data = load
    return train_rank(rank, SHARDED, run)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (other_seed, r"rank 2 differs from rank 0: seed 0 -> 1; start all processes with the same"),
        (other_labels, r"rank 1 differs from rank 0: labels '\w+' -> '\w+'"),
    ],
)
def test_processes_that_see_different_things_are_refused_by_all(function, message, tmp_path):
    for error in in_processes(3, function, tmp_path / "run"):
        assert isinstance(error, ValueError)
        assert re.search(message, str(error))
    assert not (tmp_path / "run").exists()


def on_another_processor(rank, config, run):
    name = folder.cpu_name()
    folder.cpu_name = lambda: name if rank == 0 else "Another CPU"
    return train_some(rank, config, run, 1)


def test_a_rank_on_another_processor_is_told_in_a_line(tmp_path, capfd):
    results = in_processes(2, on_another_processor, SHARDED, tmp_path / "run")
    assert not [result for result in results if isinstance(result, Exception)]
    assert (
        re.findall(r"rank 1 differs from rank 0: cpu '.*' -> 'Another CPU': right, but another", capfd.readouterr().err) != []
    )


def test_more_processes_than_shards_are_refused(tmp_path):
    for error in in_processes(2, train_rank, with_optim(SHARDED, shards=1), tmp_path / "run"):
        assert "2 processes for optim.shards=1" in str(error)
        assert "set --optim.shards to 2 or more (a divisor of optim.batch=24)" in str(error)


@pytest.mark.parametrize(
    ("variables", "error", "message"),
    [
        ({"RANK": None}, ValueError, "RANK is not set, and WORLD_SIZE is; start with torchrun"),
        ({"RANK": "two"}, ValueError, "RANK is 'two'"),
        ({"RANK": "2"}, ValueError, "RANK=2 is out of range; use 0 to 1"),
        ({"MASTER_PORT": None}, ValueError, "MASTER_PORT is not set"),
        ({}, OSError, r"the port of localhost:\d+ is in use by another program"),
    ],
)
def test_variables_that_do_not_fit_are_named(variables, error, message, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        fitting = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(taken.getsockname()[1])}
        for name, value in (fitting | variables).items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        with pytest.raises(error, match=message), joined(CPU):
            pass


def exchange(rank):
    with joined(CPU) as world:
        own = torch.zeros(world.size, dtype=torch.float64)
        own[rank] = 0.1 * (rank + 1)
        copies = [torch.full((2, 3), rank + 0.5).to(memory_format=torch.contiguous_format), torch.tensor(rank)]
        world.broadcast(copies)
        sums = [torch.full((3, 2, 2, 2), rank + 1).to(memory_format=torch.channels_last), torch.tensor([2**40 + rank])]
        sums.append(torch.arange(3 * MESSAGE).view(3, 2, 1, -1).contiguous(memory_format=torch.channels_last))
        world.sum_all(sums)
        texts = world.gather(b"x" * rank), world.tell(lambda: f"of {rank}")
        arrays = world.share(["a", "bb", "ccc", "dddd"], lambda word: {"length": np.array([len(word)]), "by": np.array(rank)})
        return world.join(own).tolist(), copies, sums, texts, [(int(x["length"][0]), int(x["by"])) for x in arrays]


def test_collective_calls_give_every_process_the_same():
    for joint, copies, sums, texts, arrays in in_processes(3, exchange):
        assert joint == [0.1, 0.2, 0.1 * 3]
        assert torch.equal(copies[0], torch.full((2, 3), 0.5)) and int(copies[1]) == 0
        assert torch.equal(sums[0], torch.full((3, 2, 2, 2), 6)) and int(sums[1]) == 3 * 2**40 + 3
        assert torch.equal(sums[2], 3 * torch.arange(3 * MESSAGE).view_as(sums[2]))
        assert texts == ([b"", b"x", b"xx"], "of 0")
        assert arrays == [(1, 0), (2, 1), (3, 2), (4, 0)]


def in_double(config, world=ALONE):
    """A training in float64, and the shards of this process's first step."""
    data = load_data(config, "train", world)
    state = TrainState(config, data, CPU, world=world)
    state.net.double()
    state.buffers, state.first_shard = BufferSnapshot(state.net), BufferSnapshot(state.net)
    batches = ShardBatches(TrainingBatches(config, data, state.order), world.rank, world.size)
    return state, [(samples.double(), labels) for samples, labels in batches[0]]


def numbers_of(net):
    return [p.grad.numpy() for p in net.parameters()], [buffer.numpy() for buffer in net.buffers()]


def plain_parallel(rank, config):
    """What DistributedDataParallel makes of one batch, each process with its shard: gradients, and running statistics."""
    with joined(CPU) as world:
        state, [(samples, labels)] = in_double(config, world)
        parallel = DistributedDataParallel(state.net.train())
        F.cross_entropy(parallel(samples), labels).backward()
        del parallel  # before the group that it holds
        return numbers_of(state.net)


@pytest.mark.parametrize(
    ("model", "seed", "shards", "size"),
    [
        (Model(name="sew_7b", neuron="PLIF", num_blocks=1, T=2), 0, 4, 3),
        (Model(name="spiking_resnet20", T=2, v_th=0.5), 1, 2, 4),
        pytest.param(Model(name="sew_resnet20", connect="IAND", T=2), 2, 5, 6, marks=pytest.mark.slow),
        pytest.param(Model(name="ms_resnet20", T=2), 3, 3, 8, marks=pytest.mark.slow),
        pytest.param(Model(name="sew_resnet20", T=2), 0, 8, 32, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_shards_are_a_plain_distributed_data_parallel(model, seed, shards, size):
    """In float64, gradients and running statistics to 1e-12 of each tensor's largest value, as the published recipes train:
    one process with all shards beside as many processes, rank 0's statistics.
    """
    config = replace(with_optim(batch=shards * size, shards=shards, momentum=0.0), model=model, seed=seed)
    state, parts = in_double(config)
    state.step_shards(parts)
    assert [len(labels) for _, labels in parts] == [size] * shards
    plain = in_processes(shards, plain_parallel, config)[0]
    for ours, theirs in zip(numbers_of(state.net), plain, strict=True):
        assert any(np.abs(x).max() > 1e-4 for x in theirs)
        for found, right in zip(ours, theirs, strict=True):
            assert np.abs(found - right).max() <= 1e-12 * np.abs(right).max()


def ddp_gradients(rank, checkpointing):
    """Gradients of a user's own loop in float64, and the plain mean of those of each process's samples."""
    state, _ = begin()
    net = state.net.double().train()
    net.checkpointing = checkpointing
    frames, labels = torch.rand(3, 8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    plain = []
    for part in (slice(0, 4), slice(4, 8)):
        alone = copy.deepcopy(net)
        F.cross_entropy(alone(frames[:, part]), labels[part]).backward()
        plain.append([p.grad for p in alone.parameters()])
    with joined(CPU):
        part = slice(4 * rank, 4 * rank + 4)
        parallel = DistributedDataParallel(net)
        F.cross_entropy(parallel(frames[:, part]), labels[part]).backward()
        del parallel  # before the group that it holds
    return [(p.grad, (a + b) / 2) for p, a, b in zip(net.parameters(), *plain, strict=True)]


@pytest.mark.parametrize("checkpointing", ["none", "block"])
def test_distributed_data_parallel_around_our_networks_is_the_plain_mean(checkpointing):
    for pairs in in_processes(2, ddp_gradients, checkpointing):
        assert any(expected.abs().max() > 1e-4 for _, expected in pairs)
        for found, expected in pairs:
            assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_data_parallel_is_refused_where_it_would_cut_time():
    net = begin()[0].net
    frames = torch.rand(3, 2, 1, 8, 8)
    assert torch.equal(torch.nn.DataParallel(net)(frames), net(frames))  # without GPUs it only calls the network
    with pytest.raises(ValueError, match=r"DataParallel cuts its input along axis 0.*use DistributedDataParallel"):
        net._replicate_for_data_parallel()


def shard_reader(rank, root, log):
    scan = shards.scan_shard

    def noted(shard):
        with log.open("a") as file:
            file.write(f"{Path(shard).name}\n")
        return scan(shard)

    shards.scan_shard = noted
    config = replace(TINY, data=Data(name="image-shards", root=str(root), size=16))
    with joined(CPU) as world:
        data = build.load_data(config, "train", world)
        return data.labels.tolist(), [str(entry) for entry in data.files]


def test_each_tar_file_is_opened_by_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEWISE_CACHE", str(tmp_path / "cache"))
    for split, number in (("train", 12), ("val", 2)):
        for i in range(number):
            folder = tmp_path / "images" / split / f"class{i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    write_shards(tmp_path / "images", tmp_path / "shards", megabytes=1)
    tars = sorted(path.name for path in (tmp_path / "shards").glob("train-*.tar"))
    assert len(tars) > 3
    answers = in_processes(3, shard_reader, tmp_path / "shards", tmp_path / "log")
    assert sorted((tmp_path / "log").read_text().split()) == tars
    assert answers == [shard_reader(0, tmp_path / "shards", tmp_path / "log")] * 3
