"""Files made to harm: well formed, so that no random change finds them. Refused in a line, in little time and memory."""

import io
import os
import struct
import sys
import warnings
import zipfile
import zlib

import encoders
import h5py
import numpy as np
import pytest
from checks import as_events, refuse, refused, require_equal

from spikewise.data.events.formats import aedat4, detect_format, read_events, reading, write_events
from spikewise.data.events.plot import plot_recording

TEN = np.arange(10)
COLUMNS = {"t": TEN, "x": TEN, "y": TEN, "p": TEN % 2}


def refuse_file(path, message, **how):
    with refused(message, (ValueError, OSError)) as error:
        read_events(path, **how)
    assert len(str(error.value)) < 600 + len(str(path))


def npz(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.timeout(20)
def test_a_pipe_and_a_folder_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")
    (tmp_path / "folder.npz").mkdir()
    for name, format in (("pipe.bin", None), ("pipe.bin", "hdf5"), ("folder.npz", None)):
        refuse_file(tmp_path / name, "is not a file", format=format)
    refuse("is not a file", detect_format, tmp_path / "pipe.bin", kind=OSError)


@pytest.mark.timeout(20)
def test_a_header_of_millions_of_lines_takes_no_minutes(tmp_path):
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + b"#\n" * 2**22 + struct.pack(">II", 3, 5))
    assert read_events(tmp_path / "a.aedat").t.tolist() == [5]


@pytest.mark.parametrize(
    ("content", "last", "end"),
    [
        (b"data", None, 0),
        (b"#a\n#b\r\ndata", None, 7),
        (b"#a\n#b\r\ndata", b"#b", 7),
        (b"#a\n#end\r\n#data\n", b"#end", 9),
        (b"#a\n#end\r\n#data\n", None, 15),
        (b"#\n" * 5000 + b"x#\n", None, 10_000),
    ],
)
def test_where_a_header_ends(content, last, end):
    assert reading.header_end("file", np.frombuffer(content, np.uint8), b"#", last) == end


def test_a_header_without_an_end_is_named_with_its_place():
    raw = np.frombuffer(b"#a\n#b\n#c", np.uint8)
    refuse("the header's line at byte 6 does not end", reading.header_end, "file", raw, b"#", b"#last")


