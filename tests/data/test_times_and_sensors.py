"""What a file says, or does not say, of its times and its sensor: taken as it is, asked for, mended and said, or refused."""

import contextlib
import dataclasses
import logging
import re
import subprocess
import sys

import encoders
import h5py
import numpy as np
import pytest
from checks import REAL, as_events, needs_real_data, other_notes, refuse, require_equal

from spikewise.cli.main import main
from spikewise.data.datasets.event_folder import event_folder
from spikewise.data.events import recordings
from spikewise.data.events.formats import read_events, times, write_events
from spikewise.data.messages import notice
from spikewise.engine.build import load_run_data
from spikewise.recipes import RECIPES

N = 400
T, X, Y, P = encoders.random_events(N, height=100, width=120, last=900_000)


def npz(path, t, x=X, y=Y, p=P, **more):
    np.savez(path, t=t, x=x, y=y, p=p, **more)
    return path


def hdf5(path, t=T, group="events", attributes=None, **arrays):
    with h5py.File(path, "w") as file:
        for name, column in (("t", t), ("x", X), ("y", Y), ("p", P)):
            file[f"{group}/{name}"] = column
        for name, value in arrays.items():
            file[name] = value
        for place, facts in (attributes or {}).items():
            file[place].attrs.update(facts)
    return path


# AEDAT 2.0 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("both")
def test_a_dvs128_is_upright_and_0_is_on_while_raw_is_the_address(tmp_path):
    address = 5 << 1 | 20 << 8 | 0  # from the right, from below, brighter
    (tmp_path / "a.aedat").write_bytes(encoders.START2 + encoders.words(">u4", [address], [7]))
    require_equal(read_events(tmp_path / "a.aedat"), [7], [122], [107], [1])
    require_equal(read_events(tmp_path / "a.aedat", raw=True), [7], [5], [20], [0])
    refuse("raw changes nothing in a file of the format npz", read_events, npz(tmp_path / "a.npz", T), raw=True)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("camera", [encoders.aedat2, encoders.davis])
def test_little_endian_words_are_read_and_said(camera, tmp_path):
    (tmp_path / "a.aedat").write_bytes(camera(T, X, Y, P, order="<u4"))
    found = read_events(tmp_path / "a.aedat")
    require_equal(found, T, X, Y, P)
    assert "little-endian" in found.notes[0]


def test_marks_and_measurements_are_counted(tmp_path):
    (tmp_path / "a.aedat").write_bytes(encoders.davis(T, X, Y, P))
    assert read_events(tmp_path / "a.aedat").notes == ("1 external signal skipped", "2 other measurements skipped")
    valid = np.arange(N) % 4 > 0
    (tmp_path / "b.aedat").write_bytes(encoders.aedat3(T, X, Y, P, valid=valid))
    assert read_events(tmp_path / "b.aedat").notes == ("100 invalid events skipped", "4 other packets skipped")


# Units -----------------------------------------------------------------------------------------------------------------------


LIVELY = encoders.random_events(40_000, height=100, width=120, last=900_000)  # 44,000 events per second, 3.7 per pixel
NAMES = {"us": "microseconds", "s": "seconds"}


