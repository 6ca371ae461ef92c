"""Files of event cameras: what was written is read, by two independent ways; what is damaged is refused in a line."""

import bz2
import gzip
import os
import struct
import sys
import zipfile

import encoders
import h5py
import numpy as np
import pytest
from checks import REAL, as_events, needs_real_data, refuse, require_equal
from checks import columns as columns_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikewise.data.events import Events
from spikewise.data.events.formats import FORMATS, aedat2, aedat3, atis, detect_format, read_events, reading, write_events
from spikewise.data.events.frames import FRAME_BINNERS

SMALL = encoders.random_events(300, height=30, width=32, last=200_000)
OURS = {"aedat2": encoders.aedat2, "aedat3": encoders.aedat3, "atis": encoders.atis}
PROPHESEE = {"dat": encoders.dat, "evt2": encoders.evt2, "evt21": encoders.evt21, "evt3": encoders.evt3}
SUFFIX = {name: FORMATS[name].suffixes[0] for name in FORMATS}


TABLES = {"npz": encoders.npz, "npy": encoders.npy_fields, "hdf5": encoders.hdf5, "text": encoders.text}
ALL = OURS | PROPHESEE | TABLES | {"aedat4": lambda *columns: encoders.aedat4(columns)}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("both")
def test_what_was_written_is_read(name, tmp_path):
    file = tmp_path / f"a{SUFFIX[name]}"
    file.write_bytes(ALL[name](*SMALL))
    assert detect_format(file) == name
    require_equal(read_events(file), *SMALL)
    require_equal(read_events(str(file), format=name, size=(720, 1280)), *SMALL)


@pytest.mark.parametrize("name", OURS)
@given(n=st.integers(0, 60), seed=st.integers(0, 99), last=st.sampled_from([1, 10**4, 2**22, 2**31 + 10**6, 2**33]))
@settings(max_examples=60, deadline=None)
def test_ours_for_any_events_and_both_decoders(name, n, seed, last, tmp_path_factory):
    if name == "atis":
        last = min(last, 2**22)
    t, x, y, polarity = encoders.random_events(n, height=100, width=128, seed=seed, last=last)
    if name == "aedat2" and last > 2**31:
        t = np.cumsum(np.diff(t, prepend=0) % (2**31 - 1))  # of longer pauses a clock of 32 bits tells nothing
    file = tmp_path_factory.mktemp("any") / f"a{SUFFIX[name]}"
    file.write_bytes(OURS[name](t, x, y, polarity))
    if not n and name == "atis":
        refuse("is empty", read_events, file)
        return
    require_equal(read_events(file), t - (t[0] >> 32 << 32 if n and name == "aedat2" else 0), x, y, polarity)
    body = np.frombuffer(file.read_bytes(), np.uint8)
    begin = {"aedat2": len(encoders.START2), "aedat3": len(encoders.END3), "atis": 0}[name]
    defined = {"aedat2": aedat2, "aedat3": aedat3, "atis": atis}[name].decode_numpy(body[begin:])
    if reading.has_native():
        native = reading.decode_native(name, body[begin:], max(1, len(body)))
        require_equal(Events(*native.columns, (100, 128)), *defined.columns)


