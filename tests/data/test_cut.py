"""Long recordings cut into windows: against plain loops; resumed, refused, and trained on."""

import contextlib
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from checks import as_events, columns, contents, refuse, refused, require_equal, train_and_evaluate
from hypothesis import assume, given
from hypothesis import strategies as st

from dying import Crash, Dying
from spikewise import disk
from spikewise.cli.main import main
from spikewise.data.datasets.event_folder import event_folder
from spikewise.data.events import read_events, write_events
from spikewise.data.events.cut import Cut, cut_recordings, cut_windows, median_with_zeros, read_manifest, windows_with_events
from spikewise.data.events.downsample import downsample
from spikewise.data.events.labels import Labels, Part, place_labels, read_labels
from spikewise.data.events.windows import recording_of
from spikewise.data.input_spec import InputSpec


def recording(n=400, last=10_000, seed=0, first=1_000):
    rng = np.random.default_rng(seed)
    t = first + np.sort(rng.integers(0, last, n))
    return as_events(t, rng.integers(0, 30, n), rng.integers(0, 20, n), rng.integers(0, 2, n), (20, 30))


def source(folder, name="a", label="cup", **how):
    path = folder / label / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_events(recording(**how), path)
    return path


def cut_all(files, out, cut, parts=None):
    return list(cut_recordings([(file, Labels(parts or [Part(file.parent.name)])) for file in files], out, cut, read_events))


@pytest.mark.parametrize("stride", [None, 300, 2_500])
@pytest.mark.parametrize("part", [Part("a"), Part("a", 3_000, 8_000), Part("a", 0, 50_000)], ids=str)
def test_windows_of_time_hold_the_events_between_their_edges(part, stride):
    events = recording()
    start = int(events.t[0]) if part.start is None else part.start
    end = int(events.t[-1]) + 1 if part.end is None else part.end
    windows, total, rest = cut_windows(events, part, Cut("us", 1_000, stride))
    by_number = {window.number: window for window in windows}
    for k in range(total):
        begin = start + k * (stride or 1_000)
        inside = events[(events.t >= begin) & (events.t < begin + 1_000)]
        assert (k in by_number) == (len(inside) > 0)
        if window := by_number.pop(k, None):
            assert (window.label, window.start, window.end) == ("a", begin, begin + 1_000)
            require_equal(window.events, *columns(inside))
    assert not by_number
    assert begin + 1_000 <= end < begin + 1_000 + (stride or 1_000)
    assert rest == end - (begin + 1_000)


@pytest.mark.parametrize("stride", [None, 7, 90])
@pytest.mark.parametrize("part", [Part("a"), Part("a", 3_000, 8_000)], ids=str)
def test_windows_of_events_hold_as_many(part, stride):
    events = recording()
    inside = events if part.start is None else events[(events.t >= part.start) & (events.t < part.end)]
    windows, total, _ = cut_windows(events, part, Cut("events", 40, stride))
    assert len(windows) == total == (len(inside) - 40) // (stride or 40) + 1
    for k, window in enumerate(windows):
        require_equal(window.events, *columns(inside[k * (stride or 40) : k * (stride or 40) + 40]))


@pytest.mark.parametrize("stride", [1, 70, 100, 900])
def test_stretches_without_events_are_jumped_over(stride):
    rng = np.random.default_rng(0)
    t = np.sort(np.concatenate([rng.integers(0, 300, 20), rng.integers(2_000, 2_200, 5), [3_150, 5_000, 2**40]]))
    begins = range(-500, 6_000, stride)
    found = [(k, *np.searchsorted(t, [begin, begin + 100])) for k, begin in enumerate(begins)]
    assert [*windows_with_events(t, begins, 100)] == [(k, a, b) for k, a, b in found if a < b]
    far = range(6_000, 2**40, stride)  # without jumps a matter of hours
    last = [k for k in range(len(far) - 100, len(far)) if far[k] + 100 > 2**40]
    assert [k for k, _, _ in windows_with_events(t, far, 100)] == last


@given(st.lists(st.integers(1, 9)), st.integers(0, 20))
def test_the_median_counts_empty_windows(counts, zeros):
    assume(counts or zeros)
    assert median_with_zeros(counts, len(counts) + zeros) == np.median([*counts, *[0] * zeros])