def in_unit(unit, t):
    """Times of microseconds as a file has them that counts in another unit; `.f`: with fractions."""
    return {"s.f": t / 1e6, "ms.f": t / 1e3, "ms": t // 1000, "us": t, "us.f": t + 0.25, "ns": t * 1000 + 500}[unit]


def as_npz(path, t, x, y, p):
    np.savez(path := path / "a.npz", t=t, x=x, y=y, p=p)
    return path


def as_fields(path, t, x, y, p):
    np.save(path := path / "a.npy", np.rec.fromarrays([t, x, y, p], names="t,x,y,p"))
    return path


def as_table(path, t, x, y, p):
    np.save(path := path / "a.npy", np.stack([t, x, y, p], axis=1))
    return path


def as_hdf5(path, t, x, y, p):
    with h5py.File(path := path / "a.h5", "w") as file:
        for name, column in zip("txyp", (t, x, y, p), strict=True):
            file[f"events/{name}"] = column
    return path


def as_text(path, t, x, y, p):
    (path := path / "a.txt").write_text("".join("{} {} {} {}\n".format(*row) for row in zip(t.tolist(), x, y, p, strict=True)))
    return path


@pytest.mark.parametrize("write", [as_npz, as_fields, as_table, as_hdf5, as_text])
@pytest.mark.parametrize(
    ("unit", "taken", "asked"),
    [
        ("us", "us", ""),
        ("s.f", "s", ""),
        ("ms", "us", "40,000 events take 899 us if t is in microseconds, or 899 ms in milliseconds"),
        ("ms.f", "s", "40,000 events take 15.0 min if t is in seconds, or 900 ms in milliseconds"),
        ("us.f", "s", "40,000 events take 10.4 days if t is in seconds.* or 900 ms in microseconds"),
        ("ns", "us", "40,000 events take 15.0 min if t is in microseconds, or 900 ms in nanoseconds"),
    ],
)
def test_a_unit_that_nobody_says_is_told_alike_in_every_format(write, unit, taken, asked, tmp_path, capsys):
    t, *others = LIVELY
    file, real = write(tmp_path, in_unit(unit, t), *others), unit.split(".")[0]
    expected = t // 1000 * 1000 if unit == "ms" else t
    if asked:
        refuse(rf"{asked}.* time_unit='s'", read_events, file)
        assert main(["events", "info", str(file)]) == 2
        assert "--time-unit" in capsys.readouterr().err
    else:
        found = read_events(file)
        require_equal(found, expected, *others)
        assert any(f"times taken as {NAMES[taken]}: " in note for note in found.notes)
    found = read_events(file, time_unit=real)
    require_equal(found, expected, *others)
    assert not any("times taken as" in note for note in found.notes)
    assert main(["events", "convert", str(file), str(tmp_path / "out.npz"), "--time-unit", real]) == 0
    require_equal(read_events(tmp_path / "out.npz"), expected, *others)  # what we write says its unit


REAL_FILES = (
    "tonic/sample_nmnist.bin", "tonic/sample_ncars.dat", "tonic/sample.aedat4", "expelliarmus/evt2_sample.raw",
    "expelliarmus/evt3_sample.raw", "loris/NCARS_obj_004397_td.dat",
)  # fmt: skip


@needs_real_data
@pytest.mark.parametrize("name", REAL_FILES)
@pytest.mark.parametrize("unit", ["us", "s.f", "ms", "ms.f", "us.f", "ns"])
@pytest.mark.parametrize("events", [30, 100, 1000, 10**6])
def test_of_real_recordings_a_unit_is_right_or_asked_for(name, unit, events, tmp_path):
    part = read_events(REAL / "event_files" / name)[:events]
    t = part.t - part.t[0]
    file = as_npz(tmp_path, in_unit(unit, t), part.x, part.y, part.polarity)
    if unit == "s.f":
        assert np.array_equal(read_events(file).t, t)
    elif unit == "us":
        with contextlib.suppress(ValueError):
            assert np.array_equal(read_events(file).t, t)
    elif np.ptp(t) >= 1000:
        refuse("say which unit", read_events, file)


@pytest.mark.parametrize(
    ("events", "microseconds", "unit", "pixels", "doubt"),
    [
        (10**6, 10**9, "us", 10**6, "slow"),  # a second of a lively camera, in nanoseconds
        (10**5, 1000, "us", 10**6, "fast"),  # the same in milliseconds
        (10**6, 6 * 10**7, "us", 10**6, ""),
        (200_000, 12_000, "us", 1280 * 720, ""),  # of a camera in a car
        (500_000, 12_000, "us", 1280 * 720, "either"),  # the same in a storm; or 12 s of a quiet one in milliseconds
        (3 * 10**5, 6 * 10**6, "us", 128 * 128, ""),  # a gesture
        (5000, 50_000, "us", 346 * 260, ""),  # a window of it
        (20_000, 1200, "us", 128 * 128, "short"),  # 1.2 s in milliseconds
        (2_000_000, 180_000, "us", 128 * 128, "pixels"),  # 3 minutes in milliseconds
        (50, 20 * 10**6, "us", 128 * 128, ""),
        (10, 9, "us", 100, ""),
        (1, 0, "us", 100, ""),
        (900, 0, "us", 100, ""),
        (20, 52_345_000, "s", 128 * 128, "thousandths"),  # milliseconds of three decimals
        (20, 52_345_001, "s", 128 * 128, ""),
        (10**6, 10**7, "s", 128 * 128, ""),
        (2000, 60 * 10**6, "s", 128 * 128, "slow"),
    ],
)
def test_which_times_are_doubted(events, microseconds, unit, pixels, doubt):
    t = np.linspace(0, microseconds, events).astype(np.int64)
    t = t // 1000 * 1000 if doubt == "thousandths" else t
    found = times.doubt_unit(t, unit, pixels)
    assert doubt in found
    assert bool(found) == bool(doubt)


@pytest.mark.parametrize("unit", ["us", "ms", "ns"])
def test_a_unit_in_a_name_a_comment_or_an_attribute_is_taken(unit, tmp_path):
    t, *others = LIVELY
    there = {"us": t, "ms": t // 1000, "ns": t * 1000}[unit]
    expected = t // 1000 * 1000 if unit == "ms" else t
    x, y, p = others
    text = as_text(tmp_path, there, *others).read_text()
    word = {"us": "microseconds", "ms": "msec", "ns": "[ns]"}[unit]
    for k, head in enumerate((f"t_{unit},x,y,p\n", f"# timestamps in {word}\n", f"% columns: time ({unit}), x, y, p of 5 s\n")):
        (tmp_path / f"{k}.txt").write_text(head + (text.replace(" ", ",") if not k else text))
        require_equal(read_events(tmp_path / f"{k}.txt"), expected, *others)
    np.savez(tmp_path / "b.npz", **{f"timestamp_{unit}": there, "x": x, "y": y, "pol": p})
    np.savez(tmp_path / "c.npz", t=there, x=x, y=y, p=p, t_unit=word.strip("[]"))
    np.save(tmp_path / "d.npy", np.rec.fromarrays([there, x, y, p], names=f"t{unit},x,y,p"))
    for file in ("b.npz", "c.npz", "d.npy"):
        require_equal(read_events(tmp_path / file), expected, *others)
        assert read_events(tmp_path / file).notes == ()
    for name in ("units", "time_unit"):
        with h5py.File(as_hdf5(tmp_path, there, *others), "a") as file:
            file["events/t"].attrs[name] = unit
        require_equal(read_events(tmp_path / "a.h5"), expected, *others)


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("# time in us", "us"),
        ("# t x y p", None),
        ("# timestamps [s], x, y", "s"),
        ("# recorded for 5 s, time 12:00", None),
        ("# it's the camera's time", None),
        ("# times in ms or us", None),
        ("# Units: milliseconds", "ms"),
        ("# us versus them", None),
    ],
)
def test_the_unit_that_a_comment_says(line, unit):
    assert times.unit_in_comment(line) == unit


