import contextlib
import dataclasses
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CPU, TINY, begin, json_lines, with_optim
from torch.utils.data import DataLoader

from spikewise.config import Data, Optim
from spikewise.data import EpochSampler, EventDataset, rng_from
from spikewise.data.augment import random_crop, random_hflip, random_temporal_delete
from spikewise.data.events.events import Events
from spikewise.data.files import PathArray
from spikewise.data.images.photographs import ImageFiles
from spikewise.engine import loader
from spikewise.engine.build import load_data
from spikewise.engine.loader import (
    EvalBatches,
    TimedIterator,
    TrainingBatches,
    choose_mix,
    iterate_batches,
    resolve_num_workers,
)
from spikewise.engine.loop import train


def training_batches(data=None, batch=TINY.optim.batch, seed=0, **augmentations):
    config = dataclasses.replace(with_optim(batch=batch), data=Data(name="digits", **augmentations), seed=seed)
    data = load_data(config, "train") if data is None else data
    return TrainingBatches(config, data, EpochSampler(len(data.labels), batch, TINY.seed))


def single_pixel_events(path):
    """A recording of as many events as the file has bytes, at a pixel that depends on the path."""
    n = path.stat().st_size
    x = np.full(n, sum(path.name.encode()) % 9, dtype=np.uint16)
    return Events(np.arange(n), x, np.zeros(n, dtype=np.uint16), np.arange(n).astype(np.uint8) % 2, (6, 9))


def recordings(folder, cache=None):
    names = [f"{k}.rec" for k in range(40)]
    for k, name in enumerate(names):
        (folder / name).write_bytes(b"x" * (2000 * (k % 3) + 7))
    return EventDataset("some", PathArray(folder, names), np.arange(40) % 3, tuple("abc"), 4, single_pixel_events, cache=cache)


EVENT_AUGMENTATIONS = {
    "num_frames": 4,
    "shift": 1,
    "event_drop": 0.2,
    "polarity_flip": True,
    "rotate": 10.0,
    "temporal_delete": 3,
    "mixup": 0.4,
}


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("kind", ["images", "recordings"])
def test_batches_depend_on_neither_workers_nor_the_cache(kind, workers, tmp_path):
    if kind == "images":
        expected = loaded = training_batches(shift=1, affine=0.1)
    else:
        expected = training_batches(recordings(tmp_path), batch=16, **EVENT_AUGMENTATIONS)
        loaded = training_batches(recordings(tmp_path, tmp_path / "kept"), batch=16, **EVENT_AUGMENTATIONS)
    seen = set()
    for step, (x, y) in enumerate(iterate_batches(loaded, range(5), CPU, workers)):
        assert all(map(torch.equal, (x, y), (expected[step][0].float(), expected[step][1])))
        seen.add(x.numpy().tobytes())
    assert len(seen) == 5


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_losses(workers, tmp_path):
    config = with_optim(epochs=1)
    alone = train(config, tmp_path / "alone", quiet=True)
    shared = train(config, tmp_path / "shared", workers=workers, quiet=True)
    assert (alone.run / "metrics.jsonl").read_bytes() == (shared.run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    "augmentation", [{"shift": 1}, {"affine": 0.1}, {"flip": True}, {"rotate": 30.0}, {"resized_crop": 0.5}], ids=str
)
def test_augmentation_depends_on_seed_epoch_and_sample_alone(augmentation):
    batches, plain, other = training_batches(**augmentation), training_batches(), training_batches(seed=1, **augmentation)
    one = [batches.augment_sample(5, epoch).tobytes() for epoch in range(12)]
    assert one == [batches.augment_sample(5, epoch).tobytes() for epoch in range(12)]
    assert len(set(one)) > 1  # epochs differ
    for different in (plain, other):
        assert any(not np.array_equal(batches.augment_sample(i, 0), different.augment_sample(i, 0)) for i in range(20))
    assert np.array_equal(plain.augment_sample(5, 0), plain.data.sample(5))


