import dataclasses
import json
import time

import numpy as np
import pytest
import torch
from test_training import TINY, with_optim

from spikewise.config import Data
from spikewise.data import EpochSampler, EventDataset, rng_from
from spikewise.data.augment import random_crop, random_hflip, random_temporal_delete
from spikewise.data.events import Events
from spikewise.data.files import PathArray
from spikewise.engine.build import load_data
from spikewise.engine.loader import TestBatches, TrainingBatches, Waiting, load, number_of_workers, to_tensors
from spikewise.engine.loop import train
from spikewise.engine.step import Training

CPU = torch.device("cpu")


def batches_of(data=None, batch=TINY.optim.batch, **how):
    config = dataclasses.replace(with_optim(batch=batch), data=Data(name="digits", **how))
    samples = load_data(config, "train") if data is None else data
    return TrainingBatches(config, samples, trainer_order(config, samples))


def trainer_order(config, samples):
    return EpochSampler(len(samples.labels), config.optim.batch, config.seed)


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_batches(workers):
    batches = batches_of(shift=1, affine=0.1)
    alone = list(load(batches, range(3, 9), CPU, workers=0))
    shared = list(load(batches, range(3, 9), CPU, workers=workers))
    for (x, y), (other_x, other_y) in zip(alone, shared, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_losses(workers, tmp_path):
    config = with_optim(epochs=1)
    alone = train(config, tmp_path / "alone", quiet=True)
    shared = train(config, tmp_path / "shared", workers=workers, quiet=True)
    assert (alone.run / "metrics.jsonl").read_bytes() == (shared.run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    "how", [{"shift": 1}, {"affine": 0.1}, {"flip": True}, {"rotate": 30.0}, {"resized_crop": 0.5}], ids=str
)
def test_augmentation_depends_on_seed_epoch_and_sample_alone(how):
    batches, plain = batches_of(**how), batches_of()
    one = [batches.augmented(5, epoch).tobytes() for epoch in range(12)]
    assert one == [batches.augmented(5, epoch).tobytes() for epoch in range(12)]
    assert len(set(one)) > 1  # epochs differ
    moved = [not np.array_equal(batches.augmented(i, 0), plain.augmented(i, 0)) for i in range(20)]
    assert any(moved)
    other = TrainingBatches(dataclasses.replace(batches.config, seed=1), batches.data, batches.order)
    assert any(not np.array_equal(batches.augmented(i, 0), other.augmented(i, 0)) for i in range(20))
    assert np.array_equal(plain.augmented(5, 0), plain.data.sample(5))


def test_a_batch_holds_the_samples_of_its_step():
    batches = batches_of()
    indices = batches.order.batch_indices(7)
    images, labels = batches[7]
    assert torch.equal(labels, torch.from_numpy(batches.data.labels[indices]))
    assert all(np.array_equal(images[k].numpy(), batches.data.sample(int(i))) for k, i in enumerate(indices))


def test_test_batches_hold_every_sample_once_in_order():
    data = load_data(TINY, "test")
    test = TestBatches(data, 100)
    labels = torch.cat([labels for _, labels in load(test, range(len(test)), CPU, workers=0)])
    assert torch.equal(labels, torch.from_numpy(data.labels))


def test_frames_are_stacked_with_time_first():
    samples = [np.full((3, 2, 5, 5), k, dtype=np.float32) for k in range(4)]
    frames, _ = to_tensors(samples, np.arange(4))
    assert frames.shape == (3, 4, 2, 5, 5)
    assert frames[0, 2].unique().item() == 2


def test_random_temporal_delete_keeps_the_order_of_time():
    frames = np.arange(16)[:, None]
    kept = random_temporal_delete(frames, rng_from(1), 12)[:, 0]
    assert len(kept) == 12
    assert list(kept) == sorted(set(kept.tolist()))
    assert len({random_temporal_delete(frames, rng_from(k), 12).tobytes() for k in range(50)}) > 30
    with pytest.raises(ValueError, match="temporal_delete=17 frames of 16"):
        random_temporal_delete(frames, rng_from(1), 17)


class Numbered(EventDataset):
    """EventDataset whose frame t holds t."""

    def frames(self, index):
        return np.broadcast_to(np.arange(self.T, dtype=np.uint8)[:, None, None, None], (self.T, 2, 4, 4)).copy()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_random_temporal_delete_is_drawn_per_batch_or_per_sample(per):
    data = Numbered("numbered", range(256), np.zeros(256, dtype=np.int64), ("a",), T=16, read=None)
    batches = batches_of(data, num_frames=16, temporal_delete=12, temporal_delete_per=per)
    frames, _ = batches[0]
    chosen = {tuple(frames[:, n, 0, 0, 0].tolist()) for n in range(frames.shape[1])}
    assert frames.shape[0] == 12
    assert (len(chosen) == 1) == (per == "batch")
    assert not torch.equal(batches[1][0], frames)


def test_label_smoothing_reaches_the_loss():
    config = with_optim(label_smoothing=0.3)
    training = Training(config, load_data(config, "train"), CPU)
    samples, labels = TrainingBatches(config, training.data, training.order)[0]
    logits = training.net.train()(samples)
    log_p = torch.log_softmax(logits, 1)
    expected = -(0.7 * log_p[range(len(labels)), labels] + 0.3 * log_p.mean(1)).mean()
    assert training.step(samples, labels) == pytest.approx(float(expected.detach()), rel=1e-5)


def one_pixel(path):
    """A recording of as many events as the file has bytes, at a pixel that depends on the path."""
    n = path.stat().st_size
    x = np.full(n, sum(path.name.encode()) % 9, dtype=np.uint16)
    return Events(np.arange(n), x, np.zeros(n, dtype=np.uint16), np.arange(n).astype(np.uint8) % 2, (6, 9))


def some_recordings(folder, cache=None):
    names = [f"{k}.rec" for k in range(40)]
    for k, name in enumerate(names):
        (folder / name).write_bytes(b"x" * (2000 * (k % 3) + 7))
    return EventDataset("some", PathArray(folder, names), np.arange(40) % 3, tuple("abc"), 4, one_pixel, cache=cache)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_recordings_give_the_same_batches_kept_or_not_by_any_number_of_workers(workers, tmp_path):
    how = {
        "num_frames": 4,
        "shift": 1,
        "event_drop": 0.2,
        "polarity_flip": True,
        "rotate": 10.0,
        "temporal_delete": 3,
        "mixup": 0.4,
    }
    alone = batches_of(some_recordings(tmp_path), batch=16, **how)
    kept = batches_of(some_recordings(tmp_path, tmp_path / "kept"), batch=16, **how)
    last = None
    for step, (x, y) in enumerate(load(kept, range(5), CPU, workers)):
        expected_x, expected_y = alone[step]
        assert x.dtype == y.dtype == torch.float32
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)
        assert last is None or not torch.equal(x, last)
        last = x


