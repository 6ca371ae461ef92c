"""Every data set is one that PyTorch's DataLoader and its tools take."""

import pickle

import encoders
import numpy as np
import pytest
import torch
from checks import refused
from image_files import image_set, write
from torch.utils.data import ConcatDataset, DataLoader, Subset

from spikewise.data import DATASETS
from spikewise.data.datasets.event_folder import event_folder
from spikewise.data.datasets.image_folder import image_folder
from spikewise.data.datasets.image_shards import image_shards, write_shards


def shards(folder):
    write_shards(image_set(folder / "images"), folder / "shards")
    return image_shards("train", folder / "shards", size=16)


def recordings(folder):
    for k in range(12):
        write(folder / "train" / str(k % 2) / f"{k}.aedat", encoders.aedat2(*encoders.random_events(50, seed=k)))
        write(folder / "test" / str(k % 2) / f"{k}.aedat", encoders.aedat2(*encoders.random_events(50, seed=k)))
    return event_folder("train", folder, T=2)


EVERY = {
    "arrays": lambda folder: DATASETS["digits"].load("test"),
    "photographs": lambda folder: image_folder("train", image_set(folder), size=16),
    "shards": shards,
    "recordings": recordings,
}


@pytest.mark.parametrize("kind", EVERY)
def test_a_data_set_is_a_sequence_of_tensors_and_labels(kind, tmp_path):
    data = EVERY[kind](tmp_path)
    items = list(data)  # ends by itself
    assert len(items) == len(data) == len(data.labels)
    for i, (x, label) in enumerate(items):
        assert type(label) is int
        assert (x.dtype, label) == (torch.float32, data.labels[i])
        assert torch.equal(x, torch.from_numpy(data.sample(i)))
    assert torch.equal(data[-1][0], items[-1][0])
    assert torch.equal(data[np.int64(1)][0], data[torch.tensor(1)][0])
    for beyond in (len(data), -len(data) - 1):
        with refused(f"sample {beyond} of {len(data)}; use -{len(data)} to {len(data) - 1}", IndexError):
            data[beyond]
    with pytest.raises(TypeError):
        data[1:3]
    assert data.class_names[items[0][1]]
    assert torch.equal(pickle.loads(pickle.dumps(data))[3][0], items[3][0])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", EVERY)
def test_a_plain_data_loader_takes_it(kind, workers, tmp_path):
    data = EVERY[kind](tmp_path)
    some = Subset(ConcatDataset([data, data]), range(len(data) - 2, len(data) + 3))
    (batch,) = DataLoader(some, batch_size=5, num_workers=workers)
    want = [data[i] for i in (-2, -1, 0, 1, 2)]
    assert torch.equal(batch[0], torch.stack([x for x, _ in want]))
    assert batch[1].tolist() == [label for _, label in want]
