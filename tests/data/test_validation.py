"""The samples that are held out (E16), and each class equally often (E17)."""

import collections
import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
from checks import refuse
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.config import Config, Data
from spikewise.data import BalancedSampler, ImageArrays
from spikewise.data.events.windows import is_window, recording_of, window_name
from spikewise.data.files import PathArray
from spikewise.data.validation import choose_held_out, divided_recordings, split_validation
from spikewise.engine.build import load_run_data
from spikewise.engine.loader import TrainingBatches, build_order
from spikewise.engine.loop import describe_validation

names = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=2, max_size=40, unique=True)
recordings = st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.integers(1, 12), min_size=1, max_size=6)


def images(labels):
    labels = np.asarray(labels, np.int64)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ImageArrays("numbered", pixels, labels, tuple(map(str, range(labels.max() + 1))), max_pixel=1.0)


@given(names, st.floats(0.01, 0.99))
def test_a_share_of_files_is_held_out_in_the_order_of_a_hash(files, fraction):
    held_out = [files[i] for i in choose_held_out(files, fraction)]
    assert len(held_out) == min(max(1, round(fraction * len(files))), len(files) - 1)
    by_hash = sorted(files, key=lambda name: hashlib.blake2b(f"validation {name}".encode(), digest_size=8).digest())
    assert held_out == by_hash[: len(held_out)]
    assert {files[::-1][i] for i in choose_held_out(files[::-1], fraction)} == {*held_out}  # whatever their order


@given(recordings.filter(lambda found: sum(found.values()) > 1), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_windows_of_a_recording_stay_together_but_of_one_that_is_divided_once(lengths, fraction):
    files = [f"class/{window_name(name, number)}" for name, length in lengths.items() for number in range(length)]
    held_out = {files[i] for i in choose_held_out(files, fraction)}
    sides = {name: [f"class/{window_name(name, number)}" in held_out for number in range(n)] for name, n in lengths.items()}
    assert sum(len({*side}) > 1 for side in sides.values()) <= 1
    assert all(side == sorted(side) for side in sides.values())  # the last windows are held out


@pytest.mark.parametrize(
    ("lengths", "fraction", "divided"),
    [
        ({"a": {"x": 10, "y": 3}, "b": {"x": 2, "y": 9}}, 0.4, None),
        ({name: {"x": 5} for name in "abcdefghij"}, 0.1, 0),
        ({name: {"x": 5} for name in "abcdefghij"}, 0.13, 1),
        ({}, 0.2, 0),
    ],
)
def test_recordings_on_both_sides_are_counted(lengths, fraction, divided, tmp_path):
    windows = [f"{label}/{window_name(name, k)}" for name, of in lengths.items() for label, n in of.items() for k in range(n)]
    names = sorted(windows) + [f"z/{k}.npz" for k in range(9)]
    data = images([("x", "y", "z").index(name[0]) for name in names])
    object.__setattr__(data, "files", PathArray(tmp_path, names))
    train, held_out = split_validation(data, fraction)
    recordings = [{recording_of(names[i])[0] for i in part.indices if is_window(names[i])} for part in (train, held_out)]
    assert divided_recordings(held_out) == (len(recordings[0] & recordings[1]), len(lengths))
    assert divided is None or divided_recordings(held_out)[0] == divided
    said = describe_validation(held_out)
    assert ("on both sides" in said) == (len(recordings[0] & recordings[1]) > 0)


def test_names_of_windows_tell_their_recording():
    assert recording_of(f"train/cup/{window_name('a.b', 7)}") == ("a.b", 7)
    assert recording_of("cup/7.npz") == ("cup/7.npz", 0)
    assert [is_window(name) for name in (window_name("a", 1_234_567), "a.npz", "window-1.npz")] == [True, False, False]


@given(st.lists(st.integers(0, 3), min_size=20, max_size=80).filter(lambda found: min(map(found.count, range(4))) > 1))
@settings(deadline=None)
def test_each_class_gives_its_share_and_no_sample_is_on_both_sides(labels):
    data = images(labels)
    train, held_out = split_validation(data, 0.2)
    assert sorted([*train.indices, *held_out.indices]) == list(range(len(labels)))
    assert np.bincount(held_out.labels).tolist() == [max(1, round(0.2 * labels.count(label))) for label in range(4)]
    for part in (train, held_out):
        assert all(np.array_equal(part.sample(i), data.sample(k)) for i, k in enumerate(part.indices))
        assert [label for _, label in pickle.loads(pickle.dumps(part))] == data.labels[part.indices].tolist()


def test_a_class_of_one_sample_cannot_be_divided():
    refuse("the class 1 has one sample", split_validation, images([0, 0, 1]), 0.5)


def test_a_config_divides_the_training_split_alone():
    plain, config = (Config(data=Data(validation=share)) for share in (0.0, 0.1))
    assert len(load_run_data(config, "train")) + len(load_run_data(config, "validation")) == len(load_run_data(plain, "train"))
    assert len(load_run_data(config, "test")) == len(load_run_data(plain, "test"))


# Each class equally often ----------------------------------------------------------------------------------------------------

some_labels = st.lists(st.sampled_from([0, 0, 0, 0, 2, 5]), min_size=1, max_size=60)


@given(some_labels, st.data(), st.integers(0, 2**40))
@settings(deadline=None)
def test_each_class_is_visited_equally_often_in_every_epoch(labels, data, seed):
    order = BalancedSampler(np.array(labels), data.draw(st.integers(1, len(labels))), seed)
    rounds = collections.defaultdict(list)
    for epoch in range(4):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        visits = np.concatenate([order.batch_visits(step) for step in steps], axis=1)
        counts = collections.Counter(labels[i] for i in visits[0])
        assert {*counts.values()} == {-(-len(labels) // len({*labels}))}
        for index, number in sorted(map(tuple, visits.T.tolist()), key=lambda visit: visit[1]):
            rounds[index].append(number)
    for label in {*labels}:
        of_class = [i for i, other in enumerate(labels) if other == label]
        assert all(rounds[i] == list(range(len(rounds[i]))) for i in of_class)  # never twice in a round
        assert max(len(rounds[i]) for i in of_class) - min(len(rounds[i]) for i in of_class) <= 1


def test_the_balanced_order_is_a_function_of_seed_and_step():
    labels = np.array([0] * 30 + [1] * 3)
    once, again = BalancedSampler(labels, 5, seed=1), BalancedSampler(labels, 5, seed=1)
    forwards = [again.batch_visits(step) for step in range(30)]
    assert all(np.array_equal(once.batch_visits(step), forwards[step]) for step in (29, 3, 17, 3))
    assert not np.array_equal(BalancedSampler(labels, 5, seed=2).batch_visits(3), forwards[3])
    assert not np.array_equal(forwards[0], forwards[once.steps_per_epoch])
    assert BalancedSampler(labels, 5, seed=1).batch_indices(0).tolist() == [30, 15, 25, 32, 32]  # never changes


def test_a_sample_that_is_visited_twice_in_an_epoch_is_augmented_anew():
    config = Config(data=Data(sampling="balanced", shift=3))
    data = load_run_data(config, "train")
    rare = replace(data, labels=(np.arange(len(data)) > 2).astype(np.int64))
    batches = TrainingBatches(config, rare, build_order(config, rare))
    images_of_rare = [image.numpy().tobytes() for image, label in zip(*batches[0], strict=True) if label == 0]
    assert len(images_of_rare) > 90
    assert len({*images_of_rare}) > 60  # of 3 samples x 49 places