def test_a_batch_holds_the_samples_of_its_step():
    batches = training_batches()
    indices = batches.order.batch_indices(7)
    images, labels = batches[7]
    assert torch.equal(labels, torch.from_numpy(batches.data.labels[indices]))
    assert all(np.array_equal(images[k].numpy(), batches.data.sample(int(i))) for k, i in enumerate(indices))


def test_event_counts_travel_as_integers_and_arrive_as_float32_in_order(tmp_path):
    data = recordings(tmp_path)
    batches = EvalBatches(data, 16)
    assert batches[0][0].dtype == torch.uint16  # 500 events at one pixel
    samples, labels = zip(*iterate_batches(batches, range(len(batches)), CPU, workers=0), strict=True)
    assert torch.equal(torch.cat(labels), torch.from_numpy(data.labels))
    arrived = torch.cat(samples, dim=1)
    assert arrived.dtype == torch.float32
    assert all(torch.equal(arrived[:, i], torch.from_numpy(data.sample(i))) for i in range(40))


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
    batches = training_batches(data, num_frames=16, temporal_delete=12, temporal_delete_per=per)
    frames, _ = batches[0]  # [T, N, 2, 4, 4]
    choices = {tuple(frames[:, n, 0, 0, 0].tolist()) for n in range(frames.shape[1])}
    assert frames.shape[0] == 12
    assert (len(choices) == 1) == (per == "batch")
    assert not torch.equal(batches[1][0], frames)


@pytest.mark.parametrize(("smoothing", "mixup"), [(0.3, 0.0), (0.1, 0.5)], ids=["labels", "mixed"])
def test_label_smoothing_and_mixed_targets_reach_the_loss(smoothing, mixup):
    state, batches = begin(dataclasses.replace(with_optim(label_smoothing=smoothing), data=Data(mixup=mixup)))
    samples, labels = batches[0]
    targets = labels if mixup else torch.nn.functional.one_hot(labels, 10)
    log_p = torch.log_softmax(state.net.train()(samples), 1)
    expected = -(((1 - smoothing) * targets + smoothing / 10) * log_p).sum(1).mean()
    state.buffers.restore()
    assert state.step(samples, labels) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert 0 <= state.meter.correct <= state.meter.count == len(targets)