def test_a_wild_time_is_told(tmp_path):
    path = tmp_path / "cup" / "a.npz"
    path.parent.mkdir()
    events = recording()
    events.t[-1] = 10**13
    write_events(events, path)
    (report,) = cut_all([path], tmp_path / "out", Cut("us", 1_000))
    assert 9 <= report.windows <= 11
    assert report.few == (10**13 - int(events.t[0]) + 1) // 1_000 - report.windows
    assert any("hold no event; there is none for 115.7 days after" in note for note in report.notes)


def test_what_is_shorter_than_a_window_gives_none():
    assert cut_windows(recording(), Part("a"), Cut("us", 20_000))[0] == []
    assert cut_windows(recording(), Part("a"), Cut("events", 401))[0] == []
    assert cut_windows(recording(0), Part("a"), Cut("us", 1)) == ([], 0, 0)


def test_files_manifest_and_report_say_the_same(tmp_path):
    files = [source(tmp_path, "a"), source(tmp_path, "b", "pen", seed=1), source(tmp_path, "c", seed=2, n=3)]
    out, cut = tmp_path / "out", Cut("us", 1_000, size=10)
    reports = cut_all(files, out, cut)
    lines = read_manifest(out)
    assert [line["recording"] for line in lines] == ["a", "b", "c"]
    for file, line, report in zip(files, lines, reports, strict=True):
        events = read_events(file)
        assert (report.windows, report.few) == (len(line["windows"]), line["few"])
        assert report.windows + report.few == cut_windows(events, Part("x"), cut).total
        for window in line["windows"]:
            inside = events[(events.t >= window["start_us"]) & (events.t < window["end_us"])]
            written = read_events(out / window["file"])
            require_equal(written, *columns(downsample(inside, 10)))
            assert (written.size, len(written)) == ((10, 10), window["events"])
            assert recording_of(window["file"])[0] == file.stem
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.npz")) == sorted(
        window["file"] for line in lines for window in line["windows"]
    )


@pytest.mark.parametrize(("given", "least"), [(None, 2), (0, 1), (5, 5)], ids=["a tenth of the median, 22", "none", "5"])
def test_windows_with_few_events_are_left_out_and_counted(given, least, tmp_path):
    counts = [40, 40, 1, 3, 4, 0, 40, 40]
    t = np.concatenate([np.full(n, 1_000 * k) for k, n in enumerate(counts)])
    t = np.append(t, 7_999)
    path = tmp_path / "cup" / "a.npz"
    path.parent.mkdir()
    write_events(as_events(t, t * 0, t * 0, t * 0, (4, 4)), path)
    (report,) = cut_all([path], tmp_path / "out", Cut("us", 1_000, min_events=given))
    kept = [n for n in counts if n >= least]
    assert (report.windows, report.few) == (len(kept), 8 - len(kept))


def test_events_out_of_order_are_sorted_and_that_is_said(tmp_path):
    path = tmp_path / "cup" / "a.npz"
    path.parent.mkdir()
    events = recording()
    write_events(events[np.random.default_rng(0).permutation(400)], path)
    (report,) = cut_all([path], tmp_path / "out", Cut("us", 1_000))
    assert any("not in the order of time: sorted" in note for note in report.notes)
    assert report.windows == cut_windows(events, Part("a"), Cut("us", 1_000)).total


def test_a_cut_that_died_at_any_change_of_the_disk_goes_on(tmp_path, monkeypatch):
    files = [source(tmp_path, "a"), source(tmp_path, "b", "pen", seed=1)]
    cut = Cut("us", 4_000)
    whole = contents(tmp_path / "whole") if cut_all(files, tmp_path / "whole", cut) else {}
    changes = 0
    for number in range(1, 200):
        out, dying = tmp_path / f"out{number}", Dying(number)
        with monkeypatch.context() as patch, contextlib.suppress(Crash):
            patch.setattr(disk, "os", dying)
            cut_all(files, out, cut)
        cut_all(files, out, cut)
        left = {name: content for name, content in contents(out).items() if not name.rpartition("/")[2].startswith(".")}
        assert left == whole
        changes = dying.num_changes
        if changes < number:
            break
    assert changes > 10


