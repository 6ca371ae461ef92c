"""Files of event cameras, written from the formats' descriptions and not from the readers."""

import struct

import numpy as np

END3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-07-01 12:00:00 (TZ+0200)\r\n#!END-HEADER\r\n"
START2 = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Data format is int32 address, int32 timestamp\r\n"


def packet3(kind, events, each=8, overflows=0, number=None, room=None):
    """A packet of AEDAT 3.1: 28 bytes, then the events."""
    number = len(events) // each if number is None else number
    return struct.pack("<hhiiiiii", kind, 1, each, 4, overflows, number if room is None else room, number, number) + events


def aedat3(t, x, y, polarity, valid=None, at_once=100):
    """AEDAT 3.1, `at_once` events to a packet; a packet ends where the clock overflows; others stand between."""
    out, begin = [END3], 0
    valid = np.ones(len(t), int) if valid is None else valid
    while begin < len(t):
        overflows, end = int(t[begin]) >> 31, begin
        while end < len(t) and end - begin < at_once and int(t[end]) >> 31 == overflows:
            end += 1
        words = []
        for i in range(begin, end):
            data = int(valid[i]) | int(polarity[i]) << 1 | int(y[i]) << 2 | int(x[i]) << 17
            words.append(struct.pack("<II", data, int(t[i]) & 0x7FFFFFFF))
        out += [packet3(0, b"\1" * 16, each=16), packet3(1, b"".join(words), overflows=overflows)]
        begin = end
    return b"".join(out)


def words(dtype, *columns):
    """Columns of 32-bit words, interleaved."""
    return np.stack([np.asarray(column) % 2**32 for column in columns], axis=1).astype(dtype).tobytes()


def aedat2(t, x, y, polarity, header=START2, order=">u4"):
    """AEDAT 2.0 of a DVS128, which counts columns from the right, rows from below, and has 0 for ON."""
    x, y, polarity = 127 - np.asarray(x), 127 - np.asarray(y), 1 - np.asarray(polarity)
    return header + words(order, x << 1 | y << 8 | polarity, t)


def davis(t, x, y, polarity, header=START2 + b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n", order=">u4"):
    """AEDAT 2.0 of a DAVIS; after the first event a sample of a frame, one of inertia, and a mark of an external signal."""
    events = words(order, x << 12 | y << 22 | polarity << 11, t)
    others = words(order, [1 << 31 | 5 << 12, 1 << 31 | 3 << 10, 1 << 10], t[[0, 0, 0]])
    return header + events[:8] + others + events[8:]


def atis(t, x, y, polarity):
    """N-MNIST's five bytes; a row of 240 wherever the clock of 13 bits overflows."""
    out, overflows = [], 0
    for time, a, b, p in zip(t, x, y, polarity, strict=True):
        while time - 8192 * overflows >= 8192:
            out.append(bytes([0, 240, 0, 0, 0]))
            overflows += 1
        rest = int(time) - 8192 * overflows
        out.append(bytes([a, b, int(p) << 7 | rest >> 16, rest >> 8 & 255, rest & 255]))
    return b"".join(out)


def dat(t, x, y, polarity):
    """Prophesee DAT."""
    header = b"% Data file containing CD events.\n% Version 2\n% Height 240\n% Width 304\n\x0c\x08"
    return header + words("<u4", t, x | y << 14 | polarity << 28)


def evt2(t, x, y, polarity):
    """Prophesee EVT 2.0."""
    out, high = [b"% evt 2.0\n% geometry 640x480\n"], -1
    for time, a, b, p in zip(t, x, y, polarity, strict=True):
        if int(time) >> 6 != high:
            high = int(time) >> 6
            out.append(struct.pack("<I", 8 << 28 | high & 0xFFFFFFF))
        out.append(struct.pack("<I", int(p) << 28 | (int(time) & 63) << 22 | int(a) << 11 | int(b)))
    return b"".join(out)


def evt3(t, x, y, polarity):
    """Prophesee EVT 3.0, one word per part of an event."""
    out, high, low, row = [b"% evt 3.0\n% format EVT3;height=720;width=1280\n"], -1, -1, -1
    for time, a, b, p in zip(map(int, t), x, y, polarity, strict=True):
        if time >> 12 != high:
            high = time >> 12
            out.append(struct.pack("<H", 8 << 12 | high & 4095))
        if time & 4095 != low:
            low = time & 4095
            out.append(struct.pack("<H", 6 << 12 | low))
        if b != row:
            row = b
            out.append(struct.pack("<H", int(b)))
        out.append(struct.pack("<H", 2 << 12 | int(p) << 11 | int(a)))
    return b"".join(out)


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
