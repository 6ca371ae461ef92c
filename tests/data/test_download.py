"""Downloads: checked, resumed, unpacked beside themselves."""

import hashlib

import pytest
from checks import refuse
from serving import serve, write_tar

from spikewise import progress
from spikewise.data import DATASETS
from spikewise.data.dataset import DatasetEntry
from spikewise.data.fetch.download import download, unpack_beside

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server():
    with serve({"file.bin": CONTENT}) as server:
        yield server


@pytest.fixture
def fetch(monkeypatch, tmp_path):
    def fetch(address, log=None):
        downloads = {"file.bin": (address, hashlib.md5(CONTENT).hexdigest())}
        monkeypatch.setitem(DATASETS, "set", DatasetEntry(None, "a set", downloads=downloads))
        return download("set", tmp_path, log)

    return fetch


def test_a_file_is_fetched_once(server, fetch, tmp_path):
    (file,) = fetch(f"{server.url}/file.bin")
    assert file.read_bytes() == CONTENT
    fetch(f"{server.url}/file.bin")
    assert len(server.requested) == 1


def test_a_download_that_broke_off_is_continued(server, fetch, tmp_path):
    server.cuts = 1
    refuse(r"broke off at .* of .* bytes; try again to resume from there", fetch, f"{server.url}/file.bin", kind=OSError)
    assert not (tmp_path / "set" / "file.bin").exists()
    have = (tmp_path / "set" / "file.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)
    (file,) = fetch(f"{server.url}/file.bin")
    assert file.read_bytes() == CONTENT
    assert server.requested[-1] == f"bytes={have}-"


def test_a_download_says_each_minute_how_much_has_arrived(server, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    server.cuts = 1
    said = []
    refuse("broke off", fetch, f"{server.url}/file.bin", said.append, kind=OSError)
    fetch(f"{server.url}/file.bin", said.append)
    assert said[-1].startswith(f"{server.url}/file.bin: 1.0 MB of 1.0 MB")
    assert len(said) >= len(CONTENT) / 2**18


def test_a_wrong_checksum_is_refused_and_leaves_nothing_that_looks_whole(server, fetch, tmp_path):
    server.files["file.bin"] = CONTENT[::-1]
    refuse("hash", fetch, f"{server.url}/file.bin")
    assert not (tmp_path / "set" / "file.bin").exists()
    server.files["file.bin"] = CONTENT
    (file,) = fetch(f"{server.url}/file.bin")
    assert file.read_bytes() == CONTENT


def test_a_source_that_cannot_be_reached_is_named(server, fetch, tmp_path):
    refuse(r"answers 404 .*; download it by hand into", fetch, f"{server.url}/gone", kind=OSError)
    refuse(r"can't be reached .*; download it by hand into", fetch, "http://127.0.0.1:9/file.bin", kind=OSError)
    refuse("no public source is known for 'imagenet'; known: fashion-mnist", download, "imagenet", tmp_path)


def test_every_source_has_a_checksum():
    for entry in DATASETS.values():
        for address, md5 in (entry.downloads or {}).values():
            assert address.startswith("http")
            assert len(bytes.fromhex(md5)) == 16


def test_an_archive_is_unpacked_beside_itself_and_nowhere_else(tmp_path):
    inside = write_tar(tmp_path / "a.tar.gz", ("cifar-10-batches-bin/test_batch.bin", b"x"))
    assert (unpack_beside(inside) / "test_batch.bin").read_bytes() == b"x"
    (tmp_path / "b").mkdir()
    for name in ("../evil.bin", "a/../../evil.bin"):
        refuse("can't be unpacked", unpack_beside, write_tar(tmp_path / "b" / "b.tar.gz", ("a/good.bin", b"x"), (name, b"x")))
    unpack_beside(write_tar(tmp_path / "b" / "b.tar.gz", ("a/good.bin", b"x"), (f"{tmp_path}/evil.bin", b"x")))
    assert not (tmp_path / "evil.bin").exists()