@pytest.mark.parametrize("mix", [{"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 1.0}], ids=str)
def test_mixed_targets_depend_on_seed_and_step_alone(mix):
    batches = training_batches(**mix)
    samples, targets = batches[7]
    assert targets.shape == (len(batches.order.batch_indices(7)), 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
    assert all(map(torch.equal, batches[7], (samples, targets)))
    assert not torch.equal(batches[8][1], targets)
    assert len({float(batches[step][1].max(1).values.min()) for step in range(20)}) > 5
    assert not torch.equal(training_batches(seed=1, **mix)[7][0], samples)


def test_with_both_mixes_a_batch_gets_one_or_the_other():
    names = [choose_mix(Data(mixup=0.3, cutmix=1.0), rng_from(k))[0].__name__ for k in range(200)]
    assert 70 < names.count("mixup") < 130  # 4 standard deviations
    assert names.count("mixup") + names.count("cutmix") == 200


def test_a_data_set_that_decodes_random_crops_gets_the_samples_generator():
    class Cropping:
        def __init__(self, data):
            self.data, self.labels, self.class_names = data, data.labels, data.class_names

        def sample(self, index):
            return self.data.sample(index)

        def random_sample(self, index, rng):
            return random_crop(self.sample(index), rng, (5, 5))

    data = Cropping(load_data(TINY, "train"))
    rng = rng_from(0, 2, 9, "augment")
    expected = random_hflip(random_crop(data.sample(9), rng, (5, 5)), rng)
    assert np.array_equal(training_batches(data, flip=True).augment_sample(9, 2), expected)
    assert EvalBatches(data, 4)[0][0].shape[-2:] == (8, 8)


def test_the_time_waited_for_data_is_measured(tmp_path):
    def slow():
        for number in range(3):
            time.sleep(0.02)
            yield number

    batches = TimedIterator(slow())
    assert list(batches) == [0, 1, 2]
    assert batches.seconds >= 0.06
    run = train(with_optim(epochs=2), tmp_path / "run", quiet=True).run
    for line in json_lines(run / "timing.jsonl"):
        assert 0 < line["data_wait_s"] < line["seconds"]


def test_the_number_of_workers_suits_the_device(monkeypatch):
    assert resolve_num_workers(None, CPU) == 0
    for cores, workers in ((1, 1), (2, 1), (4, 3), (64, 63)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid, cores=cores: set(range(cores)), raising=False)
        assert resolve_num_workers(None, torch.device("cuda")) == workers
    assert resolve_num_workers(5, CPU) == 5
    with pytest.raises(ValueError, match="workers=-1 is out of range"):
        resolve_num_workers(-1, CPU)


@pytest.mark.parametrize(("room", "fitting"), [(None, 3), (3, 3), (2.9, 2), (0.9, 0)])
def test_there_are_no_more_workers_than_shared_memory_has_room_for(room, fitting, tmp_path, monkeypatch, capsys):
    """And the run is the same."""
    needed = 2 * 2 * TINY.optim.batch * 8 * 8 * 4  # training and evaluation, two batches each, float32 of 8 x 8 pixels
    monkeypatch.setattr(loader, "free_shared_memory", lambda: None if room is None else int(room * needed))
    said = []
    assert loader.fit_workers(3, load_data(TINY, "train"), TINY.optim.batch, said.append) == fitting
    assert len(said) == (fitting < 3)
    if fitting == 0:
        started = []
        monkeypatch.setattr(
            loader, "DataLoader", lambda *args, **how: started.append(how["num_workers"]) or DataLoader(*args, **how)
        )
        train(with_optim(epochs=1), tmp_path / "run", workers=2)
        assert set(started) == {0}
        assert capsys.readouterr().err.count("this process loads the data itself") == 1


class Dying:
    def __getitem__(self, number):
        os.kill(os.getpid(), signal.SIGBUS)


def test_a_worker_that_dies_is_told_in_one_line():
    with pytest.raises(MemoryError, match=r"a process that loads data ended: .*--workers 0"):
        next(iterate_batches(Dying(), range(3), CPU, workers=1))


class Broken:
    def __getitem__(self, number):
        raise ValueError(f"batch {number} is damaged")


def test_a_workers_error_arrives_as_it_was():
    with pytest.raises(ValueError, match=r"^batch 0 is damaged$"):
        next(iterate_batches(Broken(), range(3), CPU, workers=1))


@pytest.mark.parametrize("changes", [{}, {"flip": True}, {"flip": True, "rotate": 10.0}, {"mixup": 0.2}])
@pytest.mark.parametrize("workers", [0, 1])
def test_photographs_travel_as_bytes_and_are_the_same_to_the_bit(changes, workers):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), np.uint8)
    opened = {"open": contextlib.nullcontext, "decode": Image.fromarray}
    data = ImageFiles("photographs", [*pixels], np.arange(6) % 2, ("a", "b"), size=16, **opened)
    config = dataclasses.replace(TINY, data=Data(name="image-folder", **changes), optim=Optim(batch=6, lr_batch=6))
    batches = TrainingBatches(config, data, EpochSampler(6, 6, 0))
    assert (batches.table is None) == bool({"rotate", "mixup"} & {*changes})
    ((samples, _),) = iterate_batches(batches, range(2, 3), CPU, workers)
    batches.table = None  # normalized before they travel
    ((expected, _),) = iterate_batches(batches, range(2, 3), CPU, 0)
    assert samples.dtype == torch.float32
    assert torch.equal(samples, expected)
    ((samples, _),) = iterate_batches(EvalBatches(data, 6), range(1), CPU, workers)
    assert torch.equal(samples, torch.stack([torch.from_numpy(data.sample(index)) for index in range(6)]))