def test_a_fraction_far_down_makes_seconds_of_text_as_of_arrays(tmp_path):
    t = np.concatenate([np.zeros(3000), np.arange(1, 3001) / 1e4 + 1e-6])
    x, y, p = np.arange(6000) % 120, np.arange(6000) % 100, np.arange(6000) % 2
    (tmp_path / "a.txt").write_text(
        "t x y p\n"
        + "".join(f"{0 if not time else repr(time)} {a} {b} {c}\n" for time, a, b, c in zip(t.tolist(), x, y, p, strict=True))
    )
    for file in (tmp_path / "a.txt", as_npz(tmp_path, t, x, y, p)):
        require_equal(read_events(file), np.rint(t * 1e6).astype(np.int64), x, y, p)


def test_a_unit_that_the_file_says_is_taken_and_an_unknown_one_refused(tmp_path):
    require_equal(read_events(npz(tmp_path / "a.npz", T * 1000, time_unit="ns")), T, X, Y, P)
    require_equal(read_events(hdf5(tmp_path / "a.h5", T / 1e6, attributes={"events": {"time_unit": "s"}})), T, X, Y, P)
    refuse("time_unit='h' is unknown; use s, ms, us, ns", read_events, tmp_path / "a.npz", time_unit="h")
    refuse("time_unit='days' is unknown", read_events, npz(tmp_path / "b.npz", T, time_unit="days"))
    (tmp_path / "a.aedat").write_bytes(encoders.aedat3(T, X, Y, P))
    refuse("time_unit changes nothing", read_events, tmp_path / "a.aedat", time_unit="us")


