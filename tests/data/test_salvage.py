"""What a cut file still holds: the first of its events, exactly, or a refusal that says why."""

import bz2
import gzip
import io
import zipfile

import encoders
import numpy as np
import pytest
from checks import as_events, refuse, require_equal

from spikewise.data.events.formats import aedat4, read_events, write_events

EVENTS = encoders.random_events(N := 20_000, height=30, width=40)
TEXT, WORDS = encoders.text(*EVENTS), encoders.aedat3(*EVENTS)


class Pipe(io.RawIOBase):
    """What can't be gone back in: sizes and checksums of a zip file then stand behind its members."""

    def __init__(self):
        super().__init__()
        self.content = b""

    def writable(self):
        return True

    def write(self, content):
        self.content += bytes(content)
        return len(content)


def in_zip(members, method=zipfile.ZIP_DEFLATED, file=None):
    file = file or io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.content if isinstance(file, Pipe) else file.getvalue()


def savez(save, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


T, X, Y, P = EVENTS
TABLE = np.rec.fromarrays(EVENTS, names="t,x,y,p")
CUT = {
    "arrays.npz": savez(np.savez, t=T, x=X, y=Y, p=P),
    "packed.npz": savez(np.savez_compressed, height=30, width=40, t=T, x=X, y=Y, p=P),
    "fields.npz": savez(np.savez_compressed, events=TABLE),
    "columns.npz": savez(np.savez, events=np.stack(EVENTS, axis=1)),
    "text.zip": in_zip({"a.txt": TEXT}),
    "stored.zip": in_zip({"a.aedat": WORDS}, zipfile.ZIP_STORED),
    "piped.zip": in_zip({"folder/a.txt": TEXT}, file=Pipe()),
    "text.txt.gz": gzip.compress(TEXT),
    "text.txt.bz2": bz2.compress(TEXT, 1),  # blocks of 100 kB
}


def salvage(folder, name, content):
    file = folder / name
    file.write_bytes(content)
    return read_events(file, salvage=True)


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_anywhere_gives_its_first_events_or_a_reason(name, tmp_path):
    content, found = CUT[name], []
    for length in sorted((*range(step := len(content) // 15, len(content), step), len(content) - 23)):
        (tmp_path / name).write_bytes(content[:length])
        refuse(r"damaged|can't be unpacked", read_events, tmp_path / name)
        try:
            events = read_events(tmp_path / name, salvage=True)
        except ValueError as error:
            found.append(0)
            reason = str(error)
        else:
            found.append(len(events))
            require_equal(events, *(column[: len(events)] for column in EVENTS))
            reason = " ".join(events.notes)
        assert "salvaged" in reason or "as far as it goes" in reason or "unpacked" in reason
    assert found == sorted(found)  # the more of the file, the more events
    assert found[-1] > N // 2


def test_a_directory_that_is_missing_costs_nothing_but_itself(tmp_path):
    content = in_zip({"__MACOSX/a.txt": b"1", "a.txt": TEXT, "b.aedat": WORDS})
    without = content[: content.index(b"PK\x01\x02")]
    (tmp_path / "a.zip").write_bytes(without)
    for stream in ("a.txt", "b.aedat"):
        require_equal(read_events(tmp_path / "a.zip", stream=stream, salvage=True), *EVENTS)
    refuse("holds 2 streams of events, a.txt, b.aedat", read_events, tmp_path / "a.zip", salvage=True)
    refuse("damaged zip file", read_events, tmp_path / "a.zip", stream="a.txt")


def test_a_writer_that_was_stopped_has_not_said_how_long_its_last_array_is(tmp_path):
    content = bytearray(CUT["arrays.npz"])
    last = content.rindex(b"PK\x03\x04")
    content[last + 14 : last + 18] = bytes(4)  # the checksum, and both sizes
    content[last + 39 : last + 55] = bytes(16)
    content = content[: content.index(b"PK\x01\x02") - P[:1000].nbytes]
    require_equal(salvage(tmp_path, "a.npz", bytes(content)), *(column[:-1000] for column in EVENTS))


def test_an_array_with_a_wrong_checksum_is_not_taken(tmp_path):
    content = bytearray(CUT["arrays.npz"][:-40])
    content[content.index(b"y.npy") + 5000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    refuse(
        "nothing can be salvaged .*: the rest has no array y; it holds t, x, p", read_events, tmp_path / "a.npz", salvage=True
    )


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_file_of_ours_that_was_cut(suffix, tmp_path):
    write_events(as_events(*EVENTS, (50, 60)), tmp_path / f"whole{suffix}")
    content = (tmp_path / f"whole{suffix}").read_bytes()
    if suffix == ".h5":
        (tmp_path / "a.h5").write_bytes(content[:-100])
        refuse(r"was cut: it has .* nothing of it can be salvaged", read_events, tmp_path / "a.h5", salvage=True)
        return
    events = salvage(tmp_path, "a.npz", content[: content.rindex(b"PK\x03\x04") + 300])
    assert 0 < len(events) < N
    assert (events.size, events.is_size_told) == ((50, 60), True)  # the sensor is written before the events


def test_members_that_take_far_more_than_the_file_has(tmp_path):
    content = in_zip({"a.txt": bytes(2**24)})[:-30]
    (tmp_path / "a.zip").write_bytes(content)
    refuse("far more than it has", read_events, tmp_path / "a.zip", salvage=True)
    many = in_zip(dict.fromkeys(map(str, range(1200)), b""))
    (tmp_path / "b.zip").write_bytes(many[: many.index(b"PK\x01\x02")])
    refuse("holds 1000 streams", read_events, tmp_path / "b.zip", salvage=True)


@pytest.mark.parametrize("name", ["aedat2", "atis", "dat", "evt2", "evt21", "evt3"])
@pytest.mark.parametrize("zeros", [4096, 4099, 30_000])
def test_zeros_at_the_end_are_no_events(name, zeros, tmp_path):
    suffix = {"aedat2": "aedat", "atis": "bin", "dat": "dat"}.get(name, "raw")
    content = getattr(encoders, name)(*(column[:500] for column in EVENTS))
    (tmp_path / f"a.{suffix}").write_bytes(content)
    whole = read_events(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").write_bytes(content + bytes(zeros))
    refuse("ends in .* zeros, from byte .*: it was not written to its end", read_events, tmp_path / f"a.{suffix}")
    found = read_events(tmp_path / f"a.{suffix}", salvage=True)
    require_equal(found, whole.t, whole.x, whole.y, whole.polarity)
    assert f"from the first {len(content):,} of {len(content) + zeros:,} bytes" in found.notes[0]


def test_a_file_of_zeros_is_none(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(5000))
    refuse("ends in 5,000 zeros, from byte 0 on", read_events, tmp_path / "a.bin")
    refuse("nothing can be salvaged", read_events, tmp_path / "a.bin", salvage=True)


def test_a_packet_of_aedat_4_that_does_not_unpack_is_where_a_file_ends(tmp_path):
    pytest.importorskip("aedat")
    content = encoders.aedat4([column[:500] for column in EVENTS], at_once=100)
    (tmp_path / "a.aedat4").write_bytes(content)
    starts = aedat4.find_packets(tmp_path / "a.aedat4", np.frombuffer(content, np.uint8))
    damaged = bytearray(content)
    damaged[starts[3] + 8 : starts[3] + 16] = b"\xff" * 8
    for end in (None, -7):  # and the last packet is cut
        (tmp_path / "a.aedat4").write_bytes(damaged[:end])
        refuse("is damaged at byte", read_events, tmp_path / "a.aedat4")
        require_equal(read_events(tmp_path / "a.aedat4", salvage=True), *(column[:300] for column in EVENTS))


@pytest.mark.parametrize("left", [1, 33, 100])
def test_an_array_that_was_cut_gives_its_whole_rows(left, tmp_path):
    np.save(file := tmp_path / "a.npy", np.stack(EVENTS, axis=1).astype(np.int64))
    file.write_bytes(file.read_bytes()[:-left])
    refuse("was cut", read_events, file)
    found, whole = read_events(file, salvage=True, columns="t,x,y,p", time_unit="us"), N - -(-left // 32)
    require_equal(found, *(column[:whole] for column in EVENTS))
    assert f"({100 * (file.stat().st_size / (file.stat().st_size + left)):.1f} % of the whole" in found.notes[0]
