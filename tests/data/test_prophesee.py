"""Prophesee's formats, packed by writers of these tests' own: times as the words say, headers of any kind, what is skipped."""

import struct

import encoders
import numpy as np
import pytest
from checks import refuse, require_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from spikewise.data.events.formats import detect_format, prophesee, read_events, reading

WRITERS = {
    "dat": encoders.dat,
    "evt2": encoders.evt2,
    "evt21": encoders.evt21,
    "evt21, upper half first": lambda *events: encoders.evt21(*events, legacy=True),
    "evt3": encoders.evt3,
    "evt3, vectors": encoders.evt3_vectors,
}
CLOCK_BITS = {"dat": 32, "evt2": 34, "evt21": 34, "evt3": 24}


def words(name, *numbers):
    return np.array(numbers, dtype={"evt2": "<u4", "evt21": "<u8", "evt3": "<u2"}[name]).tobytes()


def evt(name, *numbers, header=b"% end\n"):
    version = {"evt2": b"2.0", "evt21": b"2.1", "evt3": b"3.0"}[name]
    return b"% evt " + version + b"\n% geometry 1280x720\n" + header + words(name, *numbers)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.usefixtures("both")
@given(n=st.integers(1, 30), seed=st.integers(0, 99), bits=st.sampled_from([1, 12, 23, 26]))
@settings(max_examples=30, deadline=None)
def test_runs_of_neighbours_are_read_from_every_container(name, n, seed, bits, tmp_path_factory):
    events = encoders.runs_of_events(n, 300, seed, 2**bits)
    t = np.cumsum(np.minimum(np.diff(events[0], prepend=0), 2**22))  # a longer pause may hide an overflow of 24 bits
    file = tmp_path_factory.mktemp("runs") / "a.bin"
    file.write_bytes(WRITERS[name](t, *events[1:]))
    assert detect_format(file) == name.split(",")[0]
    found = read_events(file)
    require_equal(found, t, *events[1:])
    assert found.notes == ()


@pytest.mark.parametrize("legacy", [False, True])
def test_the_order_of_halves_is_told_by_the_first_words_time(legacy, tmp_path):
    events = encoders.runs_of_events(40, 300)
    content = encoders.evt21(*events, legacy=legacy)
    (tmp_path / "a").write_bytes(content.replace(b";endianness=legacy", b"").replace(b";endianness=little", b""))
    require_equal(read_events(tmp_path / "a"), *events)


@pytest.mark.parametrize("name", ["dat", "evt2", "evt21", "evt3"])
@pytest.mark.usefixtures("both")
def test_a_clock_that_overflows_goes_on(name, tmp_path):
    whole = 2 ** CLOCK_BITS[name]
    t = np.arange(0, 3 * whole, whole // 5) + 7
    x = y = np.arange(len(t)) % 200
    (tmp_path / "a").write_bytes(WRITERS[name](t, x, y, x % 2))
    require_equal(read_events(tmp_path / "a"), t, x, y, x % 2)


@pytest.mark.usefixtures("both")
def test_a_small_fall_of_evt_3s_clock_is_no_overflow(tmp_path):
    (tmp_path / "a").write_bytes(
        evt("evt3", 0x8005, 0x6100, 0x0003, 0x2004, 0x60F0, 0x2005, 0x8004, 0x2006, 0x8005, 0x2007, 0x8FFF, 0x8000, 0x2008)
    )
    found = read_events(tmp_path / "a")
    expected = [0x40F0, 0x50F0, 0x50F0, 0x5100, 0x10000F0]  # the last: 0x8FFF to 0x8000 is an overflow
    assert (found.t.tolist(), found.x.tolist()) == (expected, [6, 5, 7, 4, 8])  # sorted by time, and said
    assert any("not in the order of time: sorted" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evt2", (0x10000000, 8 << 28 | 1, 0xA0000001, 0x10801005, 0xE0000000, 0xF0000000, 0x70000000)),
        ("evt21", (3, 8 << 60 | 1 << 32, 0xA << 60, 1 << 60 | 2 << 54 | 2 << 43 | 5 << 32 | 1, 0xE << 60, 0xF << 60, 7 << 60)),
        ("evt3", (0x2001, 0x8000, 0x2001, 0x6042, 0x0005, 0xA101, 0x2802, 0xE001, 0xF002, 0x7003)),
    ],
)
@pytest.mark.usefixtures("both")
def test_triggers_other_words_and_events_of_unknown_time_are_counted(name, content, tmp_path):
    (tmp_path / "a").write_bytes(evt(name, *content))
    found = read_events(tmp_path / "a")
    require_equal(found, [66], [2], [5], [1])
    untimed = {"evt2": "1 untimed event", "evt21": "2 untimed events", "evt3": "2 untimed events"}[name]
    assert found.notes == ("1 external trigger skipped", "3 other words skipped", f"{untimed} skipped")


