"""Files of data sets: right when they are right, a sentence when they are not."""

import functools
import gzip
import struct

import numpy as np
import pytest
from checks import REAL, needs_real_data, refuse, require_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import nmnist_folders

from spikewise.data.datasets.cifar import cifar10, cifar100
from spikewise.data.datasets.digits import digits
from spikewise.data.datasets.fashion_mnist import fashion_mnist
from spikewise.data.datasets.nmnist import nmnist
from spikewise.data.events import read_events
from spikewise.data.images.idx import read_idx


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def atis(t, x, y, polarity):
    """An encoder of N-MNIST's five bytes, written from its description."""
    return b"".join(
        bytes([a, b, (p << 7) | (time >> 16), (time >> 8) & 255, time & 255])
        for time, a, b, p in zip(t, x, y, polarity, strict=True)
    )


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 28, 28)], ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_packed_or_not(shape, packed, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (tmp_path / ("a.gz" if packed else "a")).write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    assert np.array_equal(read_idx(tmp_path / "a"), array)


read_atis = functools.partial(read_events, format="atis", size=(34, 34))
WHOLE = idx(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no idx file of unsigned bytes: it begins with nothing"),
        (b"PK\x03\x04", "is no idx file of unsigned bytes: it begins with 50 4b 03 04"),
        (WHOLE[:-1], r"holds 59 of the 60 bytes that its header promises; download it again"),
        (WHOLE + b"x", r"holds more of the 60 bytes that its header promises"),
        (WHOLE[:9], r"ends within its header, after 9 bytes; download it again"),
        (gzip.compress(WHOLE)[:-9], "is damaged: .*download it again"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "holds 0 of the"),
    ],
    ids=["empty", "zip", "short", "long", "cut_header", "cut_gzip", "huge_promise"],
)
def test_damaged_idx_files_are_refused_in_words(content, message, tmp_path):
    (tmp_path / "a").write_bytes(content)
    refuse(message, read_idx, tmp_path / "a")


def test_the_digits_are_whole():
    train, test = digits("train"), digits("test")
    assert (train.images.shape, test.images.shape) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    everything = np.concatenate([train.images, test.images])
    assert (everything.min(), everything.max(), everything.sum(dtype=np.int64)) == (0, 16, 561718)  # as published
    sample = test.sample(0)
    assert sample.dtype == np.float32
    assert 0 <= sample.min() <= sample.max() <= 1


def test_the_split_is_stratified_and_has_no_image_twice():
    train, test = digits("train"), digits("test")
    in_test, in_train = np.bincount(test.labels), np.bincount(train.labels)
    assert in_test / (in_test + in_train) == pytest.approx(np.full(10, 0.2), abs=0.01)
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def write_fashion(folder, images=(10, 28, 28), labels=10, label=3):
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(np.full(images, 7, dtype=np.uint8)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.full(labels, label, dtype=np.uint8)))


def test_fashion_mnist_is_found_in_its_folder_or_under_its_name(tmp_path, monkeypatch):
    write_fashion(tmp_path / "fashion-mnist")
    for root in (tmp_path, tmp_path / "fashion-mnist"):
        assert len(fashion_mnist("test", root)) == 10
    monkeypatch.setenv("SPIKEWISE_DATA", str(tmp_path))
    assert fashion_mnist("train").sample(0).max() == np.float32(7 / 255)


def test_fashion_mnist_that_is_missing_or_wrong_is_refused_in_words(tmp_path):
    refuse(
        r"no fashion-mnist data: .* get it with `spikewise data download fashion-mnist`",
        fashion_mnist,
        "train",
        tmp_path,
        kind=FileNotFoundError,
    )
    write_fashion(tmp_path / "few", labels=9)
    refuse(r"train images \[10, 28, 28\] and labels \[9\] do not match", fashion_mnist, "train", tmp_path / "few")
    write_fashion(tmp_path / "eleven", label=10)
    refuse("label 10 of sample 0 is out of range; there are 10 classes", fashion_mnist, "train", tmp_path / "eleven")
    refuse("has no split 'val'; use 'train' or 'test'", fashion_mnist, "val", tmp_path)


def cifar_rows(number, label_bytes, label):
    rows = np.random.default_rng(1).integers(0, 256, (number, label_bytes + 3072)).astype(np.uint8)
    rows[:, label_bytes - 1] = label
    return rows


