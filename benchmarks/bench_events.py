"""Files of event cameras: events decoded per second, on one core.

    .venv/bin/pip install --no-deps spikingjelly==2.0.0 loguru h5py tqdm scipy
    .venv/bin/python benchmarks/bench_events.py

AEDAT 3.1 beside SpikingJelly's reader, in turns and with the same events; the other formats alone, those of Prophesee with
events of a sensor of 1280 x 720 pixels, which are also binned onto 128 x 128: EVT 3.0 with four single events per row, and in
vectors. The files lie in memory already when they are read. Seconds are those of the core (`time.process_time`), not of the
clock on the wall, as others may work beside it.

With `--memory N` the peak of memory is taken instead, of a process that reads so many events of EVT 3.0 and bins them.
"""

import struct
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from peers import spikingjelly
from runner import report, save, take_turns

from spikewise.data.events.downsample import downsample
from spikewise.data.events.formats import read_events


@dataclass
class Options:
    """How many events, and how often."""

    events: int = 2_000_000
    rounds: int = 15
    peer_events: int = 200_000  # SpikingJelly's reader takes a second for a million
    memory: int = 0  # events of the file of which the memory is taken


def columns(n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    return np.sort(rng.integers(0, 10**7, n)), rng.integers(0, 128, n), rng.integers(0, 128, n), rng.integers(0, 2, n)


def aedat3(n: int, at_once: int = 4096) -> bytes:
    t, x, y, polarity = columns(n)
    words = np.stack([1 | polarity << 1 | y << 2 | x << 17, t], axis=1).astype("<u4")
    packets = [words[begin : begin + at_once] for begin in range(0, n, at_once)]
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    return head + b"".join(struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, *[len(part)] * 3) + part.tobytes() for part in packets)


def aedat2(n: int) -> bytes:
    t, x, y, polarity = columns(n)
    return b"#!AER-DAT2.0\r\n" + np.stack([polarity | x << 1 | y << 8, t], axis=1).astype(">u4").tobytes()


def atis(n: int) -> bytes:
    t, x, y, polarity = columns(n)
    return np.stack([x, y, polarity << 7, t >> 8 & 255, t & 255], axis=1).astype(np.uint8).tobytes()


def text(n: int) -> bytes:
    """Seconds with nine decimals, as the Event Camera Dataset has them."""
    rows = zip(*(column.tolist() for column in columns(n)), strict=True)
    return "".join(f"{t // 10**6}.{t % 10**6:06}000 {x} {y} {p}\n" for t, x, y, p in rows).encode()