@pytest.mark.usefixtures("both")
def test_vectors_go_on_from_their_base(tmp_path):
    content = (0x8000, 0x6001, 0x0002, 0x3800 | 100, 0x4801, 0x5081, 0x4001, 0x2003, 0x4000, 0x5002, 0x3000 | 7, 0x5FFF)
    (tmp_path / "a").write_bytes(evt("evt3", *content))
    found = read_events(tmp_path / "a")
    assert found.x.tolist() == [100, 111, 112, 119, 120, 3, 100 + 45, *range(7, 15)]
    assert found.polarity.tolist() == [1, 1, 1, 1, 1, 0, 1] + [0] * 8


@pytest.mark.parametrize("name", ["evt2", "evt21", "evt3"])
@given(content=st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_words_are_read_alike_in_c_and_numpy(name, content):
    if not reading.has_native():
        pytest.skip("no compiler here")
    body = np.frombuffer(content[: len(content) // 8 * 8], np.uint8)
    defined = prophesee.DECODERS[name](body)
    compiled = reading.decode_native(name, body, len(body) // 4 if name == "evt2" else None)
    assert compiled.skipped == defined.skipped
    for found, expected in zip(compiled.columns, defined.columns, strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("end", "first"),
    [
        *((end, first) for end in (b"", b"% operator M\xc3\xbcller\r\n", b"%\n") for first in (0x25, 0x2025, 0x8025)),
        (b"% end\n", 0x0A25),  # an empty line of text but for the line before it
    ],
)
def test_a_first_byte_of_a_percent_sign_is_data(end, first, tmp_path):
    (tmp_path / "a").write_bytes(evt("evt3", first, 0x8001, 0x6002, 0x0003, 0x2004, 0x000A, header=end))
    found = read_events(tmp_path / "a")
    assert (found.t.tolist(), found.y.tolist(), found.x.tolist()) == ([0x1002], [3], [4])


def test_a_header_that_is_all_there_is_has_no_events_and_a_cut_one_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"% evt 3.0\n% geometry 1280x720\n")
    assert len(read_events(tmp_path / "a")) == 0
    (tmp_path / "a").write_bytes(b"% evt 3.0\n% geometry 12")
    refuse("line at byte 10 does not end; the file was cut", read_events, tmp_path / "a")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"% format EVT3;height=720;width=1280\n% end\n", "evt3"),
        (b"% format EVT3.0\r\n", "evt3"),
        (b"% format EVT21;endianness=little;height=320;width=320\n", "evt21"),
        (b"% format EVT2.1\n", "evt21"),
        (b"% format EVT2;height=480;width=640\n", "evt2"),
        (b"% date 2020\n% evt 2.0\n", "evt2"),
        (b"% Data file containing CD events.\n% Version 2\n", "dat"),
    ],
)
def test_versions_are_told_apart(header, name, tmp_path):
    (tmp_path / "a").write_bytes(header)
    assert detect_format(tmp_path / "a") == name


@pytest.mark.parametrize("version", [b"% Version 1\n", b""])
def test_dat_before_version_2_has_narrower_fields(version, tmp_path):
    t, x, y, polarity = np.array([3, 2**32 - 1, 4]), np.array([303, 1, 2]), np.array([239, 3, 4]), np.array([1, 0, 1])
    old = encoders.words("<u4", t, x | y << 9 | polarity << 17)
    new = encoders.words("<u4", t, x | y << 14 | polarity << 28)
    (tmp_path / "a.dat").write_bytes(b"% Data file\n" + version + b"\x00\x08" + (old if version else new))
    require_equal(read_events(tmp_path / "a.dat"), [3, 2**32 - 1, 2**32 + 4], x, y, polarity)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"% Version 2\n\x0e\x08" + bytes(8), "holds external triggers, and no camera events"),
        (b"% Version 2\n\x0c\x08" + bytes(8) + struct.pack("<II", 0, 3 << 28), "event at byte 22 has polarity 3"),
        (b"% format EVT21;endianness=big\n" + bytes(8), "big-endian words"),
        (evt("evt3", 0x8000, 0x6000, 0x0000, 0x2500), r"x=1280, y=0, outside the sensor of 1280 x 720"),
    ],
)
def test_what_is_no_recording_is_named(content, message, tmp_path):
    (tmp_path / "a").write_bytes(content)
    refuse(message, read_events, tmp_path / "a")
