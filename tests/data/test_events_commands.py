"""`spikewise events` of many files: what is wrong with one doesn't stop the others, and is counted."""

import json
import re

import encoders
import pytest
from checks import require_equal

from spikewise.cli.main import main
from spikewise.data.events.formats import read_events

EVENTS = encoders.random_events(300, height=30, width=32, last=200_000)


def status_of(*args):
    try:
        return main([*map(str, args)])
    except SystemExit as end:
        return end.code


@pytest.fixture
def files(tmp_path):
    contents = {"a.txt": encoders.text(*EVENTS), "b.bin": encoders.atis(*EVENTS)[:-3], "c.aedat": encoders.aedat3(*EVENTS)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in contents]


def test_info_goes_on_behind_a_bad_file(files, capsys):
    assert status_of("events", "info", *files) == 1
    out, error = capsys.readouterr()
    assert out.count("events       300") == 2
    assert "columns taken as t,x,y,p" in out
    assert error.count("b.bin was cut") == 1
    assert "1 of 3 files could not be read" in error
    assert status_of("events", "info", *files, "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("events") for line in lines] == [300, None, 300]
    assert "was cut" in lines[1]["error"]
    assert status_of("events", "info", files[1]) == 2  # alone, it is a mistake as any other


def test_several_recordings_are_converted_into_a_folder(files, tmp_path, capsys):
    assert status_of("events", "convert", *files, tmp_path / "out") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npz", "c.npz"]
    assert status_of("events", "convert", *files, tmp_path / "out", "--salvage") == 0
    assert "note: salvaged 299 events from the first" in capsys.readouterr().out
    for name, length in (("a", 300), ("b", 299), ("c", 300)):
        require_equal(read_events(tmp_path / "out" / f"{name}.npz"), *(column[:length] for column in EVENTS))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a.txt"], "events convert needs a recording and what is written"),
        (["a.txt", "b.bin", "out.npz"], "2 recordings can't be written into the file"),
        (["a.txt", "out.png"], "has no format that can be written"),
        (["a.txt", "sub/a.txt", "out"], "2 of the recordings would become .*a.npz"),
        (["a.npz", "a.npz"], "would replace itself"),
        (["a.txt", "out.npz", "--columns", "t,x"], "should name t, x, y and p once each"),
        (["a.txt", "out.npz", "--stream", "left"], "stream changes nothing in a file of the format text"),
    ],
)
def test_what_can_not_be_converted_is_a_mistake_and_nothing_is_written(args, message, files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(files[0].read_bytes())
    (tmp_path / "a.npz").write_bytes(encoders.npz(*EVENTS))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert status_of("events", "convert", *args) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_time_window_of_frames_implies_frames_of_equal_duration(files, tmp_path, capsys):
    frames = ["events", "frames", files[0]]
    assert status_of(*frames, tmp_path / "a.npy", "--time-window", "50ms") == 0
    assert status_of(*frames, tmp_path / "b.npy", "--time-window", "50ms", "--split-by", "duration") == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert status_of(*frames, tmp_path / "c.npy", "--time-window", "50ms", "--split-by", "count") == 2
    assert status_of(*frames, tmp_path / "c.npy", "--time-window", "50ms", "--event-count", 9) == 2
    (tmp_path / "empty.txt").write_text("t,x,y,p\n")
    assert status_of("events", "frames", tmp_path / "empty.txt", tmp_path / "c.npy") == 2
    assert "has no events" in capsys.readouterr().err
    assert not (tmp_path / "c.npy").exists()
