"""`spikewise stream`: decisions as lines, as JSON and as a picture; what ends a stream is said."""

import io
import json
import os
import sys

import numpy as np
import pytest
import rich.console

from spikewise.cli.main import main
from spikewise.cli.stream import colours, draw_pictures
from spikewise.data.events import Events, write_events
from spikewise.data.events.live import LiveFrames, play
from spikewise.data.input_spec import InputSpec
from spikewise.engine.live import Watcher, live_spec
from spikewise.models import build_model
from spikewise.models.weights import save_pretrained

NUM_EVENTS = 400


def recording(size=(8, 8)):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 20_000, NUM_EVENTS))
    y, x = (rng.integers(0, side, NUM_EVENTS).astype(np.uint16) for side in size)
    return Events(t, x, y, rng.integers(0, 2, NUM_EVENTS).astype(np.uint8), size)


def lines(events):
    return b"".join(b"%d %d %d %d\n" % row for row in zip(*(column.tolist() for column in events.columns), strict=True))


def network(**how):
    net = build_model("sew_7b", num_classes=3, num_blocks=1, width=0.0625).eval()
    net.input_spec = InputSpec("", "events", ("left", "right", "[up]"), (2, 8, 8), num_frames=4, **how)
    return net


@pytest.fixture
def weights(tmp_path):
    return str(save_pretrained(network(), tmp_path / "weights"))


@pytest.fixture
def file(tmp_path):
    write_events(recording(), tmp_path / "a.npz")
    return str(tmp_path / "a.npz")


@pytest.fixture
def pipe(monkeypatch):
    """Bytes into standard input, as from another process."""
    reader, writer = os.pipe()

    def send(content):
        os.write(writer, content)
        os.close(writer)

    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield send


def test_a_line_for_every_frame_and_the_latencies(weights, file, capsys):
    assert main(["stream", weights, file, "--speed", "inf", "--top", "1"]) == 0
    out, err = capsys.readouterr()
    *shown, last = out.splitlines()
    assert [line.split()[0] for line in shown] == ["1", "2", "3", "4"]
    assert shown[0].count("%") == 1
    assert last.startswith("4 frames, latency p50 ")
    assert "frames of 100 events, one of 4 parts of the recording" in err


def test_json_for_programs(weights, file, capsys):
    assert main(["stream", weights, file, "--speed", "1e9", "--time-window", "5ms", "--memory", "2", "--json"]) == 0
    *frames, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(frame["events"] for frame in frames) == NUM_EVENTS
    assert [frame["seconds"] for frame in frames] == [0.005, 0.01, 0.015, 0.02]
    assert last["frames"] == 4
    assert last["latency_p99_ms"] >= last["latency_p50_ms"] > 0


def test_a_pipe_gives_the_decisions_of_the_file(weights, file, pipe, capsys):
    def decisions():
        return [json.loads(line)["classes"] for line in capsys.readouterr().out.splitlines()[:-1]]

    assert main(["stream", weights, file, "--event-count", "50", "--json", "--speed", "inf"]) == 0
    expected = decisions()
    pipe(lines(recording()))
    assert main(["stream", weights, "-", "--event-count", "50", "--json"]) == 0
    assert decisions() == expected


def test_a_larger_sensor_is_binned_as_in_training(tmp_path, pipe, capsys):
    weights = str(save_pretrained(network(sensor=(16, 16)), tmp_path))
    write_events(recording((16, 16)), tmp_path / "a.npz")
    pipe(lines(recording((16, 16))))
    shown = []
    for source in (str(tmp_path / "a.npz"), "-"):
        assert main(["stream", weights, source, "--event-count", "100", "--json", *(["--speed", "inf"] * (source != "-"))]) == 0
        shown.append([json.loads(line).get("classes") for line in capsys.readouterr().out.splitlines()])
    assert shown[0] == shown[1]


def test_a_damaged_line_ends_the_stream(weights, pipe, capsys):
    content = lines(recording()).splitlines(keepends=True)
    pipe(b"".join(content[:130]) + b"oops\n" + b"".join(content[130:]))
    assert main_status(["stream", weights, "-", "--event-count", "50"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("3 frames")
    assert "line 131 has" in err
    assert "the stream ends there" in err


def test_a_damaged_file_is_seen_up_to_the_damage(tmp_path, capsys):
    path = tmp_path / "a.bin"
    path.write_bytes(b"".join(bytes([k % 8, 0, 0, k // 256, k % 256]) for k in range(300)) + b"\0\0")
    weights = str(save_pretrained(network(sensor=(34, 34), crop=(0, 0, 8, 8)), tmp_path))
    assert main_status(["stream", weights, str(path), "--event-count", "100", "--speed", "inf"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("3 frames")
    assert "the event at byte 1,500 has 2 of 5 bytes" in err


def main_status(args):
    try:
        return main(args)
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "some"], "memory='some' is unknown"),
        (["--memory", "1.5"], "memory=1.5 is unknown"),
        (["--speed", "0"], "--speed 0 is none"),
        (["--speed", "nan"], "--speed nan is none"),
        (["--time-window", "1ms", "--event-count", "3"], "either --time-window or --event-count"),
        (["--from", "1s"], "there is no part from"),
    ],
)
def test_what_does_not_fit_is_one_line(options, message, weights, file, capsys):
    assert main(["stream", weights, file, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        ([], b"1 2 3 1\n", "a pipe has no end: say a frame's size, --event-count"),
        (["--event-count", "9", "--speed", "2"], b"", "--speed is for a recording"),
        (["--event-count", "9", "--from", "1s"], b"", "--from is for a recording in a file"),
        (["--event-count", "9", "--drop-outside"], b"", "--drop-outside is for a recording in a file"),
        (["--event-count", "9"], b"\x89HDF\r\n\x1a\n\0", "a pipe is read as text"),
        (["--event-count", "9"], b"", "standard input holds no events"),
    ],
)
def test_what_a_pipe_does_not_take_is_one_line(options, content, message, weights, pipe, capsys):
    pipe(content)
    assert main(["stream", weights, "-", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_terminal_gets_a_picture(weights):
    shown, events = io.StringIO(), recording()
    console = rich.console.Console(file=shown, force_terminal=True, color_system="truecolor", width=80, legacy_windows=False)
    watcher = Watcher(weights, device="cpu")
    spec, _ = live_spec(watcher.spec, events)
    draw_pictures(watcher.watch(play(events, spec, np.inf), LiveFrames(spec)), watcher, console)
    text = shown.getvalue()
    assert "▀" in text
    assert "[up]" in text
    assert "frame 4, 0.02 s, 100 events; latency" in text


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (480, 640)])
def test_pictures_fit_a_terminal_and_lose_no_event(size):
    image = np.zeros((2, *size), np.float32)
    image[1, -1, -1] = 3
    picture = colours(image)
    assert picture.shape[0] % 2 == 0
    assert max(picture.shape[:2]) <= 64
    assert np.count_nonzero(picture.any(2)) == 1
    assert not colours(np.zeros((2, *size), np.float32)).any()
