"""Text, arrays, HDF5 of others, and packed files: equal recordings are read equal; what can't be told is asked for."""

import bz2
import dataclasses
import functools
import gzip
import io
import itertools
import sys
import zipfile

import encoders
import numpy as np
import pytest
from checks import REAL, needs_real_data, other_notes, refuse, require_equal
from checks import columns as columns_of
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.cli.main import main
from spikewise.data.events.formats import detect_format, read_events, reading, table, text, write_events

EVENTS = encoders.random_events(400, height=100, width=120, last=900_000)
T, X, Y, P = EVENTS
SECONDS = T / 1e6


def written(folder, content, name="a.txt"):
    (folder / name).write_bytes(content)
    return folder / name


# Text ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    "order", ["".join(order) for order in itertools.permutations("txyp") if order.index("x") < order.index("y")]
)
@pytest.mark.parametrize("decimals", [None, 6, 9])
def test_columns_without_names_are_told_by_their_numbers_and_that_is_noted(order, decimals, tmp_path):
    found = read_events(written(tmp_path, encoders.text(*EVENTS, order=order, decimals=decimals)))
    require_equal(found, *EVENTS)
    assert f"columns taken as {','.join(order)}" in found.notes[0]
    assert any("taken as seconds" in note for note in found.notes) == (decimals is not None)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("head", "order", "separator"),
    [
        ("t x y p\n", "txyp", " "),
        ("timestamp,x,y,polarity\r\n", "txyp", ","),
        ("Timestamp;Pol;Y;X\n", "tpyx", ";"),
        ("x\ty\ton\ttime\n", "xypt", "\t"),
        (",t [us],x [px],y (px),p\n", "_txyp", ", "),
        ("# made by hand\n# y x p ts\n", "yxpt", "  "),
        ("\ufeff% t,x,y,p\n\n", "txyp", ","),
        ("#!events.txt\n# This is a text DVS created by v2e\n", "txyp", " "),
        ("index,col,row,polarity,t_us\n", "_xypt", " , "),
    ],
)
def test_columns_are_named_by_the_first_line_or_a_comment(head, order, separator, tmp_path):
    decimals = 6 if "events.txt" in head else None
    found = read_events(
        written(tmp_path, encoders.text(*EVENTS, order=order, separator=separator, head=head, decimals=decimals))
    )
    require_equal(found, *EVENTS)
    assert other_notes(found) == ()
    is_told = decimals or "us" in head
    assert len(found.notes) == (0 if is_told else 1)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("values", "note"),
    [
        ((0, 1), ()),
        ((-1, 1), ()),
        ((1, 2), ("polarity 1 taken as OFF, 2 as ON",)),
        ((0, 255), ("polarity 0 taken as OFF, 255 as ON",)),
        (("false", "True"), ()),
        (("OFF", "on"), ()),
        (("0.0", "1e0"), ()),
    ],
)
def test_polarities_of_every_pair(values, note, tmp_path):
    polarity = [values[p] for p in P]
    found = read_events(written(tmp_path, encoders.text(T, X, Y, polarity, head="t x y p\n")))
    require_equal(found, *EVENTS)
    assert other_notes(found) == note
    if not isinstance(values[0], str):
        np.savez(tmp_path / "a.npz", t=T, x=X, y=Y, p=polarity)
        require_equal(read_events(tmp_path / "a.npz"), *EVENTS)


@pytest.mark.usefixtures("both")
def test_what_np_savetxt_writes_is_read(tmp_path):
    file = io.BytesIO()
    np.savetxt(file, np.stack([SECONDS, X, Y, P], axis=1))
    require_equal(read_events(written(tmp_path, file.getvalue())), *EVENTS)


@pytest.mark.usefixtures("both")
def test_the_order_and_unit_that_are_said_are_taken(tmp_path):
    file = written(tmp_path, encoders.text(T, Y, X, P, order="_txyp"), "a.csv")
    refuse(r"has 5 columns without names; say which with .*--columns", read_events, file)
    require_equal(read_events(file, columns="_,t,y,x,p"), *EVENTS)
    refuse("should name t, x, y and p once each", read_events, file, columns="t,x,y,y,p")
    refuse("has 5 columns, and columns='t,x,y,p' names 4", read_events, file, columns="t,x,y,p")
    milliseconds = written(
        tmp_path, encoders.text(*EVENTS, decimals=7).replace(b"0.", b""), "b.txt"
    )  # parts of a microsecond / 10
    assert len(read_events(milliseconds, columns="t,x,y,p", time_unit="us")) == len(T)