def columns_720p(n: int, run: int) -> tuple[np.ndarray, ...]:
    """Rising t, and x, y, polarity of runs of neighbours that fire together, in a row of 1280 pixels."""
    rng = np.random.default_rng(0)
    runs = -(-n // run)
    t = np.repeat(np.sort(rng.integers(0, n // 20, runs)), run)[:n]
    x = (rng.integers(0, 1280 - run, runs)[:, None] + np.arange(run)).reshape(-1)[:n]
    y, polarity = (np.repeat(rng.integers(0, high, runs), run)[:n] for high in (720, 2))
    return t, x, y, polarity


def dat(n: int) -> bytes:
    t, x, y, polarity = columns_720p(n, 4)
    head = b"% Version 2\n% Height 720\n% Width 1280\n\x0c\x08"
    return head + np.stack([t, x | y << 14 | polarity << 28], axis=1).astype("<u4").tobytes()


def with_time_words(t: np.ndarray, words: np.ndarray, high: np.ndarray, shift: int) -> np.ndarray:
    """Words of events, and before each event whose time differs above `shift` bits a word of the upper time."""
    at = np.flatnonzero(np.diff(t >> shift, prepend=-1))
    return np.insert(words, at, high[at])


def evt2(n: int) -> bytes:
    t, x, y, polarity = columns_720p(n, 4)
    words = with_time_words(t, polarity << 28 | (t & 63) << 22 | x << 11 | y, 8 << 28 | t >> 6, 6)
    return b"% evt 2.0\n% geometry 1280x720\n% end\n" + words.astype("<u4").tobytes()


def evt21(n: int) -> bytes:
    """Words of 16 neighbours."""
    t, x, y, polarity = (column[::16].astype(np.uint64) for column in columns_720p(n, 16))
    valid = np.full(len(t), 0xFFFF, np.uint64)
    valid[-1] >>= np.uint64(-n % 16)
    words = polarity << 60 | (t & 63) << 54 | x << 43 | y << 32 | valid
    words = with_time_words(t.astype(np.int64), words, 8 << 60 | (t >> 6) << 32, 6)
    return b"% evt 2.1\n% geometry 1280x720\n% end\n" + words.astype("<u8").tobytes()


def evt3(n: int) -> bytes:
    """Rows of four events, a word for each."""
    t, x, y, polarity = columns_720p(n, 4)
    first = np.arange(0, n, 4)
    words = np.insert(2 << 12 | polarity << 11 | x, first, y[first])
    words = np.insert(words, first + np.arange(len(first)), 6 << 12 | t[first] & 4095)
    at = np.flatnonzero(np.diff(t[first] >> 12, prepend=-1))
    words = np.insert(words, first[at] + 2 * at, (8 << 12 | t[first] >> 12 & 4095)[at])
    return b"% evt 3.0\n% geometry 1280x720\n% end\n" + words.astype("<u2").tobytes()


def evt3_vectors(n: int) -> bytes:
    """Runs of 32 events as vectors of 12, 12 and 8, three quarters of whose columns fire."""
    t, x, y, polarity = (column[::32] for column in columns_720p(n // 3 * 4 + 32, 32))
    rng = np.random.default_rng(1)
    fires = np.cumsum(fired := rng.random((len(t), 32)) < 0.75).reshape(fired.shape) <= n
    bits = (fired & fires) * (1 << np.r_[0:12, 0:12, 0:8])
    vectors = [bits[:, a:b].sum(1) | kind << 12 for a, b, kind in ((0, 12, 4), (12, 24, 4), (24, 32, 5))]
    high = 8 << 12 | t >> 12 & 4095
    words = np.stack([high, 6 << 12 | t & 4095, y, 3 << 12 | polarity << 11 | x, *vectors], axis=1)
    return b"% evt 3.0\n% geometry 1280x720\n% end\n" + words.astype("<u2").tobytes()


def peer_reader() -> Callable[[Path], dict[str, np.ndarray]]:
    """SpikingJelly's reader of AEDAT 3.1; its package of data sets asks for torchvision and scipy, this module for nothing."""
    spikingjelly()
    package = types.ModuleType("spikingjelly.datasets")
    package.__path__ = [str(Path(sys.modules["spikingjelly"].__path__[0]) / "datasets")]
    sys.modules["spikingjelly.datasets"] = package
    from spikingjelly.datasets.utils import load_aedat_v3

    return load_aedat_v3


PEAK = """
import resource, sys
from spikewise.data.events.downsample import downsample
from spikewise.data.events.formats import read_events
from spikewise.native import load
load.load(load.selected_variant())
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
events = read_events(sys.argv[1])
decoded = peak()
print(before, decoded, len(downsample(events, 128, in_place=True)) and peak())
"""


def measure_memory(num_events: int, each: int = 2_000_000) -> dict[str, object]:
    """MiB of a process before, when it has read so many events, and when it has binned them; the mapped file's beside it."""
    header, body = evt3(each).split(b"% end\n")
    words, parts = np.frombuffer(body, "<u2"), -(-num_events // each)
    is_upper_time, lasts = words >> 12 == 8, each // 20 // 4096 + 1
    with tempfile.TemporaryDirectory() as folder:
        with (path := Path(folder, "large.raw")).open("wb") as file:
            file.write(header + b"% end\n")
            for part in range(parts):
                file.write((words + is_upper_time.astype("<u2") * (part * lasts)).tobytes())
        told = subprocess.run([sys.executable, "-c", PEAK, str(path)], check=True, capture_output=True, text=True).stdout
        before, decoded, binned = map(int, told.split())
        mapped = path.stat().st_size // 2**20
    line = {"what": f"EVT 3.0, {parts * each:,} events onto 128 x 128, peak of memory", "mapped_file_mib": mapped}
    return line | {"before_mib": before, "decoded_mib": decoded, "binned_mib": binned}


def main(o: Options) -> None:
    torch.set_num_threads(1)
    if o.memory:
        save("events", [measure_memory(o.memory)])
        return
    load_aedat_v3 = peer_reader()

    with tempfile.TemporaryDirectory() as folder:
        files = {
            "AEDAT 3.1": ("a.aedat", aedat3),
            "AEDAT 2.0": ("b.aedat", aedat2),
            "N-MNIST": ("c.bin", atis),
            "DAT": ("d.dat", dat),
            "EVT 2.0": ("e.raw", evt2),
            "EVT 2.1": ("f.raw", evt21),
            "EVT 3.0": ("g.raw", evt3),
            "EVT 3.0, vectors": ("h.raw", evt3_vectors),
            "text": ("i.txt", text),
        }
        lines = []
        for name, (file, encoder) in files.items():
            path = Path(folder, file)
            path.write_bytes(encoder(o.events))
            if len(read_events(path)) != o.events:
                raise SystemExit(f"{name}: not every event was read: no time is taken")
            steps: dict[str, Callable[[], object]] = {"spikewise": lambda path=path: read_events(path, size=(720, 1280))}
            into = np.empty_like(raw := np.fromfile(path, np.uint8))
            if path.suffix in (".dat", ".raw"):  # of 1280 x 720 pixels
                steps["onto 128 x 128"] = lambda path=path: downsample(read_events(path, size=(720, 1280)), 128, in_place=True)
            steps["copy of the bytes"] = lambda into=into, raw=raw: np.copyto(into, raw)
            lines += report(
                f"{name}, {o.events:,} events", steps_taken := take_turns(steps, o.rounds, clock=time.process_time), "spikewise"
            )
            for step, seconds in steps_taken.items():
                if step != "copy of the bytes":
                    lines[-1]["events_per_s" + ", onto 128 x 128" * (step != "spikewise")] = round(
                        o.events / np.median(seconds)
                    )
        few = Path(folder, "few.aedat")
        few.write_bytes(aedat3(o.peer_events))
        theirs = load_aedat_v3(few)
        ours = read_events(few)
        if not all(np.array_equal(theirs[a], b) for a, b in zip("txyp", (ours.t, ours.x, ours.y, ours.polarity), strict=True)):
            raise SystemExit("SpikingJelly's reader and ours differ: no time is taken")
        both = {"spikewise": lambda: read_events(few), "SpikingJelly": lambda: load_aedat_v3(few)}
        lines += report(
            f"AEDAT 3.1, {o.peer_events:,} events",
            steps_taken := take_turns(both, 5, warm=1, clock=time.process_time),
            "spikewise",
        )
        for name, seconds in steps_taken.items():
            lines[-1][f"{name} events_per_s"] = round(o.peer_events / float(np.median(seconds)))
        save("events", lines)


if __name__ == "__main__":
    main(tyro.cli(Options))
