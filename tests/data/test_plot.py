"""Pictures and numbers of recordings."""

import sys

import numpy as np
import pytest
from checks import as_events, refuse, require_equal
from matplotlib.text import Text

from spikewise.cli.main import main
from spikewise.data import DATASETS, ImageArrays
from spikewise.data.events import Events
from spikewise.data.events.plot import (
    BACKGROUND,
    CLOCK_HEIGHT,
    OFF_COLOR,
    ON_COLOR,
    clock,
    contact_sheet,
    downsample_sensor,
    draw_recording,
    events_to_rgb,
    new_figure,
    plot_event_cloud,
    plot_frame_sheet,
    plot_recording,
    shrink,
)
from spikewise.data.events.summary import summarize_events


def moving_dot(n=200, size=(12, 20)):
    k = np.arange(n)
    return as_events(k * 1000, k * size[1] // n, np.full(n, 5), k % 2, size)


def test_summary_by_hand():
    events = Events(np.array([100, 300, 200]), np.array([1, 1, 2]), np.array([0, 0, 3]), np.array([1, 1, 0]), (4, 5))
    fractions = {"on_fraction": pytest.approx(2 / 3), "active_pixels": pytest.approx(2 / 20)}
    numbers = {"events": 3, "duration_s": 200e-6, "rate": pytest.approx(15_000), "sensor": "5 x 4", "is_time_sorted": False}
    assert summarize_events(events) == numbers | fractions | {
        "is_sensor_told": True,
        "most_active_pixel": {"x": 1, "y": 0, "events": 2},
        "notes": [],
    }


def test_summary_of_nothing():
    found = summarize_events(moving_dot(0))
    assert (found["events"], found["rate"], found["most_active_pixel"], found["is_time_sorted"]) == (0, 0.0, None, True)


def test_colours_say_which_way_it_went():
    counts = np.zeros((2, 1, 3), dtype=np.int32)
    counts[0, 0, 0], counts[1, 0, 1] = 4, 9
    assert [tuple(pixel) for pixel in events_to_rgb(counts, 4.0)[0]] == [OFF_COLOR, ON_COLOR, BACKGROUND]


def test_an_animation_and_a_sheet(tmp_path):
    from PIL import Image

    plot_recording(moving_dot(), tmp_path / "dot.gif", frames=3, seconds=1.2)
    with Image.open(tmp_path / "dot.gif") as animation:
        assert animation.n_frames == 12
        assert animation.size[0] > animation.size[1] >= 200
    plot_recording(moving_dot(), tmp_path / "dot.png", frames=4)
    with Image.open(tmp_path / "dot.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 1


@pytest.mark.parametrize(
    ("microseconds", "times"),
    [(8_000_000, ["0.0 s", "2.0 s", "4.0 s", "6.0 s"]), (400_000, ["0 ms", "100 ms", "200 ms", "300 ms"]), (2, ["0.00 us"])],
)
def test_frames_say_when_they_begin(microseconds, times):
    events = as_events([5, 5 + microseconds], [0, 0], [0, 0], [0, 0], (2, 2))
    assert clock(events, 4)[: len(times)] == times


def test_an_animation_has_a_clock_below_the_sensor(tmp_path):
    from PIL import Image

    plot_recording(moving_dot(size=(256, 256)), tmp_path / "dot.gif", frames=2)
    strips = []
    with Image.open(tmp_path / "dot.gif") as animation:
        for k in range(animation.n_frames):
            animation.seek(k)
            assert animation.size == (256, 256 + CLOCK_HEIGHT)
            strips.append(np.asarray(animation.convert("L"))[256:].tobytes())
    assert len(set(strips)) == animation.n_frames


def test_what_cannot_be_drawn_is_said(tmp_path):
    refuse("no events", plot_recording, moving_dot(0), tmp_path / "x.png")
    refuse(r"neither \.gif .* nor \.png", plot_recording, moving_dot(), tmp_path / "x.jpg")
    for wrong in (0, -2, 101):
        refuse(f"frames={wrong}; use 1 to 100", plot_recording, moving_dot(), tmp_path / "x.gif", frames=wrong)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        refuse(
            f"seconds={wrong}; use a number above 0, up to 3600",
            plot_recording,
            moving_dot(),
            tmp_path / "x.gif",
            seconds=wrong,
        )


def test_a_sheet_of_samples(tmp_path):
    samples = [np.random.default_rng(k).random((3, 8, 8), dtype=np.float32) for k in range(3)]
    contact_sheet([*samples, np.ones((4, 2, 8, 8), np.float32)], ["a", "b", "c", "d"], tmp_path / "s.png", columns=2)
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for make in (
        lambda: plot_recording(moving_dot(), tmp_path / "a.png"),
        lambda: contact_sheet([np.ones((1, 4, 4))], ["a"], tmp_path / "a"),
    ):
        refuse(r"matplotlib: pip install 'spikewise\[plots\]'", make)
    plot_recording(moving_dot(), tmp_path / "a.gif")


def test_a_thousand_classes_are_not_all_drawn(tmp_path, monkeypatch, capsys):
    images = np.zeros((60, 1, 4, 4), np.uint8)
    many = ImageArrays("many", images, np.arange(60), tuple(map(str, range(60))), 255)
    monkeypatch.setitem(DATASETS, "digits", DATASETS["digits"]._replace(load=lambda _split, _root: many))
    drawn = []
    monkeypatch.setattr(
        "spikewise.data.events.plot.contact_sheet", lambda samples, titles, _path: drawn.append((samples, titles))
    )
    assert main(["data", "info", "digits", "--picture", str(tmp_path / "a.png")]) == 0
    assert [len(part) for part in drawn[0]] == [50, 50]
    assert "and 10 more" in capsys.readouterr().out


def test_a_huge_sensor_is_drawn_on_coarser_pixels():
    events = as_events(np.arange(4), [0, 7, 4094, 4095], [0, 0, 2999, 2999], [0, 1, 1, 0], (3000, 4096))
    small = downsample_sensor(events)
    require_equal(small, events.t, [1, 2, 638, 638], [0, 0, 467, 467], events.polarity)
    assert small.size == (468, 640)
    assert downsample_sensor(small) is small


def test_rows_are_from_the_top_down_and_the_whole_sensor_is_shown():
    events = as_events([0, 10], [0, 1279], [0, 719], [0, 1], (720, 1280))
    ax = new_figure().add_subplot(projection="3d")
    plot_event_cloud(ax, events)
    (bottom, top), (near, far) = ax.get_zlim(), ax.get_ylim()
    assert (bottom, top, near, far) == (719.5, -0.5, -0.5, 1279.5)
    assert (ax.get_zlabel(), ax.get_ylabel()) == ("y: 0 (top) to 719", "x: 0 to 1279")


@pytest.mark.parametrize(
    ("size", "frames"), [((61, 54), 8), ((720, 1280), 8), ((480, 640), 1), ((1280, 720), 3), ((34, 34), 20)]
)
def test_no_label_lies_on_another_or_outside(size, frames):
    figure = draw_recording(moving_dot(size=size), frames)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text().strip()]
    boxes = [box for box in boxes if box.width > 1 and box.x0 < 10 * figure.bbox.x1]  # others are not drawn
    assert len(boxes) >= frames + 6  # times, a title, three axes, and ticks of time
    assert all((box.min >= 0).all() and (box.max <= figure.bbox.max).all() for box in boxes)
    assert not [(a, b) for k, a in enumerate(boxes) for b in boxes[:k] if a.overlaps(b)]


def test_frames_of_any_kind_are_drawn_in_colours_of_one_scale(tmp_path):
    frames = np.zeros((3, 2, 5, 450), np.float32)
    frames[0, 1, 4, 449], frames[2, 0, 0, 0] = 0.5, 1
    plot_frame_sheet(frames, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    small = shrink(frames, 200)
    assert small.shape == (3, 2, 2, 150)
    assert (small[0, 1, 1, 149], small[2, 0, 0, 0], small.sum()) == (0.5, 1, 1.5)
    refuse("101 frames are too many", plot_frame_sheet, np.zeros((101, 2, 2, 2)), tmp_path / "b.png")
    refuse("no/a.png can't be written", plot_frame_sheet, frames, tmp_path / "no" / "a.png", kind=OSError)


@pytest.mark.parametrize("width", [64, 700, 1280])
def test_a_row_of_frames_leaves_no_pixel_out(width, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("spikewise.data.events.plot.events_to_rgb", lambda c, _most: drawn.append(c) or np.zeros((2, 2, 3)))
    t = np.arange(width)
    plot_recording(as_events(t, t, t % 30, t % 2, (30, width)), tmp_path / "a.png", frames=3)
    assert len(drawn) == 3
    assert sum(counts.sum() for counts in drawn) == width
    assert max(counts.shape[2] for counts in drawn) <= 225  # pixels that a frame has in the picture


def test_no_event_is_cut_off_in_space_and_time():
    ax = new_figure().add_subplot(projection="3d")
    plot_event_cloud(ax, moving_dot())
    (cloud,) = ax.collections
    assert not cloud.get_clip_on()
    assert len(cloud.get_offsets()) == len(moving_dot())