@pytest.mark.usefixtures("both")
def test_a_first_line_of_two_numbers_is_the_sensor(tmp_path):
    found = read_events(written(tmp_path, encoders.text(*EVENTS, head="346 260\n", decimals=9)))
    require_equal(found, *EVENTS)
    assert (found.size, found.is_size_told) == ((260, 346), True)


def test_comments_between_events_and_a_last_line_without_end_are_said(tmp_path):
    content = encoders.text(*EVENTS, head="t x y p\n") + b"\n# the end\n  \n999999 1 2 1"
    found = read_events(written(tmp_path, content))
    assert (len(found), found.t[-1]) == (len(T) + 1, 999_999)
    assert other_notes(found) == ("1 comment between events skipped", "the last line does not end: it may have been cut")


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5 1 2", r"line 402 has 3 columns, not 4: '5 1 2'"),
        ("5 1 2 1 7", r"line 402 has 5 columns"),
        ("5 x 2 1", r"line 402 has something else than numbers"),
        ("5 -1 2 1", r"line 402 has something else"),
        ("5 1.5 2 1", r"line 402 has something else"),
        ("5 1 70000 1", r"line 402 has something else"),
        ("5 1 2 3", r"line 402 has something else"),
        ("nan 1 2 1", r"line 402 has something else"),
        ("1e30 1 2 1", r"line 402 has a t that is no time"),
        ("5 1 2 -1\n6 1 2 0\n6 1 2 1", r"mixes the polarities -1, 0, 1"),
        ("\0\0\0\0", r"line 402 has something else"),
        ("5", r"line 402 has 1 column, not 4"),
    ],
)
def test_a_damaged_line_is_named_and_what_is_before_it_can_be_salvaged(line, message, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "SAMPLE_ROWS", 100)
    file = written(tmp_path, encoders.text(*EVENTS, head="t x y p\n") + f"{line}\n5 1 2 1\n".encode())
    refuse(message, read_events, file)
    if "mixes" not in message:
        assert f"line {402 + line.count(chr(10))}" in message
        found = read_events(file, salvage=True)
        require_equal(found, *EVENTS)
        assert "salvaged 400 events from the first" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty"),
        (b"to whom it may concern\nnothing\n", r"line 2 is no event: 'nothing'"),
        (b"hello\n", r"line 1 is no event: 'hello'"),
        (b"# only\n# comments\n", r"holds no events, and names no columns"),
        (b"t x y q\n1 2 3 1\n", r"names its columns t, x, y, q: none is the polarity"),
        (b"t,x,y\n1,2,3\n", r"names its columns t, x, y: none is the polarity"),
        (b"t x p q\n1 2 1 1\n", r"names its columns t, x, p, q, not t, x, y and p once each"),
        (b"t x y p\n1 2 3 1 5\n", r"names 4 columns, and its lines have 5"),
        (b"t time x y p\n1 1 2 3 1\n", r"names its columns t, time, x, y, p, not"),
        (b"1 1 0 1\n2 1 0 1\n", r"its numbers don't tell which columns"),
        (b"9000 8000 3 1\n9001 9 4 0\n", r"its numbers don't tell"),
        (
            b"0.5 3 4 1\n7000.5 5 6 0\n",
            r"2 events take 116.7 min if t is in seconds, or 7 s in milliseconds, or 7 ms in microseconds .*; say which unit",
        ),
        (
            b"0 3 4 1\n7000000000 5 6 0\n",
            r"2 events take 116.7 min if t is in microseconds, or 7 s in nanoseconds .*; say which unit",
        ),
        ("t x y p\n1 2 3 1\n".encode("utf-16"), r"text of 16-bit characters"),
        (b"#" * 2**19, r"hold no line of numbers"),
        (b"0 0\n1.5 2 3 1\n", r"height and width should be whole numbers"),
    ],
)
def test_what_is_no_text_of_events_is_refused(content, message, tmp_path):
    refuse(message, read_events, written(tmp_path, content))


