"""Weights behind addresses: fetched once, checked, continued where they broke off."""

import hashlib
import sys
from pathlib import Path

import fsspec
import pytest
from serving import serve

import spikewise as sw
from spikewise.cli.main import main
from spikewise.data import remote
from spikewise.data.remote import fetch

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _small_chunks(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "CHUNK_BYTES", 1000)


@pytest.fixture(params=[True, False], ids=["ranges", "whole files only"])
def server(request):
    with serve({"net.pth": CONTENT}, request.param) as server:
        yield server


def parts():
    return [*remote.user_cache().glob("weights/**/part")]


def test_a_file_with_a_hash_is_fetched_once_and_then_needs_no_server(server):
    address = f"{server.url}/net.pth#sha256={DIGEST}"
    file = fetch(address)
    assert (file.name, file.read_bytes()) == ("net.pth", CONTENT)
    asked = len(server.requested)
    server.files.clear()
    assert fetch(address) == file
    assert len(server.requested) == asked
    assert not parts()


def test_a_file_without_a_hash_is_asked_for_anew_and_says_its_hash(server, caplog):
    first = fetch(f"{server.url}/net.pth")
    assert f"#sha256={DIGEST}" in caplog.text
    asked = len(server.requested)
    assert fetch(f"{server.url}/net.pth") == first
    server.files["net.pth"] = CONTENT[:-1]
    assert fetch(f"{server.url}/net.pth").read_bytes() == CONTENT[:-1]
    assert len(server.requested) > asked


@pytest.mark.parametrize("fragment", ["", f"#sha256={DIGEST}"])
def test_what_broke_off_is_continued_where_it_was(fragment):
    with serve({"net.pth": CONTENT}) as server:
        original = remote.ask

        def break_off(address, call, *args, **kwargs):
            server.cuts = int(kwargs.get("start") == 3000)  # the next answer ends half way
            return original(address, call, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remote, "ask", break_off)
            with pytest.raises(OSError, match=r"can't be read: .*; 3,000 of 10,240 bytes are there: try again to continue"):
                fetch(f"{server.url}/net.pth{fragment}")
        (part,) = parts()
        assert part.read_bytes() == CONTENT[:3000]
        server.requested.clear()
        assert fetch(f"{server.url}/net.pth{fragment}").read_bytes() == CONTENT
        assert "bytes=3000-3999" in server.requested
        assert not [wanted for wanted in server.requested if wanted and wanted.startswith("bytes=0-")]


def test_another_file_than_the_hash_says_is_refused_and_not_kept(server):
    with pytest.raises(ValueError, match=f"holds another file: its sha256 is {DIGEST}"):
        fetch(f"{server.url}/net.pth#sha256={'0' * 64}")
    assert not [path for path in remote.user_cache().glob("**/*") if path.is_file() and path.name != "lock"]


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("{url}/other.pth", OSError, "other.pth can't be read: .*404"),
        ("http://127.0.0.1:9/net.pth", OSError, "net.pth can't be read: .*[Cc]onnect"),
        ("{url}/net.pth#sha256=12", ValueError, "'sha256=12' is no hash; write #sha256= and 64 digits"),
        ("{url}/net.pth#", ValueError, "is no hash"),
        ("nowhere://net.pth", ValueError, "nowhere:// is no address that fsspec knows"),
        ("memory://absent/net.pth", OSError, "absent/net.pth can't be read: there is no such file"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(address, kind, message):
    with serve({"net.pth": CONTENT}) as server, pytest.raises(kind, match=message) as caught:
        fetch(address.format(url=server.url))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("protocol", "package", "advice"),
    [
        ("s3", "s3fs", "s3fs"),
        ("hf", "huggingface_hub", "huggingface_hub"),
        ("https", "aiohttp", r"spikewise\[remote\]"),
    ],
)
def test_a_protocol_without_its_package_names_it(protocol, package, advice, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    remote.filesystem.cache_clear()
    with pytest.raises(ValueError, match=f"{protocol}:// needs another package: .*{advice}"):
        fetch(f"{protocol}://owner/net.pth")
    remote.filesystem.cache_clear()


def test_a_folder_stands_for_its_weights_file():
    fsspec.filesystem("memory").pipe("/owner/net/model.safetensors", CONTENT)
    file = fetch("memory://owner/net", "model.safetensors")
    assert (file.name, file.read_bytes()) == ("model.safetensors", CONTENT)
    with pytest.raises(OSError, match=r"owner/other.* can't be read: there is no such file"):
        fetch("memory://owner/other", "model.safetensors")


def test_an_address_without_a_file_name_has_one_in_the_cache(server):
    server.files["?download=1"] = CONTENT
    file = fetch(f"{server.url}/?download=1#sha256={DIGEST}")
    assert (file.name, file.read_bytes()) == ("file", CONTENT)


def test_an_address_is_taken_wherever_a_file_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(remote, "CHUNK_BYTES", 2**20)
    net = sw.build_model("sew_resnet20", num_classes=10, in_channels=1, width=0.25, T=1)
    net.input_spec = sw.InputSpec("digits", "images", sw.DATASETS["digits"].load("test").class_names, (1, 8, 8))
    content = sw.save_pretrained(net, tmp_path / "net").read_bytes()
    with serve({"net": content}) as server:
        address = f"{server.url}/net#sha256={hashlib.sha256(content).hexdigest()}"
        assert sw.load_pretrained(address).spec["name"] == "sew_resnet20"
        server.files.clear()
        assert main(["evaluate", address]) == 0
        assert capsys.readouterr().out.startswith(f"{address}: test accuracy")
        options = ["--optim.epochs", "1", "--data.train-samples", "64", "--quiet", "--out", str(tmp_path / "run")]
        assert main(["train", "digits", "--weights", address, *options]) == 0
        assert main(["convert", f"{server.url}/absent", str(tmp_path / "mine")]) == 2
        assert "can't be read: 404" in capsys.readouterr().err


def test_the_cache_is_where_the_user_says(monkeypatch):
    monkeypatch.delenv("SPIKEWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert remote.user_cache() == Path("/somewhere/spikewise")