def test_coarse_floating_times_are_said(tmp_path):
    late = T + 40_000_000
    found = read_events(npz(tmp_path / "a.npz", late.astype(np.float32)))
    assert other_notes(found) == ("times are float32 and coarse: 4 microseconds apart at the end",)
    assert np.abs(found.t - late).max() <= 2
    assert other_notes(read_events(npz(tmp_path / "a.npz", late.astype(np.float64)))) == ()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30])
def test_what_is_no_time_is_refused(wrong, tmp_path):
    t = T.astype(float)
    t[3] = wrong
    refuse("event 3 has t=", read_events, npz(tmp_path / "a.npz", t), time_unit="s")


def test_the_offset_of_dsec_is_added(tmp_path):
    file = hdf5(tmp_path / "a.h5", T.astype(np.uint32), t_offset=np.int64(50_000_000_000), ms_to_idx=np.arange(9))
    require_equal(read_events(file), T + 50_000_000_000, X, Y, P)
    refuse("t_offset should be a whole number", read_events, hdf5(tmp_path / "b.h5", t_offset=1.5))


# Clocks ----------------------------------------------------------------------------------------------------------------------


def plain_mend(t):
    """The rule of `times.mend_clock` for resets and overflows, event by event."""
    out, shift = [int(t[0])], 0
    for before, now in zip(map(int, t), map(int, t[1:]), strict=False):
        fall = before - now
        shift += 2**32 if fall > 2**31 else fall if fall > 100_000 else 0
        out.append(now + shift)
    return out


@pytest.mark.parametrize("write", [encoders.aedat2, encoders.aedat3, encoders.dat, npz])
def test_a_clock_that_is_reset_goes_on_and_that_is_said(write, tmp_path):
    t = np.concatenate([T[:200] + 5_000_000, T[200:] - T[200] + 3, T[200:]])
    columns = [np.concatenate([column[:200], column[200:], column[200:]]) for column in (X, Y, P)]
    file = tmp_path / ("a.npz" if write is npz else "a")
    npz(file, t, *columns) if write is npz else file.write_bytes(write(t, *columns))
    found = read_events(file)
    require_equal(found, plain_mend(t), *columns)
    assert len([note for note in found.notes if "reset, by 5.4" in note]) == 1
    assert found.duration < 2_000_000


@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.int64])
def test_a_clock_of_32_bits_that_overflows_goes_on(kind, tmp_path):
    t = T + 2**32 - 450_000 if kind != np.int32 else T + 2**31 - 450_000
    found = read_events(npz(tmp_path / "a.npz", (t % 2**32).astype(np.uint32).astype(kind)))
    assert np.array_equal(found.t, t)
    assert "overflowed" in found.notes[0]


def test_events_ahead_of_their_time_stay_and_are_said():
    t = T.copy()
    t[197:200] += 10**9
    kept = t.copy()
    assert "leap ahead and fall back, 3 events before event 200" in " ".join(times.mend_clock(t))
    assert np.array_equal(t, kept)


