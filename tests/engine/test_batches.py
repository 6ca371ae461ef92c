import dataclasses

import numpy as np
import pytest
import torch
from test_training import TINY, with_optim

from spikewise.config import Data
from spikewise.data import generator
from spikewise.data.augment import temporal_delete
from spikewise.data.nmnist import Recordings
from spikewise.engine.batches import TestBatches, TrainingBatches, load, to_tensors
from spikewise.engine.build import load_data
from spikewise.engine.trainer import train
from spikewise.engine.training import Training

CPU = torch.device("cpu")


def batches_of(data=None, **how):
    config = dataclasses.replace(TINY, data=Data(name="digits", **how))
    samples = load_data(config, "train") if data is None else data
    return TrainingBatches(config, samples, trainer_order(config, samples))


def trainer_order(config, samples):
    from spikewise.data import Order

    return Order(len(samples.labels), config.optim.batch, config.seed)


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_batches(workers):
    batches = batches_of(shift=1, warp=0.1)
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


@pytest.mark.parametrize("how", [{"shift": 1}, {"warp": 0.1}, {"flip": True}], ids=str)
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
    indices = batches.order.indices(7)
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
    kept = temporal_delete(frames, generator(1), 12)[:, 0]
    assert len(kept) == 12
    assert list(kept) == sorted(set(kept.tolist()))
    assert len({temporal_delete(frames, generator(k), 12).tobytes() for k in range(50)}) > 30
    with pytest.raises(ValueError, match="temporal_delete=17 frames of 16"):
        temporal_delete(frames, generator(1), 17)


class Numbered(Recordings):
    """Recordings whose frame t holds t."""

    def sample(self, index):
        return np.broadcast_to(np.arange(self.T, dtype=np.float32)[:, None, None, None], (self.T, 2, 4, 4)).copy()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_random_temporal_delete_is_drawn_per_batch_or_per_sample(per):
    data = Numbered("numbered", (), np.zeros(256, dtype=np.int64), ("a",), T=16)
    batches = batches_of(data, frames=16, temporal_delete=12, temporal_delete_per=per)
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


class Broken:
    def __getitem__(self, number):
        raise ValueError(f"batch {number} is damaged")


def test_a_workers_error_arrives_as_it_was():
    with pytest.raises(ValueError, match=r"^batch 0 is damaged$"):
        next(load(Broken(), range(3), CPU, workers=1))