def test_what_was_cut_in_another_way_is_refused(tmp_path):
    file, cut = source(tmp_path), Cut("us", 1_000)
    cut_all([file], tmp_path / "out", cut)
    before = contents(tmp_path / "out")
    assert cut_all([file], tmp_path / "out", cut)[0].windows == 9
    refuse("in another way .length 1000, now 2000.;", cut_all, [file], tmp_path / "out", Cut("us", 2_000))
    write_events(recording(seed=9, n=500), file)
    refuse("windows of another a or", cut_all, [file], tmp_path / "out", cut)
    assert contents(tmp_path / "out") == before
    twice = [source(tmp_path / "one"), source(tmp_path / "two")]
    refuse("are both called a", cut_all, twice, tmp_path / "new", cut)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("class,startTime_usec,endTime_usec\n1,2000000,3000000\nb c,5,6\n", None),
        ("start,end,class\n2,3,1\n\n0.000005,0.000006,b c\n", "s"),
        ("Label; x,start (ms),end\n1,2000,3000\nb c,0.005,0.006\n", "ms"),
        ("class,start_s,end_s\n1,2,3\nb c,0.000005,0.000006\n", None),
        ("class,start time [ms],end\n1,2000,3000\nb c,0.005,0.006\n", None),
    ],
)
def test_labels(text, unit, tmp_path):
    (tmp_path / "a.csv").write_text(text.replace("Label; x", "label").replace("start time", "starttime"))
    assert read_labels(tmp_path / "a.csv", unit).parts == [Part("1", 2_000_000, 3_000_000), Part("b c", 5, 6)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'class'"),
        ("class,start\n", "has no column 'end'"),
        ("class,start,end\n", "labels nothing"),
        ("class,start,end\n1,2\n", "line 2: '1,2' should be a class, a start and an end"),
        ("class,start,end\n1,x,3\n", "line 2: .* should be"),
        ("class,start,end\n1,2,nan\n", "line 2: .* should be"),
        ("class,start,end\n\n1,3,3\n", "line 3: it ends at 3, not after 3"),
        ("class,start,end\n../x,2,3\n", "line 2"),
        ("class,start,end\n1,2.0,2.3\n", "line 2: .* say their unit"),
        ("class,start_ns,end_ns\n1,2,3\n", "less than a microsecond"),
        ("class,start_ms,end_s\n1,2,3\n", "says ms, s; use one"),
        ("class,start,end\na,2,3\n\nb,7,9\na,4,8\n", "lines 4 and 5: .* overlap"),
        ("class,start,end\na,0,9\na,1,2\nb,8,10\n", "lines 2 and 4: .* overlap"),
    ],
)
def test_labels_that_are_none(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    refuse(message, read_labels, tmp_path / "a.csv")


def test_overlapping_labels_are_taken_where_that_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("class,start,end\na,0,9\nb,8,10\nb,9,12\n")
    assert len(read_labels(tmp_path / "a.csv", may_overlap=True).parts) == 3
    (tmp_path / "a.csv").write_text("class,start,end\nb,9,12\na,0,9\na,3,4\n")  # touching, and of one class
    assert len(read_labels(tmp_path / "a.csv").parts) == 3


@pytest.mark.parametrize("first", [-7_000_000, 2_000_000, 1_700_000_000_000_000])
def test_labels_from_the_first_event_are_asked_for_and_cut_as_those_of_the_clock(first, tmp_path):
    events, slack = recording(last=8_000_000, first=first), 300_000
    begin = int(events.t[0])
    times = [("a", 0, 3_000_000), ("b", 3_500_000, 7_900_000)]
    from_start = Labels([Part(*row) for row in times])
    refuse("--labels-from start, or --labels-from clock", place_labels, Path("a"), events, from_start, slack)
    in_clock = [Part(label, start + begin, end + begin) for label, start, end in times]
    parts, notes = place_labels(Path("a"), events, from_start._replace(origin="start"), slack)
    assert (parts, notes) == (in_clock, ())
    parts, notes = place_labels(Path("a"), events, Labels(in_clock), slack)
    assert parts == in_clock
    assert "--labels-from start counts from" in notes[0]
    assert place_labels(Path("a"), events, Labels(in_clock, origin="clock"), slack) == (in_clock, ())
    beyond = [*in_clock, Part("c", begin + 90_000_000, begin + 91_000_000)]
    assert "labels reach from" in place_labels(Path("a"), events, Labels(beyond, origin="clock"), slack)[1][0]
    refuse("no label has an event", place_labels, Path("a"), events, Labels(beyond[2:], origin="clock"), slack)


# The command -----------------------------------------------------------------------------------------------------------------


def cut_command(*args):
    return main(["events", "cut", *map(str, args)])


def test_from_long_recordings_to_a_trained_network(tmp_path, capsys):
    for label in ("cup", "pen"):
        for seed, name in enumerate(("one", "two", "three")):
            source(tmp_path / "long", name + label, label, seed=seed, n=2_000)
        (tmp_path / "long" / label / "notes.txt").write_text("")
    out = tmp_path / "cut"
    assert cut_command(tmp_path / "long", out, "--every", "1ms", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["recordings"], facts["windows"], facts["classes"], facts["other_files"]) == (6, 54, 2, 2)
    assert facts["seconds"] == pytest.approx(0.054)
    assert main(["data", "info", "event-folder", "--data.root", str(out), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)["windows"]
    with pytest.raises(SystemExit, match="1"):  # windows of both classes are the same here
        main(["data", "check", str(out)])
    assert "skipped" not in capsys.readouterr().out  # what `events cut` wrote is all of use
    assert info["train"]["windows"] + info["test"]["windows"] == 54
    assert info["train"]["seconds"] == pytest.approx(0.044)  # 27 of each class, a fifth of them 5
    of_class = {split: {recording_of(file.name)[0] for file in event_folder(split, out).files} for split in ("train", "test")}
    assert len(of_class["train"] & of_class["test"]) <= 2  # at most one per class
    found = train_and_evaluate(
        capsys,
        tmp_path / "run",
        "events",
        *("--data.root", out, "--data.size", 16, "--model.num-blocks", 2, "--data.num-frames", 2, "--optim.warmup-epochs", 0),
    )
    assert found == "of 10"
    assert main(["predict", str(tmp_path / "run"), str(next(out.rglob("*.npz"))), "--device", "cpu"]) == 0
    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].replace("300_000", "2_000")
    capsys.readouterr()
    exec(code.replace("runs/mine", str(tmp_path / "run")).replace("friday.raw", str(tmp_path / "long" / "cup" / "onecup.npz")))
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()} <= {"cup", "pen"}