def test_counts_travel_as_whole_numbers_and_arrive_as_float32(tmp_path):
    data = some_recordings(tmp_path)
    test = TestBatches(data, 16)
    assert test[0][0].dtype == torch.uint16  # 500 events at one pixel
    arrived = torch.cat([x for x, _ in load(test, range(len(test)), CPU, workers=0)], dim=1)
    assert arrived.dtype == torch.float32
    assert all(torch.equal(arrived[:, i], torch.from_numpy(data.sample(i))) for i in range(40))


@pytest.mark.parametrize("how", [{"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 1.0}], ids=str)
def test_mixed_targets_depend_on_seed_and_step_alone(how):
    batches = batches_of(**how)
    samples, targets = batches[7]
    assert targets.shape == (len(batches.order.batch_indices(7)), 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
    assert torch.equal(batches[7][0], samples)
    assert torch.equal(batches[7][1], targets)
    assert not torch.equal(batches[8][1], targets)
    shares = [float(batches[step][1].max(1).values.min()) for step in range(20)]
    assert len(set(shares)) > 5
    other = TrainingBatches(dataclasses.replace(batches.config, seed=1), batches.data, batches.order)
    assert not torch.equal(other[7][0], samples)


def test_with_both_mixes_a_batch_gets_one_or_the_other():
    config = dataclasses.replace(TINY, data=Data(mixup=0.3, cutmix=1.0))
    from spikewise.engine.loader import chosen_mix

    names = [chosen_mix(config.data, rng_from(k))[0].__name__ for k in range(200)]
    assert 70 < names.count("mixup") < 130  # 4 standard deviations
    assert names.count("mixup") + names.count("cutmix") == 200


def test_a_data_set_that_decodes_by_chance_gets_the_samples_generator():
    class Cropping:
        def __init__(self, data):
            self.data, self.labels, self.class_names = data, data.labels, data.class_names

        def sample(self, index):
            return self.data.sample(index)

        def random_sample(self, index, rng):
            return random_crop(self.sample(index), rng, (5, 5))

    plain = batches_of()
    batches = TrainingBatches(
        dataclasses.replace(plain.config, data=Data(flip=True)), Cropping(plain.data), trainer_order(plain.config, plain.data)
    )
    rng = rng_from(batches.config.seed, 2, 9, "augment")
    expected = random_hflip(random_crop(plain.data.sample(9), rng, (5, 5)), rng)
    assert np.array_equal(batches.augmented(9, 2), expected)
    assert TestBatches(batches.data, 4)[0][0].shape[-2:] == (8, 8)


def test_mixed_targets_reach_the_loss():
    config = dataclasses.replace(with_optim(label_smoothing=0.1), data=Data(mixup=0.5))
    training = Training(config, load_data(config, "train"), CPU)
    samples, targets = TrainingBatches(config, training.data, training.order)[0]
    log_p = torch.log_softmax(training.net.train()(samples), 1)
    expected = -((0.9 * targets + 0.1 / 10) * log_p).sum(1).mean()
    training.statistics.restore()
    assert training.step(samples, targets) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert 0 <= training.meter.correct <= training.meter.count == len(targets)


def test_training_with_mixed_targets_learns(tmp_path):
    config = dataclasses.replace(with_optim(epochs=2), data=Data(mixup=0.2, cutmix=1.0))
    run = train(config, tmp_path / "run", quiet=True).run
    first, last = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert last["train_loss"] < first["train_loss"]
    assert last["train_accuracy"] > 0


def test_the_time_waited_for_data_is_measured(tmp_path):
    class Slow:
        def __iter__(self):
            for number in range(3):
                time.sleep(0.02)
                yield number

    waiting = Waiting(iter(Slow()))
    assert list(waiting) == [0, 1, 2]
    assert waiting.seconds >= 0.06
    run = train(with_optim(epochs=2), tmp_path / "run", quiet=True).run
    for line in map(json.loads, (run / "timing.jsonl").read_text().splitlines()):
        assert 0 < line["data_wait_s"] < line["seconds"]


def test_the_number_of_workers_suits_the_device(monkeypatch):
    assert number_of_workers(None, CPU) == 0
    for cores, workers in ((1, 1), (2, 1), (4, 3), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid, cores=cores: set(range(cores)), raising=False)
        assert number_of_workers(None, torch.device("cuda")) == workers
    assert number_of_workers(5, CPU) == 5


class Broken:
    def __getitem__(self, number):
        raise ValueError(f"batch {number} is damaged")


def test_a_workers_error_arrives_as_it_was():
    with pytest.raises(ValueError, match=r"^batch 0 is damaged$"):
        next(load(Broken(), range(3), CPU, workers=1))