def test_names_alone_are_a_recording_without_events_and_that_is_said(tmp_path, capsys):
    found = read_events(file := written(tmp_path, b"t,x,y,p\n"))
    assert (len(found), found.notes) == (0, ("the recording holds no event",))
    assert main(["events", "convert", str(file), str(tmp_path / "a.npz")]) == 0
    assert "note: the recording holds no event" in capsys.readouterr().out


# A real recording in the dialects of others --------------------------------------------------------------------------------


@functools.cache
def real():
    """The first 3,000 events of a DVXplorer's recording: t from 0, x, y, polarity."""
    events = read_events(REAL / "event_files" / "tonic" / "sample.aedat4")[:3000]
    return events.t - events.t[0], *(column.astype(int) for column in columns_of(events)[1:])


def lines(order="txyp", t=str, p=str, separator=" ", end="\n", head=""):
    """The real recording, a line per event; t and p write a time, of microseconds, and a polarity; i numbers the lines."""
    rows = enumerate(zip(*real(), strict=True))
    fields = ({"t": t(int(at)), "x": str(x), "y": str(y), "p": p(int(on)), "i": str(i)} for i, (at, x, y, on) in rows)
    return head + "".join(separator.join(field[name] for name in order) + end for field in fields)


def seconds(t):
    return f"{t / 1e6:.6f}"


