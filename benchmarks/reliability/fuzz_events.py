"""Damaged files of event cameras, a million of them: events, or a refusal in one line; nothing else.

    .venv/bin/python benchmarks/reliability/fuzz_events.py --files 1000000

Small files of every format are changed at random places, cut, repeated, or given other headers, and read in processes of
their own with little memory and a limit on time. Ends with status 1 if a file crashed a reader, hung it, took memory out of
proportion, or was refused in anything but a line of a ValueError; the seed that makes such a file is printed.

With `--log FILE` each finished batch of 2,000 seeds leaves a line there, and is not read again: the same command goes on
where it was stopped.
"""

import bz2
import gzip
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tyro

sys.path += [str(Path(__file__).parents[2] / "tests" / "data"), str(Path(__file__).parents[1])]
import encoders
from runner import RESULTS, describe_commit, where

from spikewise.data.events import Events
from spikewise.data.events.formats import FORMATS, read_events, write_events

ROOM = 64 * 2**20  # bytes more than the process has at its start
PATIENCE = 5  # seconds of the processor per file
BATCH = 2000
ENCODED = ("aedat2", "aedat3", "atis", "dat", "evt2", "evt21", "evt3", "text", "npy")  # formats with an encoder of their name


@dataclass
class Options:
    """How many files, from which seed on."""

    files: int = 1_000_000
    seed: int = 0
    processes: int = os.cpu_count() or 1
    only: str = ""  # one format
    log: Path | None = None  # of the batches that are finished
    data: Path = Path(os.environ.get("SPIKEWISE_DATA") or Path(__file__).parents[3] / "shared" / "data")


def originals(data: Path) -> dict[str, list[bytes]]:
    """Whole files of every format, and packed ones."""
    t, x, y, polarity = encoders.random_events(40, height=30, width=32, last=4096)
    columns = (t, x, y, polarity)
    made = {name: [getattr(encoders, name)(*columns)] for name in ENCODED}
    made["text"].append(encoders.text(*columns, order="xypt", separator=",", head="x,y,p,time_us\n"))
    made["text"].append(encoders.text(*columns, head="346 260\n", decimals=9))
    made["npy"].append(encoders.npy_fields(*columns))
    made["aedat2"].append(encoders.davis(t, x, y, polarity))
    made["evt3"].append(encoders.evt3_vectors(*encoders.runs_of_events(8, 640)))
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), polarity.astype(np.uint8), (30, 40))
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix in (("npz", ".npz"), ("hdf5", ".h5")):
            write_events(events, Path(folder, f"a{suffix}"))
            made[name] = [Path(folder, f"a{suffix}").read_bytes()]
    made["npz"].append(encoders.npz(t, x, y, polarity))
    made["hdf5"] += [unpacked(t, x, y, polarity, fields) for fields in (False, True)]
    made["hdf5"] += [encode(*columns) for encode in (encoders.v2e_hdf5, encoders.mvsec, encoders.m3ed)]
    made["aedat4"] = [encoders.aedat4(columns), encoders.aedat4(columns, columns)]
    made["packed"] = [
        pack(made[name][0]) for name in ("aedat2", "text", "evt3", "npz") for pack in (gzip.compress, bz2.compress, in_zip)
    ]
    real = data / "event_files" / "tonic" / "sample.aedat4"
    if real.is_file():
        made["aedat4"] += [first_packets(real.read_bytes())]
    return made


def in_zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return file.getvalue()


def unpacked(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, fields: bool) -> bytes:
    """HDF5 without compression, whose numbers a change reaches: four arrays, or one with fields."""
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        if fields:
            out["CD/events"] = np.rec.fromarrays([x, y, p, t], names="x,y,p,t")
        else:
            out["t"], out["x"], out["y"], out["p"] = t, x, y, p
    return file.getvalue()


def repacked(content: bytes, rng: random.Random) -> bytes:
    """An archive whose arrays are changed, sizes and checksums being right: nothing but the array's own header tells."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            array = old.read(name)
            new.writestr(name, changed(array, rng) if name == chosen else array, rng.choice((0, 0, 8, 12)))
    return file.getvalue()


def first_packets(content: bytes, most: int = 30_000) -> bytes:
    """An AEDAT 4 file of the first packets of one: its header says where they end."""
    at = 18 + int.from_bytes(content[14:18], "little")
    while at + 8 + (length := int.from_bytes(content[at + 4 : at + 8], "little")) < most:
        at += 8 + length
    table = 18 + int.from_bytes(content[18:22], "little")
    fields = table - int.from_bytes(content[table : table + 4], "little", signed=True)
    end = table + int.from_bytes(content[fields + 6 : fields + 8], "little")
    return content[:end] + at.to_bytes(8, "little") + content[end + 8 : at]


def changed(content: bytes, rng: random.Random) -> bytes:
    """A file with one to eight changes; most of them near its beginning, where the headers are."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        near = rng.choice((40, 200, len(content)))
        at = rng.randrange(min(near, max(1, len(content))) or 1)
        kind = rng.randrange(6)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            content[at : at + rng.randint(0, 8)] = rng.randbytes(rng.randint(0, 8))
        elif kind == 2:
            content[at : at + 4] = rng.choice((b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))
        elif kind == 3 and content:
            content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 4:
            content[at:at] = content[at : at + rng.randint(1, 64)]
        else:
            content[at : at + 1] = rng.choice((b"#", b"%", b"\n", b"-", b"9"))
    return bytes(content)


