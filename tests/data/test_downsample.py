"""Events on a smaller canvas: E15 against a plain loop, the loop in C against its definition, and what networks are shown."""

from unittest import mock

import numpy as np
import pytest
from checks import as_events, columns, refuse, require_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.cli.main import main
from spikewise.config import Config, Data
from spikewise.data.events import read_events, write_events
from spikewise.data.events.downsample import crop_box, downsample
from spikewise.data.events.frames import frames_by_count
from spikewise.data.input_spec import InputSpec
from spikewise.engine.build import load_data, load_or_placeholder
from spikewise.native import load as native

sides = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def crops(draw, sensor):
    top, left = draw(st.integers(0, sensor[0] - 1)), draw(st.integers(0, sensor[1] - 1))
    height, width = draw(st.integers(1, sensor[0] - top)), draw(st.integers(1, sensor[1] - left))
    return draw(st.sampled_from(["none", "centre", (top, left, height, width)]))


@st.composite
def views(draw):
    sensor = draw(sides)
    return sensor, draw(st.one_of(st.none(), sides, st.integers(1, 40))), draw(crops(sensor))


def every_pixel(sensor, times=1):
    """An event in each pixel, mixed."""
    y, x = np.divmod(np.random.default_rng(0).permutation(np.repeat(np.arange(sensor[0] * sensor[1]), times)), sensor[1])
    return as_events(np.arange(len(x)), x, y, (x + y) % 2, sensor)


