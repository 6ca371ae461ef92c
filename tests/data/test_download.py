import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from spikewise.data import DATASETS
from spikewise.data.dataset import DatasetEntry
from spikewise.data.fetch.download import download, unpack_beside

CONTENT = bytes(range(256)) * 4000


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; the first `cuts` answers break off in the middle."""

    cuts = 0
    ranges: ClassVar[list] = []
    content = CONTENT

    def do_GET(self):
        if self.path != "/file.bin":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        type(self).ranges.append(asked)
        start = int(asked[6:-1]) if asked else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if type(self).cuts:
            type(self).cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.cuts, Server.ranges, Server.content = 0, [], CONTENT
    http = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/file.bin"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def fetch(monkeypatch, tmp_path):
    def fetch(address):
        downloads = {"file.bin": (address, hashlib.md5(CONTENT).hexdigest())}
        monkeypatch.setitem(DATASETS, "set", DatasetEntry(None, "a set", downloads=downloads))
        return download("set", tmp_path)

    return fetch


def test_a_file_is_fetched_once(server, fetch, tmp_path):
    (file,) = fetch(server)
    assert file.read_bytes() == CONTENT
    fetch(server)
    assert len(Server.ranges) == 1


def test_a_download_that_broke_off_is_continued(server, fetch, tmp_path):
    Server.cuts = 1
    with pytest.raises(OSError, match=r"broke off at .* of .* bytes; try again to resume from there"):
        fetch(server)
    assert not (tmp_path / "set" / "file.bin").exists()
    have = (tmp_path / "set" / "file.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)
    (file,) = fetch(server)
    assert file.read_bytes() == CONTENT
    assert Server.ranges[-1] == f"bytes={have}-"


def test_a_wrong_checksum_is_refused_and_leaves_nothing_that_looks_whole(server, fetch, tmp_path):
    Server.content = CONTENT[::-1]
    with pytest.raises(ValueError, match="hash"):
        fetch(server)
    assert not (tmp_path / "set" / "file.bin").exists()
    Server.content = CONTENT
    (file,) = fetch(server)
    assert file.read_bytes() == CONTENT


def test_a_source_that_cannot_be_reached_is_named(server, fetch, tmp_path):
    with pytest.raises(OSError, match=r"answers 404 .*; download it by hand into"):
        fetch(server.replace("file.bin", "gone"))
    with pytest.raises(OSError, match=r"can't be reached .*; download it by hand into"):
        fetch("http://127.0.0.1:9/file.bin")
    with pytest.raises(ValueError, match="no public source is known for 'imagenet'; known: fashion-mnist"):
        download("imagenet", tmp_path)


def test_every_source_has_a_checksum():
    for entry in DATASETS.values():
        for address, md5 in (entry.downloads or {}).values():
            assert address.startswith("http")
            assert len(bytes.fromhex(md5)) == 16


def archive(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_is_unpacked_beside_itself_and_nowhere_else(tmp_path):
    inside = archive(tmp_path / "a.tar.gz", ("cifar-10-batches-bin/test_batch.bin", b"x"))
    assert (unpack_beside(inside) / "test_batch.bin").read_bytes() == b"x"
    (tmp_path / "b").mkdir()
    for name in ("../evil.bin", "a/../../evil.bin"):
        with pytest.raises(ValueError, match="can't be unpacked"):
            unpack_beside(archive(tmp_path / "b" / "b.tar.gz", ("a/good.bin", b"x"), (name, b"x")))
    unpack_beside(archive(tmp_path / "b" / "b.tar.gz", ("a/good.bin", b"x"), (f"{tmp_path}/evil.bin", b"x")))
    assert not (tmp_path / "evil.bin").exists()
