"""Subsets of a split: whole data sets to whatever reads them."""

import dataclasses
import pickle

import numpy as np
import pytest

from spikewise.config import Config, Data
from spikewise.data.subset import Subset, draw_samples
from spikewise.engine.build import load_data, load_run_data
from spikewise.engine.loader import EvalBatches

IMAGES = Config(data=Data(name="digits"))
EVENTS = Config(data=Data(name="digits-events", num_frames=3))


@pytest.mark.parametrize("config", [IMAGES, EVENTS], ids=["images", "events"])
def test_a_subset_has_the_chosen_samples_in_their_order(config):
    whole, chosen = load_data(config, "test"), np.array([5, 2, 40])
    part = pickle.loads(pickle.dumps(Subset(whole, chosen)))
    assert part.labels.tolist() == whole.labels[chosen].tolist()
    for place, index in enumerate(chosen):
        np.testing.assert_array_equal(part.sample(place), whole.sample(index))
        if config is EVENTS:
            np.testing.assert_array_equal(part.frames(place), whole.frames(index))
            assert part.files[place] == whole.files[index]
    samples, _ = EvalBatches(part, 3)[0]
    assert samples.dtype == EvalBatches(whole, 3)[0][0].dtype, "counts stay integers on their way"


def test_runs_draw_by_their_seed_and_evaluation_takes_all():
    few = dataclasses.replace(IMAGES, data=dataclasses.replace(IMAGES.data, train_samples=100, test_samples=50))
    train, again, other = (load_run_data(config, "train") for config in (few, few, dataclasses.replace(few, seed=1)))
    assert len(set(train.indices.tolist())) == 100
    assert (np.diff(train.indices) > 0).all()
    assert train.indices.tolist() == again.indices.tolist() != other.indices.tolist()
    assert (len(load_run_data(few, "test")), len(load_data(few, "test"))) == (50, 359)


def test_more_samples_than_there_are():
    with pytest.raises(ValueError, match="has 359 samples, 360 were asked for"):
        draw_samples(load_data(IMAGES, "test"), 360, 0)