def test_cifar_is_read_from_its_binary_version(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rows = cifar_rows(4, 1, 6)
    for name in [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]:
        (folder / name).write_bytes(rows.tobytes())
    train, test = cifar10("train", tmp_path), cifar10("test", folder)
    assert (len(train), len(test)) == (20, 4)
    assert np.array_equal(test.images[2], rows[2, 1:].reshape(3, 32, 32))
    assert set(test.labels) == {6}
    (folder / "data_batch_3.bin").unlink()
    refuse(
        r"data_batch_3.bin; the binary version of cifar10 has data_batch_1.bin",
        cifar10,
        "train",
        tmp_path,
        kind=FileNotFoundError,
    )
    (folder / "test_batch.bin").write_bytes(rows.tobytes()[:-5])
    refuse(r"holds 12,287 bytes, no multiple of 3,073: it was cut after byte 9,219", cifar10, "test", tmp_path)
    (folder / "test_batch.bin").write_bytes(cifar_rows(4, 1, 11).tobytes())
    refuse("label 11 of sample 0 is out of range", cifar10, "test", tmp_path)


def test_cifar_100_takes_the_fine_label(tmp_path):
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(cifar_rows(3, 2, 77).tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"class{k}" for k in range(100)))
    data = cifar100("test", tmp_path)
    assert (set(data.labels), data.class_names[77]) == ({77}, "class77")


@given(
    st.lists(
        st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 33), st.integers(0, 33), st.integers(0, 1)), min_size=1, max_size=60
    )
)
@settings(max_examples=60, deadline=None)
def test_atis_files_decode_to_what_was_encoded(tmp_path_factory, events):
    file = tmp_path_factory.mktemp("atis") / "a.bin"
    columns = list(zip(*sorted(events, key=lambda event: event[0]), strict=True))  # readers sort
    file.write_bytes(atis(*columns))
    require_equal(read_atis(file), *columns)


def test_an_overflow_mark_moves_all_later_times(tmp_path):
    (tmp_path / "a.bin").write_bytes(atis([5, 0, 7, 0, 9], [1, 0, 2, 0, 3], [1, 240, 2, 240, 3], [0, 0, 1, 0, 0]))
    require_equal(read_atis(tmp_path / "a.bin"), [5, 8199, 16393], [1, 2, 3], [1, 2, 3], [0, 1, 0])


def test_damaged_recordings_are_refused_in_words(tmp_path):
    (tmp_path / "cut.bin").write_bytes(b"1234567")
    refuse(r"was cut: the event at byte 5 has 2 of 5 bytes", read_atis, tmp_path / "cut.bin")
    (tmp_path / "far.bin").write_bytes(atis([1, 2], [3, 34], [3, 3], [0, 1]))
    refuse("event 1 lies at x=34, y=3, outside the sensor of 34 x 34 pixels", read_atis, tmp_path / "far.bin")


def test_nmnist_has_its_published_split_and_folds(tmp_path):
    nmnist_folders(tmp_path / "N-MNIST", (5, 2))
    train, test = nmnist("train", tmp_path, T=2), nmnist("test", tmp_path, T=2)
    assert (len(train), len(test)) == (50, 20)
    assert train.sample(7).shape == (2, 2, 34, 34)
    assert sorted(set(train.labels)) == list(range(10))
    seen = []
    for fold in range(5):
        held_out, rest = (nmnist(split, tmp_path, fold=fold) for split in ("test", "train"))
        assert set(held_out.files).isdisjoint(rest.files)
        assert len(held_out) + len(rest) == 70
        seen += held_out.files
    assert len(set(seen)) == 70


def test_nmnist_that_is_missing_or_empty_is_refused_in_words(tmp_path):
    refuse(
        r"no nmnist data: Train is neither in .* unpack N-MNIST's Train.zip", nmnist, "train", tmp_path, kind=FileNotFoundError
    )
    nmnist_folders(tmp_path, (1, 1))
    for file in (tmp_path / "Train" / "4").iterdir():
        file.unlink()
    refuse(r"4 holds no .bin file", nmnist, "train", tmp_path)
    (tmp_path / "Train" / "4").rmdir()
    refuse(r"no folder .*4; N-MNIST has the folders 0 to 9", nmnist, "train", tmp_path, kind=FileNotFoundError)


@needs_real_data
def test_real_recordings_decode_whole():
    train, test = nmnist("train", REAL), nmnist("test", REAL)
    assert (len(train), len(test)) == (1000, 100)
    counts = [len(read_atis(file)) for file in [*train.files, *test.files]]
    assert (min(counts), max(counts)) == (1069, 7152)
    assert (np.diff(read_atis(REAL / "event_files" / "tonic" / "sample_nmnist.bin").t) >= 0).all()


@needs_real_data
def test_real_fashion_mnist_has_its_published_mean_and_deviation():
    train, test = fashion_mnist("train", REAL), fashion_mnist("test", REAL)
    assert (len(train), len(test)) == (60000, 10000)
    pixels = train.images.astype(np.float32) / 255
    assert (float(pixels.mean()), float(pixels.std())) == pytest.approx((0.28604, 0.35302), abs=1e-5)