@pytest.mark.parametrize("geometry", [b"9999x9999", b"0x0", b"640x0"])
def test_a_sensor_that_no_camera_has(geometry, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% evt 2.0\n% geometry " + geometry + b"\n" + struct.pack("<II", 8 << 28, 1))
    refuse_file(tmp_path / "a.raw", r"height and width should be whole numbers from 1 to 4,096")


@pytest.mark.parametrize(
    "text",
    [b"(" * 9000, b"-" * 9000 + b"1", b"{'a':\n '''", b"'\\\n", b"\n\n   x\n y\n", b"\0", b"{}", b"[" * 60_000]
    + [
        b"{'descr': %b, 'fortran_order': False, 'shape': (%b,), }\n" % pair
        for pair in (
            (b"'<i8'", b"-1"),
            (b"'<i8'", b"0, 99999999999999999999999"),
            (b"'<i8'", b"True"),
            (b"[(1,2,3,4,5)]", b"0"),
        )
    ]
    + [b"{'descr': '|S0', 'fortran_order': False, 'shape': (9223372036854775807,9), }\n"],
    ids=repr,
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_of_arrays_that_are_none(text, method, tmp_path):
    npz(tmp_path / "a.npz", {"t.npy": npy_header(text)}, method)
    refuse_file(tmp_path / "a.npz", r"a\.npz (is not a file of events|has no array)")


def test_arrays_written_by_python_2_are_read_without_a_warning(tmp_path):
    text = b"{'descr': '<i8', 'fortran_order': False, 'shape': (10L,), }\n"
    npz(
        tmp_path / "a.npz", {f"{name}.npy": npy_header(text) + array.astype("<i8").tobytes() for name, array in COLUMNS.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_events(tmp_path / "a.npz").x, TEN)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_packings_whose_growth_is_bounded(method, tmp_path):
    npz(tmp_path / "a.npz", {f"{name}.npy": npy(array) for name, array in COLUMNS.items()}, method)
    refuse_file(tmp_path / "a.npz", r"is packed in a way that NumPy never uses")


def test_names_are_shown_in_one_line_and_few_of_them(tmp_path):
    npz(tmp_path / "a.npz", {"a\nb.npy": npy(TEN)})
    refuse_file(tmp_path / "a.npz", r"has no array t; it holds a\\nb")
    npz(tmp_path / "b.npz", {f"name{k}.npy": npy(TEN) for k in range(300)} | {"n" * 5000 + ".npy": npy(TEN)})
    refuse_file(tmp_path / "b.npz", r"it holds name0, name1, .*and 293 more")
    (tmp_path / "new\nline.aedat").write_bytes(b"#!AER-DAT2.0\r\nabc")
    refuse_file(tmp_path / "new\nline.aedat", r"new\\nline.aedat was cut")
    (tmp_path / "new\nline").write_bytes(b"abc")
    refuse_file(tmp_path / "new\nline", r"new\\nline is not in a known format")


def columns(file, group):
    file.create_group(group).update(COLUMNS)


def link(file, other):
    file["events"] = h5py.ExternalLink(str(other), "/g")


def soft_link(file, _other):
    columns(file, "g")
    file["events"] = h5py.SoftLink("/g")


def soft_column(file, _other):
    file.create_group("events").update({"x": TEN, "y": TEN, "p": TEN % 2, "t": h5py.SoftLink("/events/x")})


def virtual(file, other):
    for name in COLUMNS:
        layout = h5py.VirtualLayout(shape=(10,), dtype="i8")
        layout[:] = h5py.VirtualSource(str(other), f"g/{name}", shape=(10,))
        file.create_virtual_dataset(f"events/{name}", layout)


def storage(file, other):
    for name in COLUMNS:
        file.create_dataset(f"events/{name}", shape=(10,), dtype="u1", external=[(str(other), 0, 10)])


@pytest.mark.parametrize("elsewhere", [link, soft_link, soft_column, virtual, storage])
@pytest.mark.timeout(20)
def test_a_file_never_has_another_one_read(elsewhere, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        columns(file, "g")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        elsewhere(file, tmp_path / "other.h5")
    refuse_file(tmp_path / "a.h5", r"lies elsewhere: copy what it points to")
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        link(file, tmp_path / "pipe.h5")
    refuse_file(tmp_path / "b.h5", r"lies elsewhere")


def gzip_chunks(path, chunk, content=b""):
    """Ten numbers in each of the columns, said to be in chunks of so many; `content` is written as their first chunk."""
    with h5py.File(path, "w") as file:
        for name in COLUMNS:
            how = {"shape": (10,), "maxshape": (None,), "chunks": (chunk,), "dtype": "<i8", "compression": "gzip"}
            data = file.create_dataset(f"events/{name}", **how)
            if content:
                data.id.write_direct_chunk((0,), content)


def test_chunks_that_unpack_to_far_more_than_the_file(tmp_path):
    gzip_chunks(tmp_path / "claim.h5", 2**28)
    refuse_file(tmp_path / "claim.h5", r"events/. would take 2,147,483,648 bytes")
    gzip_chunks(tmp_path / "bomb.h5", 1024, zlib.compress(bytes(2**26), 9))
    refuse_file(tmp_path / "bomb.h5", r"a chunk of /events/. unpacks to more than its 8,192 bytes")
    with h5py.File(tmp_path / "twice.h5", "w") as file:
        for name in COLUMNS:
            once = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            once.set_deflate(1)
            file.create_dataset(f"events/{name}", shape=(1024,), dtype="i8", chunks=True, compression="gzip", dcpl=once)
    refuse_file(tmp_path / "twice.h5", r"events/. is packed more than once")


@pytest.mark.parametrize(
    "how", [{}, {"compression": "gzip"}, {"compression": "lzf"}, {"compression": "gzip", "fletcher32": True}]
)
def test_usual_packings_of_hdf5_are_read(how, tmp_path):
    columns = encoders.random_events(3000)
    (tmp_path / "a.h5").write_bytes(encoders.hdf5(*columns, chunks=(257,), shuffle=bool(how), **how))
    require_equal(read_events(tmp_path / "a.h5"), *columns)


def lz4_frame(blocks, most=4):
    """An LZ4 frame; `most`: 4 to 7, blocks of up to 64 KiB to 4 MiB; of a header's checksum nobody asks here."""
    return (
        struct.pack("<IBBB", 0x184D2204, 0x60, most << 4, 0)
        + b"".join(struct.pack("<I", len(b)) + b for b in blocks)
        + bytes(4)
    )


def zstd_frame(blocks, window=0x58):
    """A frame of Zstandard: blocks of (type, what is said of its size, content)."""
    parts = [
        struct.pack("<I", said << 3 | kind << 1 | (k == len(blocks) - 1))[:3] + b for k, (kind, said, b) in enumerate(blocks)
    ]
    return struct.pack("<IBB", 0xFD2FB528, 0, window) + b"".join(parts)


@pytest.mark.parametrize(
    ("compression", "packet", "most"),
    [
        (0, bytes(100), 100),
        (1, lz4_frame([bytes(50)]), 12_750),
        (1, lz4_frame([bytes(300)] * 3), 3 * 2**16),
        (2, lz4_frame([bytes(20_000)], most=7), 2**22),
        (1, lz4_frame([bytes(50)]) * 2, 25_500),
        (3, zstd_frame([(0, 7, bytes(7)), (1, 2**17, b"A"), (2, 9, bytes(9))]), 7 + 2**18),
        (4, zstd_frame([(1, 5, b"A")]) * 2, 10),
    ],
)
def test_what_a_packet_of_aedat_4_may_become(compression, packet, most):
    assert aedat4.max_unpacked_bytes(packet, compression) == most


@pytest.mark.parametrize(
    ("compression", "packet"),
    [
        (1, b""),
        (1, bytes(40)),
        (1, lz4_frame([bytes(9)])[:-1]),
        (1, struct.pack("<IBBBI", 0x184D2204, 0x60, 0x40, 0, 2**30)),
        (1, lz4_frame([bytes(9)], most=2)),
        (3, zstd_frame([(2, 9, bytes(9))])[:-1]),
        (3, zstd_frame([(3, 1, b"A")])),
        (3, zstd_frame([(1, 5, b"A")], window=0xFF)),
        (5, bytes(40)),
        (-1, bytes(40)),
    ],
    ids=repr,
)
def test_packets_of_aedat_4_that_are_not_packed_as_they_say(compression, packet):
    refuse(r"packed", aedat4.max_unpacked_bytes, packet, compression)


def test_what_is_written_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), sync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b))[1])
    for name in ("a.npz", "a.h5"):
        calls.clear()
        write_events(as_events(*np.zeros((4, 3), int), (2, 2)), tmp_path / name)
        assert calls.index("sync") < calls.index("rename")
        assert len(read_events(tmp_path / name)) == 3


def test_what_cannot_be_written_is_said_in_a_line(tmp_path, monkeypatch):
    events = as_events(*np.zeros((4, 3), int), (2, 2))
    for name, write in (("a.npz", write_events), ("a.h5", write_events), ("a.png", plot_recording), ("a.gif", plot_recording)):
        message = rf"nowhere/{name} can't be written: No such file or directory$"
        refuse(message, write, events, tmp_path / "nowhere" / name, kind=OSError)
    monkeypatch.setitem(sys.modules, "h5py", None)
    refuse(r"/a\.h5 needs the package h5py", write_events, events, tmp_path / "a.h5")