@pytest.mark.parametrize("kind", ["late", "descending", "shuffled", "slow descending", "jitter", "two at once", "steps back"])
def test_events_out_of_order_are_sorted_and_counted(kind, tmp_path):
    t, rng = T.copy(), np.random.default_rng(0)
    if kind == "late":
        t[50] -= 90_000  # a packet that came late
    if kind == "jitter":
        t = np.abs(t + rng.integers(-20_000, 20_000, N))
    if kind == "steps back":
        t[200:] -= 80_000  # far from the first time: no reset
    if kind == "two at once":
        t = t // 300_000 * 300_000 + np.arange(N)[::-1] // 2  # many of the same time
    t = {"descending": t[::-1], "shuffled": rng.permutation(t), "slow descending": t[::-1] * 90}.get(kind, t)
    order = sorted(range(N), key=lambda event: t[event])  # stable
    found = read_events(npz(tmp_path / "a.npz", t), time_unit="us")
    require_equal(found, t[order], X[order], Y[order], P[order])
    late = sum(int(t[event]) < max(map(int, t[:event])) for event in range(1, N))
    assert f"{late} event" in found.notes[-1]
    assert "not in the order of time: sorted" in found.notes[-1]


@pytest.mark.parametrize("start", [0, 7_000_000])
@pytest.mark.parametrize("fall", [2_000, 20_000, 99_000])
def test_a_clock_that_falls_to_its_first_time_was_reset_however_little(start, fall, tmp_path):
    before = np.linspace(start, start + fall, 50).astype(np.int64)
    file = npz(tmp_path / "a.npz", np.concatenate([before, np.arange(N - 50) * 2_003 + start + fall // 20]))
    found = read_events(file, time_unit="us")
    assert np.array_equal(found.t, np.concatenate([before, np.arange(N - 50) * 2_003 + start + fall]))
    assert "reset" in found.notes[0]
    assert "at event 50" in found.notes[0]


def test_many_resets_are_one_note():
    t = np.concatenate([np.arange(2000) * 1000] * 5)
    (note,) = times.mend_clock(t)
    assert "by 1.999 s at event 2,000, and 3 times more" in note
    assert np.array_equal(t, np.concatenate([np.arange(2000) * 1000 + k * 1_999_000 for k in range(5)]))


def test_falls_are_found_across_blocks(monkeypatch):
    monkeypatch.setattr(times, "BLOCK", 7)
    t = np.random.default_rng(0).integers(0, 10**6, 200)
    assert times.find_falls(t).tolist() == [k for k in range(1, 200) if t[k] < t[k - 1] - 100_000]


# Sensors ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "arrays"),
    [
        ({"/": {"geometry": "346x260"}}, {}),
        ({"/": {"geometry": b"346x260"}}, {}),
        ({"/": {"height": 260, "width": 346}}, {}),
        ({"events": {"height": 260, "width": 346}}, {}),
        ({"/": {"sensor_resolution": (260, 346)}}, {}),
        ({}, {"height": 260, "width": 346}),
        ({}, {"events/height": 260, "events/width": 346}),
    ],
)
def test_hdf5_says_its_sensor(attributes, arrays, tmp_path):
    assert read_events(hdf5(tmp_path / "a.h5", attributes=attributes, **arrays)).size == (260, 346)


@pytest.mark.parametrize(
    ("facts", "size"),
    [
        ({"height": 260, "width": 346}, (260, 346)),
        ({"Sensor_Height": 260, "Sensor_Width": 346}, (260, 346)),
        ({"sensor_size": (346, 260, 2)}, (260, 346)),  # tonic's
        ({"sensor_size": (346, 260)}, (260, 346)),
        ({"sensor_size": (260, 346)}, (260, 346)),
        ({"resolution": [346, 260]}, (260, 346)),
        ({"geometry": "346x260"}, (260, 346)),
        ({"resolution": "(346, 260)"}, (260, 346)),
        ({"sensor_resolution": (260, 346)}, (260, 346)),
        ({"sensor_resolution": (110, 100)}, (100, 110)),  # as only that fits
        ({"sensor_size": (100, 110)}, (100, 110)),
        ({"sensor_size": (128, 128)}, (128, 128)),
    ],
)
def test_spellings_of_a_sensor_are_read_alike_in_npz_and_hdf5(facts, size, tmp_path):
    x, y = X % 110, Y % 100
    (tmp_path / "a.npz").write_bytes(encoders.npz(T, x, y, P, **facts))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in zip("txyp", (T, x, y, P), strict=True):
            file[f"events/{name}"] = column
        file.attrs.update(facts)
    for name in ("a.npz", "a.h5"):
        found = read_events(tmp_path / name)
        assert (found.size, found.is_size_told) == (size, True)


def test_an_order_of_height_and_width_that_was_guessed_is_said(tmp_path):
    assert "sensor_size 260, 346 taken as a sensor of 346 x 260 pixels" in str(
        read_events(npz(tmp_path / "a.npz", T, sensor_size=(260, 346))).notes
    )


def test_convert_says_a_sensor_that_was_guessed(tmp_path, capsys):
    assert main(["events", "convert", str(npz(tmp_path / "a.npz", T)), str(tmp_path / "b.npz")]) == 0
    assert (
        f"{X.max() + 1} x {Y.max() + 1} pixels (the smallest that fits all events; the file says none"
        in capsys.readouterr().out
    )
    said = npz(tmp_path / "a.npz", T, sensor_size=(260, 346))
    assert main(["events", "convert", str(said), str(tmp_path / "b.npz")]) == 0
    assert capsys.readouterr().out.endswith("400 events, 346 x 260 pixels\n")


@pytest.mark.parametrize("facts", [{"geometry": "wide"}, {"height": 0, "width": 3}, {"sensor_resolution": 5}])
def test_a_sensor_that_is_none_is_refused(facts, tmp_path):
    refuse("height and width should be whole", read_events, hdf5(tmp_path / "a.h5", attributes={"/": facts}))


def wild(path, far=3000):
    x = X.copy()
    x[17] = far
    return npz(path, T, x)


def test_one_wild_pixel_is_refused_or_dropped_and_counted(tmp_path, capsys):
    file, keep = wild(tmp_path / "a.npz"), np.arange(N) != 17
    refuse(r"1 of 400 events beyond x=1500, up to x=3000.* --sensor HEIGHT,WIDTH", read_events, file)
    refuse(r"event 17 lies at x=3000.*1 event of 400", read_events, file, size=(100, 120))
    refuse("drop_outside needs a sensor", read_events, file, drop_outside=True)
    found = read_events(file, size=(100, 120), drop_outside=True)
    require_equal(found, T[keep], X[keep], Y[keep], P[keep])
    assert other_notes(found) == ("1 event outside the sensor of 120 x 100 pixels dropped",)
    assert read_events(wild(tmp_path / "b.npz", 150)).size == (100, 151)  # not far
    assert main(["events", "info", str(file), "--sensor", "100,120", "--drop-outside"]) == 0
    assert "1 event outside the sensor of 120 x 100 pixels dropped" in capsys.readouterr().out
    assert main(["events", "show", str(file)]) == 2
    assert main(["events", "info", str(file), "--sensor", "0,120"]) == 2


def test_a_wild_pixel_does_not_widen_a_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(5):
            npz(tmp_path / name / f"{k}.npz", T)
    assert event_folder("train", tmp_path, T=2).sample(0).shape == (2, 2, int(Y.max()) + 1, int(X.max()) + 1)
    wild(tmp_path / "b" / "3.npz")
    refuse(r"b/3\.npz: 1 of 400 events", event_folder, "train", tmp_path)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (encoders.davis(*np.full((4, 9), 1), size=(180, 1024)), "240 x 180"),
        (encoders.aedat3([1], [200], [5], [1]), "128 x 128"),
        (encoders.aedat3([1], [300], [5], [1]).replace(b"DVS128", b"DAVIS240C"), "240 x 180"),
    ],
)
def test_what_lies_beyond_the_camera_that_the_header_names_is_refused(content, size, tmp_path):
    (tmp_path / "a.aedat").write_bytes(content)
    refuse(f"outside the sensor of {size} pixels", read_events, tmp_path / "a.aedat")