@pytest.mark.parametrize("options", [{}, {"max_count": 2, "crop": (0, 4, 20, 24)}])
def test_frames_of_a_stream_are_those_of_the_whole(options):
    spec = InputSpec("", "events", ("a", "b"), (2, 16, 16), num_frames=5, split_by="duration", sensor=(20, 30), **options)
    events = recording()
    seen = spec.fit_sensor(events)  # what is cropped away does not count
    first, lasts = int(seen.t[0]), seen.duration + 1
    edges = [first - (-lasts * k // 5) for k in range(6)]
    frames = [spec.frame(events.between(a, b)) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(frames), spec.preprocess(events))
    for wrong in ({"representation": "time_surface"}, {"filter": "background=5ms"}):
        refuse("can't be made one by one", dataclasses.replace(spec, max_count=0, frame_options=wrong).frame, events)


def test_labels_in_seconds_are_asked_for_and_a_cut_without_windows_can_be_made_again(tmp_path, capsys):
    file = source(tmp_path, n=3000, last=24_000_000, first=0)
    (tmp_path / "labels.csv").write_text("class,start,end\nright,0,2\nleft,2,24\n")
    command = [file, tmp_path / "out", "--every", "2s", "--labels", tmp_path / "labels.csv"]
    assert cut_command(*command) == 2
    assert "take 24 us of 24 s, in microseconds; say their unit: --labels-unit s" in capsys.readouterr().err
    assert cut_command(*command, "--labels-unit", "us") == 2
    assert "no label has an event" in capsys.readouterr().err
    assert cut_command(*command, "--labels-unit", "s", "--min-events", "9999") == 2
    assert "nothing was cut into" in capsys.readouterr().err
    assert cut_command(*command, "--labels-unit", "s") == 0
    assert "12 windows of 1 recording" in capsys.readouterr().out


def test_labels_of_several_recordings_lie_in_a_folder(tmp_path, capsys):
    files = [source(tmp_path, name, "session", seed=k) for k, name in enumerate("ab")]
    for file, rows in zip(files, ("1,1000,5000\n2,5000,9000\n", "2,2000,4000\n"), strict=True):
        file.with_name(f"{file.stem}_labels.csv").write_text("class,start,end\n" + rows)
    assert cut_command(*files, tmp_path / "out", "--every", "1ms", "--labels", files[0].parent, "--min-events", 0) == 0
    assert {path.name: len([*path.iterdir()]) for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"1": 4, "2": 6}
    assert cut_command(*files, tmp_path / "no", "--every", "1ms", "--labels", files[0].with_name("a_labels.csv")) == 2
    assert "labels one recording" in capsys.readouterr().err


def test_labels_from_start_cut_the_same_windows_and_are_another_cut(tmp_path, capsys):
    file, table = source(tmp_path, first=70_000), tmp_path / "labels.csv"
    begin = int(read_events(file).t[0])
    for name, shift in (("start", 0), ("clock", begin)):
        table.write_text(f"class,start,end\na,{shift},{shift + 4_000}\nb,{shift + 4_000},{shift + 9_000}\n")
        command = [file, tmp_path / name, "--every", "1ms", "--labels", table]
        assert cut_command(*command, "--labels-from", name) == 0
    starts, clocks = (contents(tmp_path / name) for name in ("start", "clock"))
    assert {name: starts[name] for name in starts if name.endswith("npz")} == {
        name: clocks[name] for name in clocks if name.endswith("npz")
    }
    manifest = tmp_path / "clock" / "windows.jsonl"
    manifest.write_text(manifest.read_text().replace('"parts_from": "clock", ', ""))  # as it was written before
    assert cut_command(*command) == 0  # the clock is what labels are taken for
    assert "--labels-from start counts from" not in capsys.readouterr().out  # it was said when it was cut
    table.write_text("class,start,end\na,0,4000\nb,4000,9000\n")
    assert cut_command(file, tmp_path / "start", "--every", "1ms", "--labels", table, "--labels-from", "clock") == 2
    assert "parts_from start, now clock" in capsys.readouterr().err
    assert cut_command(*command, "--labels-from", "start", "--from", "1ms") == 2
    assert "which --from leaves out" in capsys.readouterr().err


def test_what_cannot_be_read_or_labelled_does_not_stop_the_others(tmp_path, capsys):
    files = [source(tmp_path, name, "session", seed=k) for k, name in enumerate("abcd")]
    for file, rows in zip(files, ("x,1000,5000", "x,1,2", "x,1000,5000", "y,1000,5000"), strict=True):
        file.with_name(f"{file.stem}_labels.csv").write_text(f"class,start,end\n{rows}\n")
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:100])
    command = [*files, tmp_path / "out", "--every", "1ms", "--labels", files[0].parent, "--min-events", 0]
    with pytest.raises(SystemExit, match="1"):
        cut_command(*command)
    out, err = capsys.readouterr()
    assert "8 windows of 2 recordings" in out
    assert [str(file) in err for file in files] == [True, True, False, False]
    assert "2 of 4 recordings could not be cut" in err
    files[0].write_bytes(whole)
    files[1].with_name("b_labels.csv").write_text("class,start,end\nx,1000,5000\n")
    assert cut_command(*command) == 0
    assert "16 windows of 4 recordings" in capsys.readouterr().out
    for file in files:
        file.write_bytes(b"")
    assert cut_command(*files, tmp_path / "none", "--every", "1ms") == 2


