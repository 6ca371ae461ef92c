"""Files of event cameras, written from the formats' descriptions and not from the readers."""

import io
import struct

import h5py
import numpy as np

END3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-07-01 12:00:00 (TZ+0200)\r\n#!END-HEADER\r\n"
START2 = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Data format is int32 address, int32 timestamp\r\n"


def packet3(kind, events, each=8, overflows=0, number=None, room=None):
    """A packet of AEDAT 3.1: 28 bytes, then the events."""
    number = len(events) // each if number is None else number
    return struct.pack("<hhiiiiii", kind, 1, each, 4, overflows, number if room is None else room, number, number) + events


def words(dtype, *columns):
    """Columns of 32-bit words, interleaved."""
    return np.stack([np.asarray(column) % 2**32 for column in columns], axis=1).astype(dtype).tobytes()


def aedat3(t, x, y, polarity, valid=1, at_once=100):
    """AEDAT 3.1, `at_once` events to a packet; a packet ends where the clock overflows; others stand between."""
    t, x, y, polarity = map(np.asarray, (t, x, y, polarity))
    data, overflows, out = valid | polarity << 1 | y << 2 | x << 17, t >> 31, [END3]
    for overflow in np.unique(overflows):
        places = np.flatnonzero(overflows == overflow)
        for k in range(0, len(places), at_once):
            at = places[k : k + at_once]
            events = words("<u4", data[at], t[at] & 0x7FFFFFFF)
            out += [packet3(0, b"\1" * 16, each=16), packet3(1, events, overflows=overflow)]
    return b"".join(out)


def aedat2(t, x, y, polarity, header=START2, order=">u4"):
    """AEDAT 2.0 of a DVS128, which counts columns from the right, rows from below, and has 0 for ON."""
    x, y, polarity = 127 - np.asarray(x), 127 - np.asarray(y), 1 - np.asarray(polarity)
    return header + words(order, x << 1 | y << 8 | polarity, t)


DAVIS240 = START2 + b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"


def davis(t, x, y, polarity, header=DAVIS240, order=">u4", size=(180, 240)):
    """AEDAT 2.0 of a DAVIS, which counts columns from the right and rows from below; after the first event a sample of a
    frame, one of inertia, and a mark of an external signal.
    """
    events = words(order, (size[1] - 1 - x) << 12 | (size[0] - 1 - y) << 22 | polarity << 11, t)
    others = words(order, [1 << 31 | 5 << 12, 1 << 31 | 3 << 10, 1 << 10], t[[0, 0, 0]])
    return header + events[:8] + others + events[8:]