DIALECTS = {
    "polarity first": {"order": "ptxy"},
    "polarity between": {"order": "xypt"},
    "-1 and 1": {"p": lambda p: f"{2 * p - 1:+}"},
    "1 and 2": {"p": lambda p: str(p + 1)},
    "0 and 255": {"p": lambda p: str(255 * p)},
    "on and off": {"p": lambda p: "ON" if p else "OFF"},
    "all floating": {"t": "{:.18e}".format, "p": "{:.18e}".format},
    "seconds": {"t": seconds},
    "nine decimals": {"t": lambda t: f"{t / 1e6:.9f}"},
    "since 1970": {"t": lambda t: f"17{t + 10**13:014}"},
    "seconds since 1970": {"t": lambda t: f"1700000000.{t:06}"},
    "milliseconds by name": {"t": lambda t: f"{t / 1e3:.3f}", "head": "t_ms,x,y,p\n", "separator": ","},
    "milliseconds by comment": {"t": lambda t: f"{t / 1e3:.3f}", "head": "# time in ms\n"},
    "nanoseconds by name": {"t": lambda t: str(1000 * t), "head": "timestamp [ns];x;y;polarity\n", "separator": ";"},
    "from 3 seconds before 0": {"t": lambda t: str(t - 3_000_000)},
    "pandas": {"order": "ixytp", "head": ",x,y,t,p\n", "separator": ","},
    "quoted names": {"head": '"t","x","y","p"\n', "separator": ", "},
    "addresses": {"head": "timestamp,x-addr,y-addr,polarity\n", "separator": ","},
    "MATLAB's comment": {"head": "% t x y p\n"},
    "C's comment": {"head": "// t x y p\n"},
    "tabs": {"separator": "\t"},
    "carriage returns": {"end": "\r\n"},
    "empty lines": {"end": "\n\n"},
    "a mark of UTF-8": {"head": "\ufefft,x,y,p\n", "separator": ","},
    "a sensor": {"head": "320 240\n", "t": seconds},
}
REFUSED = {
    "milliseconds": ({"t": lambda t: f"{t / 1e3:.3f}"}, "take 30.6 s if t is in seconds, or 30.6 ms in milliseconds"),
    "whole milliseconds": ({"t": lambda t: str(t // 1000)}, "take 30 us if t is in microseconds, or 30 ms in milliseconds"),
    "nanoseconds": ({"t": lambda t: str(1000 * t)}, "take 30.6 s if t is in microseconds, or 30.6 ms in nanoseconds"),
    "y first": ({"order": "tyxp"}, r"taller than wide, 240 x 319 pixels: say --columns t,x,y,p or t,y,x,p"),
    "decimal commas": ({"t": lambda t: seconds(t).replace(".", ",")}, r"line 1 is '0,000000 .*write decimal points"),
    "thousands": ({"t": "{:,}".format, "separator": ";"}, r"line 90 .*'1,002;129;233;0'; decimal commas are not read"),
    "a time of day": ({"t": lambda t: f"00:00:{t / 1e6:09.6f}"}, r"line 1 is no event: .*times of day and dates are not read"),
    "ISO": (
        {"t": lambda t: f"2024-05-01T12:00:{t / 1e6:09.6f}", "head": "t,x,y,p\n", "separator": ","},
        r"line 2 is no event: '2024.*times of day and dates are not read",
    ),
    "other separators": ({"separator": "|"}, r"line 1 is no event: '0\|154"),
    "old Macintosh": ({"end": "\r"}, r"carriage return alone"),
    "a separator at the end": ({"separator": ",", "end": ",\n"}, r"end in a separator.*--columns"),
    "a number of lines": ({"head": "3000\n"}, r"has 1 column without names"),
    "a number of each": ({"order": "itxyp"}, r"has 5 columns without names.*--columns"),
    "other names": ({"head": "Zeit;x;y;p\n", "separator": ";"}, r"names its columns Zeit, x, y, p, not t, x, y and p"),
    "plus and minus": ({"p": lambda p: "-+"[p]}, r"line 1 is no event"),
}  # fmt: skip


@needs_real_data
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_real_recording_in_a_dialect_is_equal(name, pack, tmp_path):
    file = written(tmp_path, pack(lines(**DIALECTS[name]).encode()), "a.txt.gz" if pack is gzip.compress else "a.txt")
    found = read_events(file)
    require_equal(dataclasses.replace(found, t=found.t - found.t[0]), *real())
    assert found.size == (240, 320) if name == "a sensor" else not found.is_size_told


@needs_real_data
@pytest.mark.parametrize("name", REFUSED)
def test_a_real_recording_in_a_dialect_is_refused_in_words(name, tmp_path):
    how, message = REFUSED[name]
    refuse(message, read_events, written(tmp_path, lines(**how).encode()))


@needs_real_data
def test_what_was_refused_is_read_when_it_is_said(tmp_path):
    for name, options in (
        ("milliseconds", {"time_unit": "ms"}),
        ("nanoseconds", {"time_unit": "ns"}),
        ("y first", {"columns": "t,y,x,p"}),
        ("y first", {"size": (240, 320)}),
        ("a separator at the end", {"columns": "t,x,y,p,_"}),
        ("other names", {"columns": "t,x,y,p"}),
    ):
        require_equal(read_events(written(tmp_path, lines(**REFUSED[name][0]).encode()), **options), *real())


@pytest.mark.parametrize("order", ["txyp", "tyxp", "xpyt", "ypxt"])
def test_a_sensor_tells_whether_x_or_y_is_first(order, tmp_path):
    t, x, y, p = encoders.random_events(400, height=100, width=120, last=900_000)
    content = encoders.text(t, x, y, p, order=order)
    file, array = written(tmp_path, content), written(tmp_path, encoders.npy(t, x, y, p, order=order), "a.npy")
    for found in (read_events(file, size=(100, 120)), read_events(array, size=(100, 120))):
        require_equal(found, t, x, y, p)
        assert f"columns taken as {','.join(order)}: nothing names them" in found.notes[0]
        assert ("only that fits" in found.notes[0]) == (order.index("y") < order.index("x"))
    refuse("outside the sensor", read_events, file, size=(90, 120))


NUMBER_PARTS = st.text(st.sampled_from("0123456789.eE+-"), max_size=26)


@pytest.mark.skipif(not reading.has_native(), reason="no compiler here")
@given(
    fields=st.lists(
        NUMBER_PARTS | st.sampled_from(["1", "-1", "2", "255", "true", "Off", "", "#", "0" * 61, "9" * 19, "1e-05"]), max_size=6
    ),
    separator=st.sampled_from([" ", ",", ";", "\t", " , ", "  "]),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    assumed=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_lines_are_the_same_in_c_and_by_the_definition(fields, separator, unit, assumed):
    layout = text.Layout(0, (0, 1, 2, 3), 4, unit, unit if assumed else "")
    body = np.frombuffer(b"1 2 3 1\n" + separator.join(fields).encode() + b"\r\n4 5 6 0", np.uint8)
    defined = text.decode_numpy(body, layout)
    native = reading.decode_native(
        "text", body, None, columns=(*layout.order, 4), exponent=text.EXPONENTS[unit], takes_parts=layout.takes_parts
    )
    assert (native.error, native.skipped) == (defined.error, defined.skipped) or defined.error
    assert native.error == defined.error
    assert native.at == defined.at or not defined.error
    assert all(np.array_equal(a, b) for a, b in zip(native.columns, defined.columns, strict=True))


@pytest.mark.parametrize(
    ("number", "unit", "microseconds"),
    [
        ("1447.123456789", "s", 1_447_123_457),
        ("1.5e9", "s", 1_500_000_000_000_000),
        ("1500000000.1234564", "s", 1_500_000_000_123_456),  # beyond what float64 keeps
        ("5.0000000000000004e-05", "s", 50),
        ("-0.0000015", "s", -2),
        ("1999", "ns", 1),
        ("-1", "ns", -1),
        (".5", "ms", 500),
        ("2.5", "us", 3),
    ],
)
@pytest.mark.usefixtures("both")
def test_decimal_times_are_exact(number, unit, microseconds, tmp_path):
    file = written(tmp_path, f"t x y p\n{number} 1 2 1\n".encode())
    assert read_events(file, time_unit=unit).t.tolist() == [microseconds]


def test_long_text_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_LINES", 7)
    monkeypatch.setattr(reading, "has_native", lambda: False)
    require_equal(read_events(written(tmp_path, encoders.text(*EVENTS))), *EVENTS)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("t", ("t", None)),
        ("ts", ("t", None)),
        ("time_us", ("t", "us")),
        ("Timestamp [ns]", ("t", "ns")),
        ("t(s)", ("t", "s")),
        ("timestamp-ms", ("t", "ms")),
        ("x (px)", ("x", None)),
        ('"y"', ("y", None)),
        ("t_x", ("", None)),
        ("xs", ("x", None)),
        ("id", ("", None)),
    ],
)
def test_what_a_columns_name_stands_for(name, meaning):
    assert table.column_name(name) == meaning


# NumPy and HDF5 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("dtype", ["<i8", "<f8", ">u4"])
def test_one_array_of_four_columns(order, dtype, tmp_path):
    content = encoders.npy(*EVENTS, order=order, dtype=dtype)
    file = written(tmp_path, content, "a.npy")
    np.savez(tmp_path / "b.npz", events=np.load(file))
    np.save(tmp_path / "c.npy", np.load(file).T)
    (tmp_path / "d.h5").write_bytes(encoders.hdf5_file({"events": np.load(file)}))
    for name in ("a.npy", "b.npz", "c.npy", "d.h5"):
        found = read_events(tmp_path / name)
        require_equal(found, *EVENTS)
        assert f"columns taken as {','.join(order)}" in found.notes[0]
    assert detect_format(file) == "npy"
    swapped = order.replace("x", "z").replace("y", "x").replace("z", "y")
    require_equal(read_events(file, columns=",".join(swapped)), T, Y, X, P)


@pytest.mark.parametrize("names", [("timestamp", "x", "y", "polarity"), ("ts", "col", "row", "pol"), ("t", "X", "Y", "on")])
def test_one_array_with_fields_of_many_names(names, tmp_path):
    file = written(tmp_path, encoders.npy_fields(*EVENTS, names=names), "a.npy")
    require_equal(read_events(file), *EVENTS)
    refuse("names its fields", read_events, file, columns="t,x,y,p")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{}] * 4), r"holds Python objects, which are not unpickled"),
        (np.zeros((3, 5)), r"of shape \(3, 5\); give an array with the fields t, x, y, p, or of four columns"),
        (np.zeros((9, 4)), r"don't tell which columns"),
        (np.array([["a"] * 4]), r"holds <U1, not numbers"),
        (np.zeros(3, [("t", "i8"), ("x", "i2")]), r"has no array y; it holds t, x"),
    ],
)
def test_arrays_that_are_no_recording(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    refuse(message, read_events, tmp_path / "a.npy")


def test_an_array_that_was_cut(tmp_path):
    file = written(tmp_path, encoders.npy(*EVENTS)[:-3], "a.npy")
    refuse(r"promises 12,800 bytes of numbers and has 12,797", read_events, file)


OTHERS = {
    "v2e": encoders.v2e_hdf5,
    "e2vid": encoders.e2vid,
    "dsec": encoders.dsec,
    "m3ed": encoders.m3ed,
    "mvsec": encoders.mvsec,
}


@pytest.mark.parametrize("name", OTHERS)
def test_hdf5_as_others_write_it(name, tmp_path):
    small = encoders.random_events(400, height=30, width=40, last=900_000)
    found = read_events(written(tmp_path, OTHERS[name](*small), "a.h5"))
    require_equal(found, small[0] + (1_500_000_000_000_000 if name == "mvsec" else 0), *small[1:])
    assert found.size == {"m3ed": (720, 1280), "mvsec": (260, 346)}.get(name, (30, 40))
    assert any("taken as seconds" in note for note in found.notes) == (name in ("e2vid", "mvsec"))
    assert any("times taken as" in note for note in found.notes) == (name not in ("dsec", "m3ed"))  # whose layout says it


@pytest.mark.parametrize("encode", [encoders.mvsec, encoders.m3ed])
def test_of_two_cameras_in_hdf5_one_is_asked_for(encode, tmp_path):
    file = written(tmp_path, encode(*EVENTS, sides=("left", "right")), "a.h5")
    refuse(r"holds 2 streams of events, .*left.*right.*--stream", read_events, file)
    for name in ("left", "right"):
        assert np.array_equal(read_events(file, stream=name).x, X)
    refuse(r"has no stream 'top'; it holds .*left", read_events, file, stream="top")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (32001, r"packed with Blosc \(HDF5 filter 32001\), which is not installed: pip install hdf5plugin"),
        (32015, r"packed with Zstandard \(HDF5 filter 32015\)"),
        (36559, r"packed with Prophesee's ECF \(HDF5 filter 36559\), .*hdf5_ecf.*HDF5_PLUGIN_PATH"),
        (300, r"packed with an unknown filter \(HDF5 filter 300\)"),
    ],
)
def test_a_filter_that_is_missing_is_named(number, message, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in zip("txyp", EVENTS, strict=True):
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk((400,))
            plan.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
            space = h5py.h5s.create_simple((400,))
            data = h5py.h5d.create(file.require_group("events").id, name.encode(), h5py.h5t.NATIVE_INT64, space, plan)
            data.write_direct_chunk((0,), column.astype("<i8").tobytes())
    refuse(message, read_events, tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("packing", "options"),
    [
        ("Blosc", {}),
        ("Blosc", {"cname": "zstd", "clevel": 1, "shuffle": 1}),  # DSEC's
        ("Blosc2", {}),
        ("Zstd", {}),
        ("LZ4", {}),
        ("BZip2", {}),
        ("Bitshuffle", {}),
    ],
)
def test_packings_of_hdf5plugin_are_read(packing, options, tmp_path):
    plugins = pytest.importorskip("hdf5plugin")
    (tmp_path / "a.h5").write_bytes(encoders.hdf5(*EVENTS, chunks=(257,), **getattr(plugins, packing)(**options)))
    require_equal(read_events(tmp_path / "a.h5"), *EVENTS)


def test_hdf5_is_written_or_nothing_where_the_disk_is_full(tmp_path, monkeypatch):
    events = read_events(written(tmp_path, encoders.text(*EVENTS)))
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        refuse("No space left", write_events, events, tmp_path / "out" / "a.h5", kind=OSError)
    assert not list((tmp_path / "out").iterdir())


# Packed ----------------------------------------------------------------------------------------------------------------------


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


SMALL = encoders.random_events(300, height=30, width=32, last=200_000)
CONTAINERS = {
    "a.aedat": encoders.aedat2(*SMALL),
    "b.aedat": encoders.aedat3(*SMALL),
    "c.aedat": encoders.davis(*SMALL),
    "d.aedat": encoders.davis(*SMALL, header=encoders.START2 + b"# created by AEDat2Output in v2e\r\n", size=(260, 346)),
    "a.aedat4": encoders.aedat4(SMALL),
    "a.bin": encoders.atis(*SMALL),
    "a.dat": encoders.dat(*SMALL),
    "a.raw": encoders.evt3(*SMALL),
    "a.npz": encoders.npz(*SMALL),
    "a.npy": encoders.npy_fields(*SMALL),
    "a.h5": encoders.hdf5(*SMALL),
    "v2e.h5": encoders.v2e_hdf5(*SMALL),
    "a.txt": encoders.text(*SMALL, decimals=9),
    "a.csv": encoders.text(*SMALL, separator=",", head="x,y,p,t\n", order="xypt"),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".zip"])