def test_classes_are_those_of_windows_and_the_others_are_named(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("class,start,end\nWave,2000,4000\nwave,4000,6000\ntoo short,6000,6500\n")
    command = ["--every", "1ms", "--labels", tmp_path / "a.csv", "--json"]
    assert cut_command(source(tmp_path), tmp_path / "out", *command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == 2
    notes = "\n".join(facts["notes"])
    assert "no window shows the class 'too short'" in notes
    assert "in case alone: Wave, wave" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "say how long a window is"),
        ("--every 1ms --events 3", "either --every 200ms, or --events 20000"),
        ("--every 1", "'1' is no duration"),
        ("--events 3 --stride 1ms", "no number of events"),
        ("--events 0", "out of range; use 1 or more"),
        ("--every 1ms --class a/b", "can't be the name of a folder"),
        ("--every 1ms --crop centre", "say the size"),
        ("--every 1ms --min-events -1", "out of range; use 0 or more"),
        ("--every 1ms --labels nowhere", "nowhere"),
        ("--every 1ms --labels-from start", "give --labels"),
    ],
)
def test_mistakes_leave_nothing_behind(options, message, tmp_path, capsys):
    assert cut_command(source(tmp_path), tmp_path / "out", *options.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_is_damaged_is_named(tmp_path):
    (tmp_path / "windows.jsonl").write_text("{\n")
    with refused("is damaged"):
        read_manifest(tmp_path)