@pytest.mark.skipif(not reading.has_native(), reason="no compiler here: the decoders in NumPy keep events in memory")
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("room", [True, False])
def test_many_events_lie_in_a_file_where_there_is_room(name, room, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_EVENTS_IN_MEMORY", 100)
    if not room:
        monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    expected = encoders.random_events(501, 34, 34, last=8000)
    (tmp_path / "a").write_bytes(OURS[name](*expected))
    events = read_events(tmp_path / "a", name)
    require_equal(events, *expected)
    assert all(isinstance(array, np.memmap) == room for array in columns_of(events))
    kept = Events(*(np.array(array) for array in columns_of(events)), events.size)
    for frames in FRAME_BINNERS.values():
        assert np.array_equal(frames(events, 7), frames(kept, 7))


def test_events_marked_invalid_and_other_packets_are_left_out(tmp_path):
    valid = np.arange(len(SMALL[0])) % 3 > 0
    (tmp_path / "a.aedat").write_bytes(encoders.aedat3(*SMALL, valid=valid, at_once=7))
    require_equal(read_events(tmp_path / "a.aedat"), *(column[valid] for column in SMALL))


@pytest.mark.usefixtures("both")
def test_marks_of_an_external_signal_are_left_out(tmp_path):
    marks = struct.pack(">II", 0x8000, 5) + struct.pack(">II", 0xFFFF, 6)
    (tmp_path / "a.aedat").write_bytes(encoders.aedat2(*SMALL, header=encoders.START2 + marks))
    require_equal(read_events(tmp_path / "a.aedat"), *SMALL)


@pytest.mark.parametrize(
    ("chip", "size"), [("davis.Davis346red", (260, 346)), ("davis.DAVIS240C", (180, 240)), ("sbret10.SBret10", (180, 240))]
)
@pytest.mark.parametrize("end", [b"", b"#End Of ASCII Header\r\n"])
def test_a_davis_is_known_by_the_headers_chip(chip, size, end, tmp_path):
    header = encoders.START2 + f"# AEChip: eu.seebetter.ini.chips.{chip}\r\n".encode() + end
    t, x, y, polarity = encoders.random_events(300, *size, last=10**6)
    if end:
        y[0] = size[0] - 1 - 142  # its first byte is that of #, as in a line of text
    t += 2**32 - 5 * 10**5
    (tmp_path / "a.aedat").write_bytes(encoders.davis(t, x, y, polarity, header, size=size))
    events = read_events(tmp_path / "a.aedat")
    require_equal(events, t, x, y, polarity)
    assert events.size == size


def test_times_that_run_backwards_are_sorted(tmp_path):
    backwards = [column[::-1] for column in SMALL]
    for name in ("aedat2", "aedat3", "npz", "hdf5"):
        (tmp_path / "a").write_bytes(ALL[name](*backwards))
        require_equal(read_events(tmp_path / "a"), *SMALL)
        assert "299 events of 300 were not in the order of time: sorted" in read_events(tmp_path / "a").notes


@needs_real_data
@pytest.mark.parametrize(
    ("file", "format", "events", "size"),
    [
        ("tonic/sample_nmnist.bin", "atis", 4_325, (34, 34)),
        ("tonic/sample_ncars.dat", "dat", 2_009, (42, 78)),
        ("loris/NCARS_obj_004397_td.dat", "dat", 4_407, (61, 54)),
        ("tonic/sample.aedat4", "aedat4", 111_954, (240, 320)),
        ("expelliarmus/evt2_sample.raw", "evt2", 539_481, (476, 600)),
        ("expelliarmus/evt3_sample.raw", "evt3", 219_596, (720, 1280)),
        ("tonic/sample_aedat_header.aedat", "aedat2", 0, (260, 346)),
    ],
)
def test_real_files(file, format, events, size):
    assert detect_format(REAL / "event_files" / file) == format
    found = read_events(REAL / "event_files" / file)
    assert (len(found), found.size) == (events, size)
    if format == "evt3":
        expected = np.load((REAL / "event_files" / file).with_suffix(".npy"))  # whose times add 4,096 at every fall
        assert all(np.array_equal(getattr(found, a), expected[b]) for a, b in (("x", "x"), ("y", "y"), ("polarity", "p")))
        assert 8_192 < found.duration < 3 * 4096  # the upper halves of the times, in the file, are 2861 to 2863


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5"])
def test_what_we_write_we_read(suffix, tmp_path):
    events = as_events(*SMALL, (30, 40))
    write_events(events, tmp_path / f"a{suffix}")
    found = read_events(tmp_path / f"a{suffix}")
    require_equal(found, *SMALL)
    assert found.size == (30, 40)
    write_events(events[:0], tmp_path / f"none{suffix}")
    assert len(read_events(tmp_path / f"none{suffix}")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"none{suffix}"]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_sensor_that_nobody_told_is_not_written_as_a_fact(suffix, tmp_path):
    (tmp_path / "a.npy").write_bytes(encoders.npy_fields(*SMALL))
    guessed = read_events(tmp_path / "a.npy")
    assert not guessed.is_size_told
    write_events(guessed, tmp_path / f"b{suffix}")
    assert not read_events(tmp_path / f"b{suffix}").is_size_told
    write_events(read_events(tmp_path / "a.npy", size=(30, 40)), tmp_path / f"c{suffix}")
    assert read_events(tmp_path / f"c{suffix}").is_size_told


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    events = as_events(*np.zeros((4, 3), int), (2, 2))
    refuse(
        r"a\.aedat has no format that can be written; end it with one of \.npz, \.h5, \.hdf5",
        write_events,
        events,
        tmp_path / "a.aedat",
    )
    monkeypatch.setattr(np, "savez_compressed", lambda *_a, **_k: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    refuse("No space", write_events, events, tmp_path / "a.npz", kind=OSError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["{}", "CD/events/{}"], ids=["root", "Prophesee"])
def test_places_in_hdf5(place, tmp_path):
    (tmp_path / "a.h5").write_bytes(encoders.hdf5(*SMALL, place=place))
    require_equal(read_events(tmp_path / "a.h5"), *SMALL)


@pytest.mark.parametrize("place", ["data/0", "events"], ids=["tonic's cache", "one array"])
def test_one_array_with_fields(place, tmp_path):
    array = np.array(list(zip(*SMALL, strict=True)), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[place] = array
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.h5", "a.npz"):
        require_equal(read_events(tmp_path / name), *SMALL)


@pytest.mark.parametrize(
    "names", [("ts", "xs", "ys", "ps"), ("time", "x", "y", "pol"), ("timestamps", "x", "y", "polarities")], ids=str
)
def test_names_that_others_give_to_the_arrays(names, tmp_path):
    arrays = dict(zip(names, SMALL, strict=True))
    np.savez(tmp_path / "a.npz", **arrays)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("events").update(arrays)
    for suffix in ("npz", "h5"):
        require_equal(read_events(tmp_path / f"a.{suffix}"), *SMALL)


def test_polarities_of_minus_one(tmp_path):
    (tmp_path / "a.npz").write_bytes(encoders.npz(*SMALL[:3], 2 * SMALL[3] - 1))
    require_equal(read_events(tmp_path / "a.npz"), *SMALL)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("both")
def test_a_file_cut_anywhere_gives_events_or_a_line(name, tmp_path):
    whole = ALL[name](*(column[:20] for column in SMALL))
    file = tmp_path / f"a{SUFFIX[name]}"
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        file.write_bytes(whole[:length])
        events_or_a_line(file, name)


def events_or_a_line(file, name=None, salvage=False):
    try:
        events = read_events(file, format=name, salvage=salvage)
    except ValueError as error:
        refusal = str(error)
        assert "\n" not in refusal
        assert str(file) in refusal
    else:
        assert events.x.max(initial=0) < events.size[1]
        assert events.y.max(initial=0) < events.size[0]
        assert set(np.unique(events.polarity)) <= {0, 1}


CHANGED = ALL | {
    "v2e": encoders.v2e_hdf5,
    "mvsec": encoders.mvsec,
    "gzip": lambda *columns: gzip.compress(encoders.text(*columns)),
    "bzip2": lambda *columns: bz2.compress(encoders.aedat2(*columns)),
}


@pytest.mark.parametrize("name", CHANGED)
@given(data=st.data(), salvage=st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_file_changed_anywhere_gives_events_or_a_line(name, data, salvage, tmp_path_factory):
    content = bytearray(CHANGED[name](*(column[:12] for column in SMALL)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    file = tmp_path_factory.mktemp("fuzz") / f"a{SUFFIX.get(name, '')}"
    file.write_bytes(content)
    events_or_a_line(file, name if name in FORMATS else None, salvage=salvage)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not in a known format: it is empty"),
        (b"\x7fELF", r"is not in a known format: it begins with 7f 45 4c 46; known: aedat2 \(\.aedat\)"),
        (b"#!AER-DAT2.0\r\n# no end", r"the header's line at byte 14 does not end; the file was cut"),
        (encoders.START2 + b"\0" * 13, r"was cut: the event at byte 115 has 5 of 8 bytes"),
        (encoders.START2 + b"\0" * 8 + b"\x80" + b"\0" * 7, r"the address at byte 115 has more than 16 bits"),
        (encoders.END3 + b"\0" * 27, r"damaged at byte 105: a packet's header is cut"),
        (
            encoders.END3 + encoders.packet3(1, bytes(8), each=0, number=1),
            r"damaged at byte 105: the packet there promises events of no bytes",
        ),
        (encoders.END3 + encoders.packet3(1, bytes(8), each=-8, number=1), r"promises events of no bytes"),
        (encoders.END3 + encoders.packet3(1, bytes(8), number=2, room=1), r"more than it has room for"),
        (
            encoders.END3 + encoders.packet3(1, bytes(8), each=2**31 - 1, number=1, room=2**31 - 1),
            r"promises more than the file holds",
        ),
        (encoders.END3 + encoders.packet3(1, bytes(8), each=4), r"camera events of another size than 8 bytes"),
        (encoders.END3.replace(b"RAW", b"PNG"), r"compressed; write it again as #Format: RAW"),
        (b"% evt 2.0\nabc", r"was cut: the event at byte 10 has 3 of 4 bytes"),
        (b"% Version 2\n\x00\x04" + b"\0" * 8, r"byte 13 should say that an event takes 8 bytes"),
        (b"% evt 4.0\n" + b"\0" * 8, r"is not in a known format"),
        (b"#!AER-DAT4.0\r\nrubbish", r"is damaged"),
        (b"PK\x03\x04 rubbish", r"is a damaged zip file"),
        (b"\x89HDF\r\n\x1a\nrubbish", r"is not a file of events"),
    ],
)
@pytest.mark.usefixtures("both")
def test_damage_is_named_with_its_place(content, message, tmp_path):
    (tmp_path / "a").write_bytes(content)
    refuse(message, read_events, tmp_path / "a")


THREE = np.arange(3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"t": THREE, "x": THREE, "y": THREE}, r"has no array p; it holds t, x, y"),
        (
            {"t": THREE, "x": THREE, "y": THREE, "p": THREE[:2] % 2},
            r"of shapes \(3,\), \(3,\), \(3,\), \(2,\) are no recording",
        ),
        (
            {"t": THREE, "x": THREE, "y": THREE, "p": THREE},
            r"mixes the polarities 0, 1, 2; OFF and ON may be",
        ),
        ({"t": THREE, "x": -THREE, "y": THREE, "p": THREE % 2}, r"event 1 has x=-1, outside 0 to 65535"),
        ({"t": THREE, "x": THREE * 4000, "y": THREE, "p": THREE % 2}, r"no sensor is that large"),
        (
            {"t": THREE / 2, "x": THREE, "y": THREE, "p": THREE % 2},
            r"3 events take 1 s if t is in seconds, or 1 ms in milliseconds",
        ),
        ({"t": np.array(["a"] * 3), "x": THREE, "y": THREE, "p": THREE}, r"t holds <U1, not numbers"),
        ({"t": np.array([{}] * 3), "x": THREE, "y": THREE, "p": THREE}, r"t\.npy holds Python objects"),
        ({"t": THREE, "x": THREE, "y": THREE, "p": THREE % 2, "height": -1, "width": 4}, r"height and width should be whole"),
    ],
)
def test_arrays_that_are_no_recording(arrays, message, tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, **arrays)
    refuse(message, read_events, tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("length", "num_bytes", "message"),
    [
        (2**24, 2**27, r"its arrays would take 134,217,856 bytes, \d+ times the file's"),
        (2**50, 0, r"t\.npy promises 9,007,199,254,740,992 bytes and has 0"),
    ],
)
def test_bombs_are_not_unpacked(length, num_bytes, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("t.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (length,)})
        file.write(bytes(num_bytes))
    refuse(message, read_events, tmp_path / "a.npz")


def test_more_than_a_file_of_hdf5_holds_is_not_allocated(tmp_path):
    with h5py.File(tmp_path / "claim.h5", "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", shape=(2**40,), dtype="i8", chunks=(1024,))
    refuse(r"would take 8,796,093,022,208 bytes", read_events, tmp_path / "claim.h5")


def test_events_outside_the_sensor_that_was_said(tmp_path):
    (tmp_path / "a.aedat").write_bytes(encoders.aedat3([5, 6], [3, 40], [2, 50], [1, 0]))
    assert read_events(tmp_path / "a.aedat").size == (128, 128)
    refuse(
        r"event 1 lies at x=40, y=50, outside the sensor of 34 x 34 pixels", read_events, tmp_path / "a.aedat", size=(34, 34)
    )


@pytest.mark.parametrize(("name", "package"), [("aedat4", "aedat"), ("hdf5", "h5py")])
def test_a_missing_package_is_named(name, package, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(ALL[name](*SMALL))
    monkeypatch.setitem(sys.modules, package, None)
    refuse(rf"needs the package {package}: pip install 'spikewise\[events\]'", read_events, tmp_path / "a", format=name)


def test_between_takes_the_start_and_not_the_end():
    t = np.array([1, 5, 5, 9, 20])
    events = as_events(t, *np.zeros((3, 5), int), (1, 1))
    part = events.between(5, 9)
    assert part.t.tolist() == [5, 5]
    assert np.shares_memory(part.t, t)
    assert events.between(21, 30).t.tolist() == []
    assert (events.duration, events[:0].duration) == (19, 0)
    backwards = Events(t[[4, 1, 3, 2, 0]], events.x, events.y, events.polarity, (1, 1))
    assert backwards.between(5, 10).t.tolist() == [5, 9, 5]


def test_an_unknown_format_is_refused(tmp_path):
    refuse(r"no format named 'evt9'; .*use one of aedat2, aedat3, aedat4, atis", read_events, tmp_path / "a", format="evt9")


def test_an_atis_file_whose_first_column_is_a_percent_sign_is_not_dat(tmp_path):
    (tmp_path / "a.bin").write_bytes(encoders.atis([1, 2], [ord("%"), 3], [4, 5], [0, 1]))
    assert detect_format(tmp_path / "a.bin") == "atis"


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (encoders.evt2(*SMALL), "evt3", r"is not of the format evt3, .*: it begins like Prophesee EVT 2.0; use --format evt2"),
        (encoders.evt3(*SMALL), "dat", r"begins like Prophesee EVT 3.0"),
        (encoders.npz(*SMALL), "hdf5", r"begins like NumPy arrays"),
        (encoders.hdf5(*SMALL), "npz", r"is not of the format npz.*: it begins like HDF5 .*--format hdf5, or leave"),
        (encoders.text(*SMALL), "npz", r"is not of the format npz.*: it begins with [0-9a-f ]+; leave the format out"),
        (encoders.text(*SMALL), "hdf5", r"is not of the format hdf5.*: it begins with"),
        (encoders.aedat2(*SMALL), "text", r"begins like AEDAT 2.0"),
        (b"#ROSBAG V2.0\n", "npz", r"it is a bag of ROS 1"),
    ],
)
def test_a_format_that_the_first_bytes_contradict_is_refused(content, format, message, tmp_path):
    (tmp_path / "a").write_bytes(content)
    refuse(message, read_events, tmp_path / "a", format)


def test_a_format_without_a_header_is_taken_as_it_is_said(tmp_path):
    whole = encoders.evt3(*SMALL)
    (tmp_path / "a").write_bytes(whole[whole.index(b"width=1280\n") + 11 :])
    require_equal(read_events(tmp_path / "a", "evt3"), *SMALL)


def test_a_stream_with_a_long_name_is_named_so_that_it_can_be_said(tmp_path):
    names = [f"{'recording of a very long name/' * 2}{'deeper/' * 1}{side}" for side in ("left", "right")]
    (tmp_path / "a.h5").write_bytes(
        encoders.hdf5_file({f"{name}/{c}": column for name in names for c, column in zip("txyp", SMALL, strict=True)})
    )
    with pytest.raises(ValueError, match="holds 2 streams") as error:
        read_events(tmp_path / "a.h5")
    assert all(name in str(error.value) for name in names)
    for name in (*names, "deeper/left", "right"):
        require_equal(read_events(tmp_path / "a.h5", stream=name), *SMALL)
