"""EventDataset as samples: read, cut, kept on disk."""

import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checks import as_events, refuse

from spikewise.data.events.frames import FRAME_BINNERS
from spikewise.data.events.recordings import EventDataset
from spikewise.data.files import PathArray

SIZE = (6, 9)


def read(path):
    """A recording in a format of this test's own."""
    raw = np.fromfile(path, dtype=np.int64).reshape(-1, 4)
    return as_events(*raw.T, SIZE)


def write(path, n, seed=0):
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.sort(rng.integers(0, 10**6, n)), *(rng.integers(0, top, n) for top in (9, 6, 2))
    path.write_bytes(np.stack(columns, axis=1).astype(np.int64).tobytes())


def a_set(folder, cache=None, split_by="count", T=3, reader=read):
    names = ["a/0.rec", "a/1.rec", "b/0.rec"]
    for k, name in enumerate(names):
        if not (folder / name).exists():
            write(folder / name, 50 * (k + 1), k)
    return EventDataset(
        "set", PathArray(folder, names), np.array([0, 0, 1]), ("a", "b"), T, reader, split_by=split_by, cache=cache
    )


def test_files_are_a_sequence_of_paths_in_two_arrays(tmp_path):
    names = ["train/a/1.bin", "train/ä/2 3.bin", "x"]
    files = PathArray(tmp_path, [names[0], tmp_path / names[1], names[2]])
    paths = [tmp_path / name for name in names]
    assert (list(files), files[-1], files[1:]) == (paths, paths[-1], paths[1:])
    assert [files.name(k) for k in range(3)] == names
    assert list(pickle.loads(pickle.dumps(files))) == list(files)
    assert list(PathArray(tmp_path, [])) == []
    with pytest.raises(IndexError):
        files[3]
    refuse("is not in the subpath", PathArray, tmp_path / "data", [tmp_path / "elsewhere"])


@pytest.mark.parametrize("split_by", FRAME_BINNERS)
@pytest.mark.parametrize("kept", [False, True])
def test_a_sample_is_the_frames_of_its_recording(split_by, kept, tmp_path):
    data = a_set(tmp_path, tmp_path / "kept" if kept else None, split_by)
    for index in (2, 0, 2):
        sample = data.sample(index)
        assert sample.dtype == np.float32
        assert np.array_equal(sample, FRAME_BINNERS[split_by](read(data.files[index]), 3))
        assert data.frames(index).dtype == np.uint8
    assert np.array_equal(pickle.loads(pickle.dumps(data)).sample(1), data.sample(1))


def test_kept_frames_are_read_instead_of_the_recording(tmp_path):
    first = [a_set(tmp_path, tmp_path / "kept").sample(i) for i in range(3)]

    def fail(path):
        raise AssertionError(f"{path} was read again")

    again = a_set(tmp_path, tmp_path / "kept", reader=fail)
    assert all(np.array_equal(again.sample(i), first[i]) for i in range(3))
    assert sorted(p.relative_to(tmp_path / "kept").as_posix() for p in (tmp_path / "kept").rglob("*") if p.is_file()) == [
        "3-count/a/0.rec.npy",
        "3-count/a/1.rec.npy",
        "3-count/b/0.rec.npy",
    ]
    refuse("was read again", a_set(tmp_path, tmp_path / "kept", T=4, reader=fail).sample, 0, kind=AssertionError)
    refuse(
        "was read again", a_set(tmp_path, tmp_path / "kept", split_by="duration", reader=fail).sample, 0, kind=AssertionError
    )


def test_kept_frames_of_a_changed_recording_are_made_anew(tmp_path):
    data = a_set(tmp_path, tmp_path / "kept")
    data.sample(0)
    write(data.files[0], 70, seed=9)
    assert data.sample(0).sum() == 70
    about = data.files[0].stat()
    write(data.files[0], 70, seed=10)  # the same size, at another time
    os.utime(data.files[0], ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert np.array_equal(data.sample(0), a_set(tmp_path).sample(0))


@pytest.mark.parametrize("cut", [0, 5, 90, 200, -1], ids=str)
def test_damaged_frames_are_made_anew(cut, tmp_path):
    data = a_set(tmp_path, tmp_path / "kept")
    want = data.sample(1)
    file = tmp_path / "kept" / "3-count" / "a" / "1.rec.npy"
    file.write_bytes(file.read_bytes()[:cut])
    assert np.array_equal(data.sample(1), want)
    assert np.array_equal(data.sample(1), want)


@pytest.mark.parametrize(("most", "kind"), [(255, np.uint8), (256, np.uint16), (65536, np.uint32)])
def test_frames_are_kept_in_the_smallest_type_that_holds_them(most, kind, tmp_path):
    same_place = as_events(*np.zeros((4, most), int), SIZE)
    data = a_set(tmp_path, tmp_path / "kept", T=1, reader=lambda _path: same_place)
    for frames in (data.frames(0), data.frames(0)):  # made, and read
        assert (frames.dtype, frames.max()) == (kind, most)


def test_a_process_killed_while_it_keeps_frames_leaves_none_that_look_whole(tmp_path):
    a_set(tmp_path)
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import pathlib, test_recordings as t
pathlib.Path.replace = lambda *a: os._exit(9)
t.a_set(pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(tmp_path / "kept")!r})).sample(0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    data = a_set(tmp_path, tmp_path / "kept")
    assert not (tmp_path / "kept" / "3-count" / "a" / "0.rec.npy").exists()
    assert np.array_equal(data.sample(0), a_set(tmp_path).sample(0))
    assert (tmp_path / "kept" / "3-count" / "a" / "0.rec.npy").exists()


def test_frames_that_cannot_be_kept_say_what_to_do(tmp_path):
    (tmp_path / "kept").write_text("a file, where a folder should be")
    refuse(
        r"frames can't be cached as .*; make room, or set data.cache to False",
        a_set(tmp_path, tmp_path / "kept").sample,
        0,
        kind=OSError,
    )


def test_errors_name_the_recording(tmp_path):
    write(tmp_path / "a" / "0.rec", 5)
    raw = np.fromfile(tmp_path / "a" / "0.rec", dtype=np.int64)
    raw[4 * 2 + 1] = 9
    (tmp_path / "a" / "0.rec").write_bytes(raw.tobytes())
    refuse(r"a/0.rec: event 2 lies at x=9", a_set(tmp_path).sample, 0)


def test_what_does_not_fit_together_is_refused(tmp_path):
    make = partial(EventDataset, "set", PathArray(tmp_path, ["a", "b"]), class_names=("a",), T=3, read=read)
    refuse("set: 2 recordings and 3 labels do not match", make, labels=np.zeros(3))
    refuse("split_by='time' is unknown; use count or duration", make, labels=np.zeros(2), split_by="time")