@dataclass
class Batch:
    """What is heard of the process that reads the files of some seeds.

    at:        a seed that it reached
    heard:     when it last told something
    outcomes:  how often each was, at the end; None: it did not come to it
    """

    first: int
    queue: "multiprocessing.SimpleQueue[tuple]"
    at: int = 0
    heard: float = field(default_factory=time.time)
    outcomes: Counter[str] | None = None
    wrong: list[str] = field(default_factory=list)

    def listen(self) -> None:
        while not self.queue.empty():
            kind, *rest = self.queue.get()
            self.heard = time.time()
            if kind == "at":
                self.at = rest[0]
            elif kind == "wrong":
                self.tell(f"seed {rest[0]}: {rest[1]}")
            else:
                self.outcomes = rest[0]

    def tell(self, text: str) -> None:
        self.wrong.append(text)
        print(text, file=sys.stderr, flush=True)


def late(*_: object) -> None:
    raise TimeoutError("took too long")


def work(first: int, last: int, made: dict[str, list[bytes]], results: "multiprocessing.SimpleQueue[tuple]") -> None:
    """Read the files of these seeds, and tell after each that was wrong, and at the end what there was."""
    os.environ["RUST_BACKTRACE"] = "0"  # where it is 1, and memory ends while it is written, Rust waits for itself for ever
    with Path("/dev/null").open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # libraries complain there
    for name, files in made.items():  # load what they load before memory is limited
        for content in files:
            read(name, content)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    signal.signal(signal.SIGPROF, late)
    found: Counter[str] = Counter()
    for seed in range(first, last):
        results.put(("at", seed)) if seed % 50 == 0 else None
        rng = random.Random(seed)
        name = rng.choice(list(made))
        change = repacked if name == "npz" and rng.random() < 0.5 else changed
        content = change(rng.choice(made[name]), rng)
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        try:
            outcome = read(name if rng.random() < 0.7 else None, content, salvage=rng.random() < 0.3)
        except BaseException as error:
            outcome = f"{type(error).__name__}: {str(error)[:200]}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        found[f"{name} {outcome if outcome in ('events', 'refused') else 'WRONG'}"] += 1
        if outcome not in ("events", "refused"):
            results.put(("wrong", seed, f"{name}: {outcome}"))
    results.put(("done", found))


def read(name: str | None, content: bytes, *, salvage: bool = False) -> str:
    name = None if name == "packed" else name
    path = Path(f"/dev/shm/fuzz-{os.getpid()}{FORMATS[name].suffixes[0] if name else '.bin'}")
    try:
        path.write_bytes(content)
        events = read_events(path, format=name, salvage=salvage)
        return "events" if events.x.max(initial=0) < events.size[1] and events.y.max(initial=0) < events.size[0] else "outside"
    except ValueError as error:
        return "refused" if "\n" not in str(error) and str(path) in str(error) else f"refused in other words: {error}"
    finally:
        path.unlink(missing_ok=True)


def read_log(log: Path | None) -> dict[int, dict[str, Any]]:
    """The lines of whole batches that are finished, by their first seed."""
    lines = map(json.loads, log.read_text().splitlines()) if log and log.exists() else ()
    return {line["seed"]: line for line in lines if sum(line["outcomes"].values()) == BATCH or line["wrong"]}


def main(o: Options) -> int:
    began, commit, finished = time.time(), describe_commit(), read_log(o.log)
    made = {name: files for name, files in originals(o.data).items() if o.only in ("", name)}
    context = multiprocessing.get_context("fork")
    starts = (first for first in range(o.seed, o.seed + o.files, BATCH) if first not in finished)
    running: dict[Any, Batch] = {}
    while True:
        while len(running) < o.processes and (first := next(starts, None)) is not None:
            batch = Batch(first, context.SimpleQueue())
            process = context.Process(target=work, args=(first, min(first + BATCH, o.seed + o.files), made, batch.queue))
            process.start()
            running[process] = batch
        if not running:
            break
        for process, batch in list(running.items()):
            batch.listen()
            hung = time.time() - batch.heard > 60 + 50 * PATIENCE
            if hung:
                process.kill()
            if hung or (not process.is_alive() and batch.queue.empty()):
                process.join()
                if batch.outcomes is None:
                    batch.tell(
                        f"a reader {'hung' if hung else f'ended with {process.exitcode}'} within 50 files of seed {batch.at}"
                    )
                finished[batch.first] = line = {
                    "seed": batch.first, "outcomes": batch.outcomes or {}, "wrong": batch.wrong, "commit": commit
                }  # fmt: skip
                if o.log:
                    with o.log.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                del running[process]
        time.sleep(0.02)
    total = sum((Counter(line["outcomes"]) for line in finished.values()), Counter())
    wrong = [example for line in finished.values() for example in line["wrong"]]
    line = {"what": "damaged files of event cameras", "files": sum(total.values()), "outcomes": dict(sorted(total.items()))}
    line |= {"wrong": len(wrong), "examples": wrong[:10], "seconds": round(time.time() - began)}
    print(json.dumps(line | where()))
    with (RESULTS / "fuzz-events.jsonl").open("a") as file:
        file.write(json.dumps(line | where()) + "\n")
    return bool(wrong) or sum(total.values()) < o.files


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