def atis(t, x, y, polarity):
    """N-MNIST's five bytes; a row of 240 wherever the clock of 13 bits overflows."""
    out, overflows = [], 0
    for time, a, b, p in zip(map(int, t), x, y, polarity, strict=True):
        out += [bytes([0, 240, 0, 0, 0])] * (time // 8192 - overflows)
        overflows, rest = time // 8192, time % 8192
        out.append(bytes([a, b, int(p) << 7 | rest >> 16, rest >> 8 & 255, rest & 255]))
    return b"".join(out)


def dat(t, x, y, polarity):
    """Prophesee DAT."""
    header = b"% Data file containing CD events.\n% Version 2\n% Height 240\n% Width 304\n\x0c\x08"
    return header + words("<u4", t, x | y << 14 | polarity << 28)


def changes(state, parts, shift):
    """Words of the parts (code, value) that `state` does not have, and now has; the code begins at bit `shift`."""
    new = [(code, value) for code, value in parts if state.get(code) != value]
    state.update(new)
    return [code << shift | value for code, value in new]


def evt2(t, x, y, polarity):
    """Prophesee EVT 2.0."""
    words, state = [], {}
    for time, a, b, p in zip(map(int, t), map(int, x), map(int, y), map(int, polarity), strict=True):
        words += changes(state, [(8, time >> 6 & 0xFFFFFFF)], 28)
        words.append(p << 28 | (time & 63) << 22 | a << 11 | b)
    return b"% evt 2.0\n% geometry 640x480\n" + np.array(words, "<u4").tobytes()


def evt3(t, x, y, polarity):
    """Prophesee EVT 3.0, one word per part of an event."""
    words, state = [], {}
    for time, a, b, p in zip(map(int, t), map(int, x), map(int, y), map(int, polarity), strict=True):
        words += changes(state, [(8, time >> 12 & 4095), (6, time & 4095), (0, b)], 12)
        words.append(2 << 12 | p << 11 | a)
    return b"% evt 3.0\n% format EVT3;height=720;width=1280\n" + np.array(words, "<u2").tobytes()


def evt3_vectors(t, x, y, polarity):
    """Prophesee EVT 3.0: events of one time, row and polarity whose columns rise, as vectors of 12 and 8 in turn."""
    out = [b"% evt 3.0\n% geometry 1280x720\n% end\n"]
    columns, begin = [np.asarray(column).tolist() for column in (t, x, y, polarity)], 0
    while begin < len(t):
        time, base, row, p = (column[begin] for column in columns)
        out.append(struct.pack("<HHHH", 8 << 12 | time >> 12 & 4095, 6 << 12 | time & 4095, row, 3 << 12 | p << 11 | base))
        length = 12
        while begin < len(t) and (columns[0][begin], columns[2][begin], columns[3][begin]) == (time, row, p):
            if columns[1][begin] < base:
                break
            valid = 0
            while begin < len(t) and (columns[0][begin], columns[2][begin], columns[3][begin]) == (time, row, p):
                at = columns[1][begin] - base
                if not (0 <= at < length and valid >> at == 0):
                    break
                valid |= 1 << at
                begin += 1
            out.append(struct.pack("<H", (4 if length == 12 else 5) << 12 | valid))
            base, length = base + length, 20 - length
            if begin < len(t) and columns[1][begin] < base:
                break
    return b"".join(out)


def evt21(t, x, y, polarity, legacy=False):
    """Prophesee EVT 2.1: neighbours of one time, row and polarity, left to right, in a word; `legacy`: its upper half first."""
    order = b"legacy" if legacy else b"little"
    out, high, begin = [b"% evt 2.1\n% format EVT21;endianness=" + order + b";height=720;width=1280\n% end\n"], -1, 0
    t, x, y, polarity = (np.asarray(column).tolist() for column in (t, x, y, polarity))

    def put(upper, lower):
        out.append(struct.pack("<II", *((upper, lower) if legacy else (lower, upper))))

    while begin < len(t):
        if t[begin] >> 6 != high:
            high = t[begin] >> 6
            put(8 << 28 | high & 0xFFFFFFF, 0)
        now, row, p, base, valid = t[begin], y[begin], polarity[begin], x[begin] // 32 * 32, 0
        while begin < len(t) and (t[begin], y[begin], polarity[begin], x[begin] // 32 * 32) == (now, row, p, base):
            if valid >> (x[begin] - base):
                break
            valid |= 1 << x[begin] - base
            begin += 1
        put(p << 28 | (now & 63) << 22 | base << 11 | row, valid)
    return b"".join(out)


def runs_of_events(n, width, seed=0, last=4096):
    """t, x, y, polarity of runs of neighbours that fire together."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, n)
    run = np.repeat(np.arange(n), lengths)
    place = np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    t, x = np.sort(rng.integers(0, last, n)), rng.integers(0, width - 80, n)
    return t[run], x[run] + 2 * place, rng.integers(0, 30, n)[run], rng.integers(0, 2, n)[run]


def random_events(n, height=128, width=128, seed=0, last=10**6):
    """t (rising), x, y, polarity."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, n))
    return t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)


def npz(t, x, y, polarity, **more):
    """The arrays t, x, y and p, as SpikingJelly writes them."""
    file = io.BytesIO()
    np.savez(file, t=t, x=x, y=y, p=polarity, **more)
    return file.getvalue()


def hdf5(t, x, y, polarity, place="events/{}", **how):
    """The same as datasets of an HDF5 file."""
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for name, array in zip("txyp", (t, x, y, polarity), strict=True):
            out.create_dataset(place.format(name), data=array, **how)
    return file.getvalue()


def text(t, x, y, polarity, order="txyp", separator=" ", line="\n", head="", decimals=None):
    """A line per event; times in seconds with so many decimals, or whole microseconds."""
    times = [
        str(time) if decimals is None else f"{time // 10**6}.{time % 10**6:06}{'0' * (decimals - 6)}" for time in map(int, t)
    ]
    columns = {"t": times, "x": x, "y": y, "p": polarity}
    rows = zip(*(columns.get(name, [0] * len(times)) for name in order), strict=True)
    return (head + "".join(separator.join(map(str, row)) + line for row in rows)).encode()


def npy(t, x, y, polarity, order="txyp", dtype="<i8"):
    """One array of four columns."""
    file, columns = io.BytesIO(), dict(zip("txyp", (t, x, y, polarity), strict=True))
    np.save(file, np.stack([columns[name] for name in order], axis=1).astype(dtype))
    return file.getvalue()


def npy_fields(t, x, y, polarity, names=("timestamp", "x", "y", "polarity")):
    """One array with fields, as dv-processing, tonic and others make it."""
    file = io.BytesIO()
    np.save(file, np.rec.fromarrays([t, x, y, polarity], names=names))
    return file.getvalue()


def hdf5_file(datasets, attributes=None):
    """An HDF5 file of these datasets, by place."""
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for place, data in datasets.items():
            out[place] = data
        out.attrs.update(attributes or {})
    return file.getvalue()


def v2e_hdf5(t, x, y, polarity):
    """v2e: four columns of whole numbers, time in microseconds first."""
    return hdf5_file({"events": np.stack([t, x, y, polarity], axis=1).astype("<u4")})


def mvsec(t, x, y, polarity, sides=("left",)):
    """MVSEC: columns x, y, time in seconds, polarity -1 and 1."""
    table = np.stack([x, y, 1.5e9 + np.asarray(t) / 1e6, 2.0 * np.asarray(polarity) - 1], axis=1)
    return hdf5_file({f"davis/{side}/events": table for side in sides})


def e2vid(t, x, y, polarity, size=(30, 40)):
    """e2vid and its kin: arrays xs, ys, ts in seconds, ps."""
    arrays = {"ts": np.asarray(t) / 1e6, "xs": x, "ys": y, "ps": np.asarray(polarity).astype(bool)}
    return hdf5_file({f"events/{name}": array for name, array in arrays.items()}, {"sensor_resolution": size})


def dsec(t, x, y, polarity, offset=0):
    """DSEC: arrays and an offset of all times, and an index by milliseconds."""
    arrays = {"t": np.asarray(t).astype("<u4"), "x": x, "y": y, "p": polarity}
    return hdf5_file(
        {f"events/{name}": array for name, array in arrays.items()} | {"t_offset": offset, "ms_to_idx": np.arange(9)}
    )


def m3ed(t, x, y, polarity, sides=("left",)):
    """M3ED: a group per camera, with its calibration."""
    arrays = {"t": t, "x": x, "y": y, "p": polarity, "calib/resolution": [1280, 720], "ms_map_idx": np.arange(9)}
    return hdf5_file({f"prophesee/{side}/{name}": array for side in sides for name, array in arrays.items()})


def table_of(fields, content=b""):
    """A table of FlatBuffers: where its fields lie; then the way back to there, and the fields' bytes."""
    vtable = struct.pack("<HH", 4 + 2 * len(fields), 4 + sum(map(len, fields)))
    at = 4
    for field in fields:
        vtable += struct.pack("<H", at)
        at += len(field)
    vtable += b"\0" * (-len(vtable) % 4)
    return vtable, struct.pack("<i", len(vtable)) + b"".join(fields) + content


def aedat4(*cameras, kinds=None, size=(260, 346), at_once=100):
    """AEDAT 4 without compression: a stream for each camera's t, x, y, polarity; `kinds` of the streams: EVTS or FRME."""
    kinds = kinds or ["EVTS"] * len(cameras)
    about = "".join(
        f'<node name="{k}" path="/outInfo/{k}/"><attr key="compression" type="string">NONE</attr>'
        f'<attr key="typeIdentifier" type="string">{kind}</attr><node name="info" path="/outInfo/{k}/info/">'
        f'<attr key="sizeX" type="int">{size[1]}</attr><attr key="sizeY" type="int">{size[0]}</attr></node></node>'
        for k, kind in enumerate(kinds)
    )
    about = f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{about}</node></dv>'.encode()
    packets = b""
    for k, columns in enumerate(cameras):
        for begin in range(0, len(columns[0]), at_once):
            part = [np.asarray(column)[begin : begin + at_once] for column in columns]
            events = np.zeros(len(part[0]), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "?"), ("_", "V3")])
            for name, column in zip(("t", "x", "y", "on"), part, strict=True):
                events[name] = column
            vtable, table = table_of([struct.pack("<I", 8)], b"\0" * 4 + struct.pack("<I", len(events)) + events.tobytes())
            body = struct.pack("<I4s", 8 + len(vtable), b"EVTS") + vtable + table
            packets += struct.pack("<II", k, len(body) + 4) + struct.pack("<I", len(body)) + body
    text = struct.pack("<I", len(about)) + about + b"\0" * (4 - len(about) % 4)

    def head(end):  # compression, where the packets end, where the text is behind the table
        vtable, table = table_of([struct.pack("<i", 0), struct.pack("<q", end), struct.pack("<I", 4)], text)
        return struct.pack("<II4s", 8 + len(vtable) + len(table), 8 + len(vtable), b"IOHE") + vtable + table

    magic = b"#!AER-DAT4.0\r\n"
    return magic + head(len(magic) + len(head(0)) + len(packets)) + packets
