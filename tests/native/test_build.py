"""The C library: compiled once, into a folder of the user's own, or found in the wheel."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spikewise.native import build
from spikewise.native.build import NativeUnavailable, cache_folder, library_path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the build is tried on Linux")


def have_compiler():
    try:
        return bool(build.find_compiler())
    except NativeUnavailable:
        return False


needs_compiler = pytest.mark.skipif(not have_compiler(), reason="no C compiler here")
builds_its_kernels = pytest.mark.skipif(build.PREBUILT.is_dir(), reason="this tree has compiled kernels in it")


def doctor(**environment):
    """What `spikewise doctor` says in a process with this environment."""
    clean = {name: value for name, value in os.environ.items() if name not in ("SPIKEWISE_CACHE", "XDG_CACHE_HOME")}
    run = subprocess.run(
        [sys.executable, "-m", "spikewise", "doctor", "--json"],
        env=clean | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder to compile into, and nothing compiled before."""
    monkeypatch.setenv("SPIKEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "PREBUILT", tmp_path / "none")
    return tmp_path / "cache"


@needs_compiler
def test_it_is_compiled_once_into_a_private_folder(cache):
    path = library_path("generic")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    before = path.stat().st_mtime_ns
    assert library_path("generic") == path
    assert path.stat().st_mtime_ns == before
    assert sorted(entry.name for entry in cache.iterdir()) == sorted(["lock", path.name])


@needs_compiler
def test_its_name_depends_on_sources_flags_and_compiler(cache, tmp_path, monkeypatch):
    first = build.source_hash("generic")
    assert build.source_hash("avx2") != first
    monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-g"])
    assert build.source_hash("generic") != first
    monkeypatch.undo()
    monkeypatch.setattr(build, "SOURCES", tmp_path / "sources")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "kernels.c").write_text("int changed;")
    assert build.source_hash("generic") != first


@needs_compiler
def test_many_at_once_compile_once(cache, monkeypatch):
    calls, real = [], build.compile_variant
    monkeypatch.setattr(build, "compile_variant", lambda *args: (calls.append(args), real(*args)))
    threads = [threading.Thread(target=library_path, args=("generic",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    (tmp_path / "own").mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "own")
    for folder in (shared, link):
        monkeypatch.setenv("SPIKEWISE_CACHE", str(folder))
        message = rf"no folder that is writable by you alone among .*{folder.name}; set \$SPIKEWISE_CACHE"
        with pytest.raises(NativeUnavailable, match=message):
            cache_folder()


def test_without_a_writable_home_a_temporary_folder_serves(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("no folder can be made in here")
    monkeypatch.delenv("SPIKEWISE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(build.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_folder() == tmp_path / f"spikewise-{os.getuid()}"


@builds_its_kernels
def test_without_a_compiler_the_reference_runs_and_doctor_says_why(tmp_path):
    found = doctor(SPIKEWISE_CACHE=tmp_path, PATH=tmp_path)
    assert found["kernels in use"] == "reference"
    assert found["backend cpu"] == "the kernels 'cpu' cannot run: no C compiler (cc, gcc, clang) was found, and $CC names none"
    found = doctor(SPIKEWISE_CACHE=tmp_path, CC="false")
    assert "false could not compile the kernels" in found["backend cpu"]
    assert not list(tmp_path.glob("*.so*"))


@builds_its_kernels
@pytest.mark.parametrize("cc", [" ", '"gcc'])
def test_a_compiler_that_is_no_command_is_no_crash(cc, tmp_path):
    assert doctor(SPIKEWISE_CACHE=tmp_path, CC=cc)["kernels in use"].startswith(
        "cpu" if cc == " " and have_compiler() else "ref"
    )


@builds_its_kernels
@needs_compiler
def test_a_lock_that_cannot_be_taken_is_no_crash(tmp_path):
    (tmp_path / "lock").mkdir()
    tmp_path.chmod(0o700)
    assert "could not be compiled" in doctor(SPIKEWISE_CACHE=tmp_path)["backend cpu"]


@needs_compiler
def test_doctor_says_which_kernels_run_and_a_variant_can_be_named(tmp_path):
    found = doctor(SPIKEWISE_CACHE=tmp_path, SPIKEWISE_CPU_VARIANT="generic")
    assert found["kernels in use"] == "cpu generic"
    assert Path(found["kernel library"]).is_file()
    assert "omp" in found["openmp"]
    found = doctor(SPIKEWISE_CACHE=tmp_path, SPIKEWISE_CPU_VARIANT="avx1024")
    assert found["backend cpu"].startswith(
        "the kernels 'cpu' cannot run: SPIKEWISE_CPU_VARIANT='avx1024' is none of this CPU's"
    )


@needs_compiler
def test_a_wheel_brings_its_kernels(tmp_path):
    """Installed where there is neither a compiler nor a folder to write to."""
    root = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(root)]
    subprocess.run(wheel, check=True, capture_output=True, cwd=tmp_path)
    (built,) = tmp_path.glob("*.whl")
    assert built.name.endswith(("linux_x86_64.whl", "linux_aarch64.whl"))
    assert "-py3-none-" in built.name
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(built)], check=True, capture_output=True
    )
    found = doctor(PYTHONPATH=tmp_path / "site", SPIKEWISE_CACHE="/proc/none", CC="false")
    assert found["kernels in use"].startswith("cpu ")
    assert found["kernel library"].startswith(str(tmp_path / "site"))
    assert not (root / "src" / "spikewise" / "native" / "lib").exists()
