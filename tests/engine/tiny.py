"""A small network on the embedded digits, which trains in about a second, and what the tests of this folder share."""

import dataclasses
import json

import torch

from spikewise.config import Config, Data, Model, Optim
from spikewise.engine.build import load_data
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.step import TrainState

CPU = torch.device("cpu")
TINY = Config(
    recipe="tiny",
    data=Data(name="digits", shift=1),
    model=Model(name="sew_7b", neuron="IF", num_blocks=2, T=2),
    optim=Optim(lr=0.1, lr_batch=128, batch=128, epochs=2, warmup_epochs=0.5),
)


def with_optim(config=TINY, **changes):
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, **changes))


def begin(config=TINY):
    """A training before its first step, and its batches."""
    state = TrainState(config, load_data(config, "train"), CPU)
    return state, TrainingBatches(config, state.data, state.order)


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