def test_equal_recordings_in_every_container_are_equal(name, packing, tmp_path):
    content = CONTAINERS[name]
    packed = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zip": lambda content: zipped({name: content})}[packing]
    found = read_events(file := written(tmp_path, packed(content), name + packing))
    if name != "d.aedat":
        require_equal(found, *SMALL)
        zipped_array = (name, packing) == ("a.npy", ".zip")  # which is NPZ
        assert detect_format(file) == "npz" if zipped_array else detect_format(written(tmp_path, content, name))


def test_of_several_recordings_in_a_zip_file_one_is_asked_for(tmp_path):
    file = written(
        tmp_path, zipped({name: CONTAINERS[name] for name in ("a.bin", "a.txt")} | {"__MACOSX/a.bin": b"", ".DS": b""}), "a.zip"
    )
    refuse(r"holds 2 streams of events, a\.bin, a\.txt; .*--stream", read_events, file)
    for name in ("a.bin", "a.txt"):
        require_equal(read_events(file, stream=name), *SMALL)
    refuse(r"has no stream 'b'", read_events, file, stream="b")
    refuse(r"b\.zip holds no file", read_events, written(tmp_path, zipped({"a/": b""}), "b.zip"))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_that_was_cut_or_is_a_bomb(pack, tmp_path):
    whole = pack(CONTAINERS["a.txt"])
    file = written(tmp_path, whole[: len(whole) // 2], "a.txt.gz")
    refuse(r"a\.txt\.gz can't be unpacked", read_events, file)
    refuse(r"becomes more than 64 times as large", read_events, written(tmp_path, pack(bytes(2**24)), "b.bin.gz"))
    refuse(r"c\.gz is not in a known format: it begins with 61", detect_format, written(tmp_path, pack(b"abc"), "c.gz"))


def test_what_a_cut_gzip_file_still_holds_is_salvaged(tmp_path):
    big = encoders.random_events(50_000, height=30, width=32, last=10**6)
    whole = gzip.compress(encoders.aedat2(*big))
    file = written(tmp_path, whole[: len(whole) // 2], "a.aedat.gz")
    found = read_events(file, salvage=True)
    assert 10_000 < len(found) < 45_000
    require_equal(found, *(column[: len(found)] for column in big))
    assert "can't be unpacked" in found.notes[0]


# Salvage, other files, other cameras -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.aedat", "b.aedat", "c.aedat", "a.aedat4", "a.bin", "a.dat", "a.raw", "a.csv"])
def test_what_a_cut_file_still_holds_is_salvaged_and_said(name, tmp_path):
    content = CONTAINERS[name]
    missing = len(content) // 160 * 40 + 1  # all events take 1, 2, 4, 5 or 8 bytes
    file = written(tmp_path, content[:-missing], name)
    refuse("cut|damaged|line", read_events, file)
    found = read_events(file, salvage=True)
    assert len(SMALL[0]) // 3 < len(found) < len(SMALL[0])
    require_equal(found, *(column[: len(found)] for column in SMALL))
    assert f"salvaged {len(found)} events from the first" in found.notes[0]
    require_equal(read_events(written(tmp_path, content, name), salvage=True), *SMALL)


def test_a_file_of_which_nothing_can_be_salvaged(tmp_path):
    file = written(tmp_path, b"#!AER-DAT4.0\r\nrubbish", "a.aedat4")
    refuse("is damaged", read_events, file, salvage=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bag", b"#ROSBAG V2.0\n" + bytes(99), r"a bag of ROS 1, which is not read; export the topic"),
        ("a.db3", b"SQLite format 3\0" + bytes(99), r"ROS 2 \(\.db3\).*export"),
        ("a.mcap", b"\x89MCAP0\r\n", r"MCAP.*export"),
        ("b.bag", b"whatever", r"named like a bag of ROS; export"),
        ("a.xz", b"\xfd7zXZ\0", r"packed by xz; unpack it first"),
        ("a.mat", b"MATLAB 5.0 MAT-file, Platform", r"a file of MATLAB"),
        ("a.tar", bytes(257) + b"ustar", r"a tar file"),
        ("a.pkl", b"\x80\x04\x95", r"could run code"),
    ],
)
def test_files_of_others_say_how_to_get_at_the_events(name, content, message, tmp_path):
    refuse(message, read_events, written(tmp_path, content, name))


def test_of_two_cameras_in_aedat_4_one_is_asked_for(tmp_path):
    other = encoders.random_events(50, height=30, width=32, seed=1)
    file = written(tmp_path, encoders.aedat4(SMALL, other), "a.aedat4")
    refuse(r"holds 2 streams of events, 0, 1; .*--stream", read_events, file)
    require_equal(read_events(file, stream="0"), *SMALL)
    require_equal(read_events(file, stream="1"), *other)
    none = written(tmp_path, encoders.aedat4(kinds=["FRME"]), "b.aedat4")
    refuse(r"has no stream of events; it holds frame", read_events, none)


def test_of_two_cameras_in_aedat_3_one_is_asked_for(tmp_path):
    other = [column[:50] for column in encoders.random_events(300, seed=3)]
    header = encoders.END3.replace(b"#Source 1: DVS128\r\n", b"#Source 1: DVS128\r\n#Source 2: DAVIS240C\r\n")
    body = encoders.aedat3(*other)[len(encoders.END3) :].replace(b"\1\0\1\0\x08\0\0\0", b"\1\0\2\0\x08\0\0\0")
    file = written(tmp_path, header + encoders.aedat3(*SMALL)[len(encoders.END3) :] + body, "a.aedat")
    refuse(r"holds 2 streams of events, 1, 2", read_events, file)
    require_equal(read_events(file, stream="1"), *SMALL)
    second = read_events(file, stream="2")
    require_equal(second, *other)
    assert second.size == (180, 240)


def test_a_davis_without_a_name_needs_its_sensor(tmp_path):
    size, v2e = (260, 346), encoders.START2 + b"# This is a raw AE data file created by AEDat2Output in v2e\r\n"
    wide = encoders.random_events(300, *size)
    for header in (v2e, encoders.START2):
        found = read_events(written(tmp_path, encoders.davis(*wide, header=header, size=size), "a.aedat"))
        require_equal(found, *wide)
        assert found.size == size
    corner = encoders.davis(*encoders.random_events(300, 10, 10), header=v2e, size=(180, 240))
    file = written(tmp_path, corner, "b.aedat")
    refuse(r"does not say of which sensor; .*--sensor", read_events, file)
    require_equal(read_events(file, size=(180, 240)), *encoders.random_events(300, 10, 10))
    raw = read_events(file, raw=True)
    assert np.array_equal(239 - raw.x.astype(int), encoders.random_events(300, 10, 10)[1])
    assert len(columns_of(raw)) == 4


@pytest.mark.parametrize("order", ["t,x,y,p,_", "_,t,x,y,p"])
def test_an_array_of_more_columns_is_read_where_they_are_said(order, tmp_path):
    table = np.stack([dict(zip("txyp", EVENTS, strict=True)).get(name, X) for name in order.split(",")], axis=1)
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "b.npz", events=table.T)
    for file in (tmp_path / "a.npy", tmp_path / "b.npz"):
        require_equal(read_events(file, columns=order, time_unit="us"), *EVENTS)
    refuse("of others say which with .*--columns", read_events, tmp_path / "a.npy")


@pytest.mark.usefixtures("both")
def test_fields_between_quotation_marks_are_read_and_that_is_said(tmp_path):
    lines = encoders.text(*EVENTS, separator=",", head="t,x,y,p\n").decode().splitlines()
    quoted = "".join(",".join(f'"{field}"' for field in line.split(",")) + "\n" for line in lines)
    found = read_events(written(tmp_path, quoted.encode(), "a.csv"))
    require_equal(found, *EVENTS)
    assert "quotation marks" in found.notes[0]


def test_of_the_event_camera_dataset_only_the_events_are_a_stream(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("shapes/events.txt", encoders.text(*EVENTS, decimals=9))
        for name in ("calib.txt", "images.txt", "imu.txt", "groundtruth.txt", "images/frame_0.png"):
            archive.writestr(f"shapes/{name}", "1 2 3 4")
    require_equal(read_events(tmp_path / "a.zip"), *EVENTS)