@pytest.mark.parametrize("size", [(0, 5), (5,), (5000, 3)])
def test_a_size_that_no_sensor_has_is_refused(size, tmp_path):
    refuse(r"is no sensor; give \(height, width\)", read_events, npz(tmp_path / "a.npz", T), size=size)


# What is said ----------------------------------------------------------------------------------------------------------------


def test_a_data_set_says_once_what_its_readers_noted(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(recordings, "_SAID", set())
    notice.cache_clear()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(5):
            (tmp_path / name / f"{k}.aedat").write_bytes(encoders.aedat3(T, X, Y, P, valid=np.arange(N) > k))
    data = event_folder("train", tmp_path, T=2)
    with caplog.at_level(logging.WARNING, "spikewise"):
        [data.sample(k) for k in range(len(data))]
    assert len(caplog.records) == 1
    assert "invalid event" in caplog.text


def test_a_note_of_another_kind_is_said_of_a_later_recording(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(recordings, "_SAID", set())
    notice.cache_clear()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(5):
            t = np.concatenate([T[:200] + 5_000_000, T[200:]]) if (name, k) == ("b", 4) else T
            npz(tmp_path / name / f"{k}.npz", t)
    data = event_folder("train", tmp_path, T=2)
    data = dataclasses.replace(data, files=sorted(tmp_path.glob("*/*.npz")), labels=np.zeros(10, np.int64))
    with caplog.at_level(logging.WARNING, "spikewise"):
        [data.sample(k) for k in range(len(data))]
    assert [record.getMessage().count("times taken as") for record in caplog.records] == [1, 0]
    assert "the clock was reset" in caplog.records[1].getMessage()


def test_notes_go_with_the_events(tmp_path, capsys):
    (tmp_path / "a.aedat").write_bytes(encoders.aedat3(T, X, Y, P, valid=np.arange(N) > 4))
    found = read_events(tmp_path / "a.aedat")
    assert found[5:9].notes == found.between(0, 10**6).notes == found.notes
    assert main(["events", "convert", str(tmp_path / "a.aedat"), str(tmp_path / "a.npz")]) == 0
    assert "note: 5 invalid events skipped" in capsys.readouterr().out
    write_events(as_events(T, X, Y, P, (100, 120)), tmp_path / "b.npz")
    assert read_events(tmp_path / "b.npz").notes == ()


# Data sets -------------------------------------------------------------------------------------------------------------------


def milliseconds_by_class(folder, order="txyp"):
    t, x, y, p = LIVELY
    columns = dict(zip("txyp", (t // 1000, x, y, p), strict=True))
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for k in range(5):
            np.save(folder / name / f"{k}.npy", np.stack([columns[column] for column in order], axis=1))
    return folder


def test_a_folder_of_recordings_is_told_unit_and_columns(tmp_path):
    folder = milliseconds_by_class(tmp_path / "data", order="yxtp")
    refuse(r"or 899 ms in milliseconds.*--data.time-unit", event_folder, "train", folder)
    options = {"split_by": "duration", "time_window": 100_000, "cache": True, "T": 9}
    said = {"time_unit": "ms", "columns": "y,x,t,p"}
    data = event_folder("train", folder, **options, **said)
    frames = data.sample(0)
    assert frames.shape == (9, 2, 100, 120)
    assert frames.sum() == len(LIVELY[0])
    assert np.array_equal(frames.sum((1, 2, 3)), np.bincount(LIVELY[0] // 100_000))
    swapped = event_folder("train", folder, **options, **(said | {"columns": "x,y,t,p"}))  # neither sensor nor frames of before
    assert np.array_equal(swapped.sample(0), frames.transpose(0, 1, 3, 2))
    assert event_folder("train", folder, sensor=(128, 128), **options, **said).sample(0).shape == (9, 2, 128, 128)


def test_unit_and_columns_are_refused_where_the_data_knows_them(tmp_path):
    config = RECIPES["digits"]()
    for fields in ({"time_unit": "ms"}, {"columns": "t,x,y,p"}):
        told = dataclasses.replace(config, data=dataclasses.replace(config.data, **fields))
        refuse(f"data.{next(iter(fields))}=.* is for event-folder; digits knows its own", load_run_data, told, "train")
    events = RECIPES["events"]()
    said = dataclasses.replace(events.data, root=str(milliseconds_by_class(tmp_path)), time_unit="ms", columns="t,x,y,p")
    assert len(load_run_data(dataclasses.replace(events, data=dataclasses.replace(said, validation=0)), "train")) == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no folder .*: make the folders train/CLASS"),
        ([], "is empty; make the folders train/CLASS"),
        (["a.aedat", "b.aedat"], "holds 2 files and no folder of a class"),
        (["one/readme.md"], "the class .*one has no recording"),
    ],
)
def test_a_folder_that_can_not_be_trained_on_is_refused(content, message, tmp_path, capsys):
    for name in content or ():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("hello")
    if content == []:
        (tmp_path / "data").mkdir()
    assert main(["train", "events", "--data.root", str(tmp_path / "data"), "--out", str(tmp_path / "run")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_wrong_folder_is_refused_before_torch_is_imported(tmp_path):
    code = "import sys; from spikewise.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "train", "events", "--data.root", str(tmp_path), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is empty; make the folders" in done.stderr
    assert not done.returncode


def test_what_cut_leaves_in_a_folder_is_not_of_an_unknown_kind(tmp_path, capsys):
    for split in ("train", "test"):
        for name in ("a", "b"):
            file = npz(tmp_path / f"{split}-{name}.npz", T, np.roll(X, ord(name) * len(split)), time_unit="us")
            cut = ["events", "cut", str(file), str(tmp_path / "out" / split), "--every", "200ms", "--class", name]
            assert main(cut) == 0
    capsys.readouterr()
    main(["data", "check", str(tmp_path / "out")])
    assert "unknown" not in capsys.readouterr().out


@pytest.mark.parametrize("at", [0, 100, N - 1])
@pytest.mark.parametrize("wild", [10**12, -(10**10)])
def test_an_event_far_apart_in_time_is_named_and_can_be_dropped(at, wild, tmp_path):
    t = T.copy()
    t[at] = wild
    file = npz(tmp_path / "a.npz", t, height=100, width=120)
    event = max(1, at)
    refuse(f"times leap from .* at event {event}", read_events, file)
    kept = np.arange(N) != at
    found = read_events(file, drop_outside=True)
    require_equal(found, T[kept], X[kept], Y[kept], P[kept])
    assert any("1 event far apart" in note and note.endswith("dropped") for note in found.notes)
    assert any("1 event far apart" in note for note in read_events(file, time_unit="us").notes)
    assert not any("apart" in note for note in read_events(npz(file, T)).notes)


def test_a_long_pause_is_named_and_not_dropped(tmp_path):
    t = np.where(np.arange(N) < 200, T, T + 3_600_000_000)
    file = npz(tmp_path / "a.npz", t, height=100, width=120)
    refuse("times leap from .* at event 200,", read_events, file)
    assert np.array_equal(read_events(file, time_unit="us", drop_outside=True).t, t)


@pytest.mark.parametrize(("events", "doubt"), [(220_000, "quiet"), (2_000_000, "")])
def test_a_large_sensor_that_is_too_quiet_is_asked_for_its_unit(events, doubt):
    found = times.doubt_unit(np.linspace(0, 54 * 10**6 + 1, events).astype(np.int64), "us", 1280 * 720)
    assert doubt in found
    assert bool(found) == bool(doubt)


def test_a_unit_other_than_the_files_own_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("t_ns,x,y,p\n0,1,2,0\n5000,3,4,1\n")
    files = (
        npz(tmp_path / "a.npz", T, time_unit="ns"),
        tmp_path / "a.txt",
        hdf5(tmp_path / "a.h5", attributes={"events": {"time_unit": "ns"}}),
    )
    for file in files:
        assert any("--time-unit says; the file says nanoseconds" in note for note in read_events(file, time_unit="us").notes)
        assert not any("the file says" in note for note in read_events(file, time_unit="ns").notes)


@pytest.mark.parametrize("value", [-1, 70_000])
def test_events_on_no_sensor_are_dropped_where_that_is_said(value, tmp_path):
    x = X.astype(np.int64)
    x[7] = value
    file, kept = npz(tmp_path / "a.npz", T, x, height=100, width=120), np.arange(N) != 7
    refuse(f"event 7 has x={value}, .*--drop-outside", read_events, file)
    require_equal(read_events(file, drop_outside=True), T[kept], X[kept], Y[kept], P[kept])