def by_hand(sensor, size, crop):
    """E15 with fractions: where each pixel of the sensor goes, (row, column) by (row, column)."""
    canvas = (size, size) if isinstance(size, int) else size
    top, left, height, width = (0, 0, *sensor) if isinstance(crop, str) else crop
    if crop == "centre" and canvas:
        height = min(sensor[0], max(1, sensor[1] * canvas[0] // canvas[1]))
        width = min(sensor[1], max(1, sensor[0] * canvas[1] // canvas[0]))
        top, left = (sensor[0] - height) // 2, (sensor[1] - width) // 2
    canvas = canvas or (height, width)
    new_height = min(height, canvas[0], max(1, height * canvas[1] // width))
    new_width = min(width, canvas[1], max(1, width * canvas[0] // height))
    if crop == "centre":
        new_height, new_width = min(height, canvas[0]), min(width, canvas[1])
    places = {}
    for y in range(top, top + height):
        for x in range(left, left + width):
            row, column = (y - top) * new_height // height, (x - left) * new_width // width
            places[y, x] = row + (canvas[0] - new_height) // 2, column + (canvas[1] - new_width) // 2
    return canvas, places


@given(views())
@settings(max_examples=80, deadline=None)
def test_each_event_goes_where_the_equation_says(view):
    sensor, size, crop = view
    events, (canvas, places) = every_pixel(sensor), by_hand(*view)
    kept = [i for i, place in enumerate(zip(events.y.tolist(), events.x.tolist(), strict=True)) if place in places]
    y, x = zip(*[places[int(events.y[i]), int(events.x[i])] for i in kept], strict=True)
    seen = downsample(events, size, crop)
    require_equal(seen, events.t[kept], x, y, events.polarity[kept])
    assert seen.size == canvas


@given(views(), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_counts_add_up_to_the_events_inside_the_crop(view, T):
    sensor, size, crop = view
    events = every_pixel(sensor, times=2)
    top, left, height, width = crop_box(sensor, (size, size) if isinstance(size, int) else size, crop)
    inside = frames_by_count(events, 1)[0, :, top : top + height, left : left + width]
    frames = frames_by_count(downsample(events, size, crop), T)
    assert frames.sum((0, 2, 3)).tolist() == inside.sum((1, 2)).tolist()
    assert crop != "none" or frames.sum() == len(events)


@pytest.mark.skipif(bool(native.unavailable_reason()), reason=native.unavailable_reason())
@pytest.mark.parametrize("variant", native.supported_variants())
@given(view=views())
@settings(max_examples=40, deadline=None)
def test_the_loop_in_c_equals_its_definition(variant, view):
    events = every_pixel(view[0])
    with mock.patch.object(native, "unavailable_reason", return_value="not in this test"):
        want = downsample(events, *view[1:])
    with mock.patch.object(native, "selected_variant", return_value=variant):
        for in_place in (False, True):  # the second changes `events`, where its arrays lie without gaps
            given = events if in_place else every_pixel(view[0])
            got = downsample(given, *view[1:], in_place=in_place)
            require_equal(got, *columns(want))
            assert got.size == want.size
            assert not np.shares_memory(got.x, given.x) or in_place or got is given


def test_the_sensor_itself_is_the_recording_itself():
    events = every_pixel((6, 9))
    assert downsample(events) is downsample(events, (6, 9)) is downsample(events, (6, 9), "centre") is events
    with mock.patch.object(native, "unavailable_reason", return_value="not in this test"):
        assert downsample(events, crop=(0, 0, 6, 9)) is events


def test_proportions_are_kept_by_empty_margins_or_by_the_crop():
    wide = every_pixel((18, 32))
    frame = frames_by_count(downsample(wide, 16), 1)[0].sum(0)
    assert (frame[:3].sum(), frame[-4:].sum(), (frame[3:12] == 4).all()) == (0, 0, True)  # 9 rows of 16, 3 above, 4 below
    assert downsample(wide, 16, "centre").x.max() == 15
    assert len(downsample(wide, 16, "centre")) == 18 * 18
    small = downsample(every_pixel((3, 4)), 8)  # never spread: 3 x 4 pixels in the middle
    assert sorted({*small.y.tolist()}) == [2, 3, 4]
    assert len({*zip(small.y.tolist(), small.x.tolist(), strict=True)}) == 12


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"size": 0}, "size=.* is out of range; use 1 to 4,096"),
        ({"size": (4, 5000)}, "is out of range"),
        ({"crop": (0, 0, 7, 9)}, "0,0,7,9 is not inside the sensor, whose height,width = 6,9"),
        ({"crop": (-1, 0, 2, 2)}, "not inside the sensor"),
        ({"crop": "center"}, "crop='center' is unknown; use none, centre, or a region"),
    ],
    ids=str,
)
def test_what_is_no_canvas_is_refused(how, message):
    refuse(message, downsample, every_pixel((6, 9)), **how)


@pytest.mark.parametrize("kind", [np.uint16, np.int64], ids=["c", "numpy"])
def test_an_event_outside_the_sensor_is_named(kind):
    events = every_pixel((6, 9))
    x = events.x.astype(kind)
    x[7] = 9
    refuse("event 7 lies at x=9", downsample, type(events)(events.t, x, events.y, events.polarity, (6, 9)), 4)


# What networks are shown -----------------------------------------------------------------------------------------------------


def folder_of_recordings(folder, sensor=(36, 64)):
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for i in range(5):
            t = np.arange(300)
            rng = np.random.default_rng(i)
            write_events(
                as_events(t, rng.integers(0, sensor[1], 300), rng.integers(0, sensor[0], 300), t % 2, sensor),
                folder / label / f"{i}.npz",
            )
    return folder


@pytest.mark.parametrize(
    "view",
    [{"size": 16}, {"size": (16, 24), "crop": "centre"}, {"crop": (4, 8, 32, 32)}, {"size": 16, "max_count": 1}],
    ids=str,
)
def test_a_new_recording_is_seen_as_in_training(view, tmp_path):
    from spikewise.engine.build import build_network, describe_input

    config = Config(data=Data(name="event-folder", root=str(folder_of_recordings(tmp_path)), num_frames=2, **view))
    data = load_data(config, "test")
    spec = describe_input(config, data)
    spec = InputSpec.from_json({**vars(spec), "shape": list(spec.shape), "crop": spec.crop})
    assert spec.sensor == (36, 64)
    for i, file in enumerate(data.files):
        frames = data.sample(i)
        assert np.array_equal(spec.preprocess(file), frames)
        seen = np.minimum(
            frames_by_count(downsample(read_events(file), config.data.size, config.data.crop), 2), config.data.max_count or 99
        )
        assert np.array_equal(frames, seen)
    assert build_network(config, data).in_channels == 2
    refuse("has a sensor of 40 x 64 pixels, this network was trained on 36 x 64", spec.preprocess, every_pixel((40, 64)))


def test_frames_of_another_view_are_cached_apart(tmp_path):
    folder_of_recordings(tmp_path)
    views = [{}, {"size": 16}, {"size": 16, "crop": "centre"}, {"crop": (0, 0, 9, 9)}, {"max_count": 1}, {"max_count": 2}]
    for view in views * 2:
        config, cached = (
            Config(data=Data(name="event-folder", root=str(tmp_path), num_frames=2, cache=cache, **view))
            for cache in (False, True)
        )
        assert np.array_equal(load_data(config, "train").sample(0), load_data(cached, "train").sample(0))
    assert len([*(tmp_path / ".frames").iterdir()]) == len(views)


def test_a_placeholder_has_the_shape_of_what_would_be_shown(tmp_path):
    data = Data(name="dvs-gesture", root=str(tmp_path), size=(32, 64), num_frames=3)
    assert load_or_placeholder(Config(data=data))[0].sample(0).shape == (3, 2, 32, 64)


@pytest.mark.parametrize(
    ("name", "field"), [("digits", {"size": 8}), ("digits", {"crop": "centre"}), ("digits", {"max_count": 3})]
)
def test_still_images_have_no_such_fields(name, field):
    refuse(next(iter(field)), load_data, Config(data=Data(name=name, **field)), "train")


def test_what_the_crop_leaves_out_is_said_once(tmp_path, caplog):
    folder_of_recordings(tmp_path)
    config = Config(data=Data(name="event-folder", root=str(tmp_path), crop=(0, 0, 9, 9)))
    data = load_data(config, "train")
    with mock.patch("spikewise.data.events.recordings._SAID", set()):
        for i in range(3):
            data.sample(i)
    assert len([line for line in caplog.messages if "the crop leaves out" in line]) == 1


def test_convert_writes_what_is_seen(tmp_path, capsys):
    events = every_pixel((18, 32))
    write_events(events, tmp_path / "a.npz")
    assert (
        main(["events", "convert", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--size", "16", "--crop", "centre"]) == 0
    )
    seen = downsample(events, 16, "centre")
    require_equal(read_events(tmp_path / "b.npz"), *columns(seen))
    assert "252 events outside the crop left out" in capsys.readouterr().out
    assert main(["events", "convert", str(tmp_path / "a.npz"), str(tmp_path / "c.npz"), "--crop", "centre"]) == 2


def test_streams_see_what_training_saw():
    spec = InputSpec("event-folder", "events", ("a", "b"), (2, 8, 8), num_frames=1, sensor=(36, 64), crop="centre")
    events = every_pixel((36, 64))
    whole = spec.preprocess(events)
    assert np.array_equal(sum(spec.preprocess(events[part]) for part in (slice(0, 999), slice(999, None))), whole)
