"""The commands `spikewise events`: parts, filters, frames."""

import json

import numpy as np
import pytest

from spikewise.cli.main import main
from spikewise.data.events import Events, read_events, to_frames, write_events


@pytest.fixture
def file(tmp_path):
    """1,000 events, one per millisecond from 5 s on; the last one is far from all others."""
    t = 5_000_000 + 1000 * np.arange(1000, dtype=np.int64)
    x, y = (np.append(np.arange(999) % side, 11).astype(np.uint16) for side in (3, 2))
    write_events(Events(t, x, y, (np.arange(1000) % 2).astype(np.uint8), (12, 12)), tmp_path / "a.npz")
    return tmp_path / "a.npz"


def told(capsys, *words):
    assert main(["events", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_part_is_counted_from_the_earliest_event(file, capsys, tmp_path):
    facts = json.loads(told(capsys, "info", file, "--from", "100ms", "--to", "0.3s", "--json"))
    assert (facts["events"], facts["duration_s"]) == (200, 0.199)
    assert facts["notes"] == ["200 of 1,000 events, from 100 ms to 300 ms of 999 ms"]
    told(capsys, "convert", file, tmp_path / "b.npz", "--from", "900ms", "--filter", "background=10ms")
    whole, part = read_events(file), read_events(tmp_path / "b.npz")
    assert np.array_equal(part.t, whole.t[901:999])  # the first has no event before it, the last no neighbour
    assert part.size == (12, 12)
    told(capsys, "show", file, "--to", "20ms", "--out", tmp_path / "a.gif")


@pytest.mark.parametrize(("ending", "read"), [("npy", np.load), ("npz", lambda path: np.load(path)["frames"])])
def test_frames_are_those_of_python(ending, read, file, capsys, tmp_path):
    out, events = tmp_path / f"frames.{ending}", read_events(file)
    for words, options in (
        ([], {"T": 16}),
        (["--num-frames", "3", "--split-by", "duration"], {"T": 3, "split_by": "duration"}),
        (["--split-by", "duration", "--time-window", "90ms"], {"split_by": "duration", "time_window": 90_000}),
        (
            ["--event-count", "300", "--representation", "time_surface", "--tau", "5ms"],
            {"event_count": 300, "representation": "time_surface", "tau": 5000},
        ),
    ):
        told(capsys, "frames", file, out, *words)
        assert np.array_equal(read(out), to_frames(events, **options))
    assert "note: 700 events after 1 frame of 300 events left out" in told(
        capsys, "frames", file, out, "--event-count", "300", "--num-frames", "1"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info {} --from 2s", "a.npz: there is no part from 2 s: the recording lasts 999 ms"),
        ("info {} --from 30ms --to 30ms", "a part from 30 ms to 30 ms is empty"),
        ("convert {} {}.npz --filter noise", "no filter named 'noise'"),
        ("convert {0} {0}", "would replace itself; name another file"),
        ("frames {0} {0}", "is the recording itself"),
        ("frames {} {}.txt", "end it with one of .npy, .npz, .png"),
        ("frames {} {}/nowhere/a.npy", "make it first"),
        ("frames {} {}.npy --time-window 5ms --split-by count", "--time-window is for --split-by duration"),
        ("frames {} {}.npy --tau 5ms", "--tau changes nothing in counts"),
        ("frames {} {}.npy --num-frames 1000000000", "GiB; use fewer of them"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(words, message, file, capsys):
    before = sorted(file.parent.iterdir())
    assert main(["events", *words.format(file, file.parent / "new").split()]) == 2
    assert message in capsys.readouterr().err
    assert sorted(file.parent.iterdir()) == before
