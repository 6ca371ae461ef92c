"""Compile the C sources: once, into a private folder; or into the wheel."""

import contextlib
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
PREBUILT = SOURCES / "lib"  # filled when a wheel is built (hatch_build.py)

# No contraction to fused multiply-add: forward, backward and the reference must round alike (docs/decisions.md)
FLAGS = [
    *("-std=gnu11", "-O2", "-fPIC", "-shared", "-Wall", "-Wno-psabi"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
]
VARIANTS = {
    "avx512_bf16": ["-march=x86-64-v4", "-mavx512bf16", "-mprefer-vector-width=512"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
    "generic": [],
}


class NativeUnavailable(RuntimeError):
    """The library cannot be had here; the message says why."""


def variants_for(machine: str) -> list[str]:
    """The variants that make sense on a kind of machine (`platform.machine()`), the fastest first."""
    return list(VARIANTS) if machine in ("x86_64", "AMD64") else ["generic"]


def source_hash(variant: str) -> str:
    """What the compiled library depends on, but for the compiler: sources and flags."""
    digest = hashlib.blake2b(repr((FLAGS, VARIANTS[variant], platform.system(), platform.machine())).encode(), digest_size=8)
    for path in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h"), *SOURCES.glob("*.inc")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def prebuilt_path(variant: str) -> Path:
    """Where a wheel has the library; its name tells whether it was built from these sources."""
    return PREBUILT / f"kernels-{variant}-{source_hash(variant)}.so"


def find_compiler() -> list[str]:
    """The C compiler of $CC, or the first of cc, gcc, clang.

    Raises:  Unavailable
    """
    if named := os.environ.get("CC", "").strip():
        try:
            return shlex.split(named)
        except ValueError as error:
            raise NativeUnavailable(f"CC={named!r} is no command: {error}") from None
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise NativeUnavailable("no C compiler (cc, gcc, clang) was found, and $CC names none")


def compile_variant(target: Path, variant: str, cc: list[str]) -> None:
    """Compile one variant; the file appears whole or not at all.

    Raises:  Unavailable with the compiler's first complaint
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [*cc, *FLAGS, *VARIANTS[variant], str(SOURCES / "kernels.c"), "-o", str(beside)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
            raise NativeUnavailable(f"{' '.join(cc)} could not compile the kernels: {complaint}")
        beside.replace(target)
    except OSError as error:
        raise NativeUnavailable(f"the kernels could not be compiled: {error}") from None
    finally:
        beside.unlink(missing_ok=True)


def library_path(variant: str) -> Path:
    """The compiled library: the wheel's, or the one in the private folder, compiled now if need be.

    Raises:  Unavailable
    """
    if prebuilt_path(variant).is_file():
        return prebuilt_path(variant)
    cc = find_compiler()
    version = subprocess.run([*cc, "--version"], capture_output=True, check=False).stdout if shutil.which(cc[0]) else b""
    name = hashlib.blake2b(repr((cc, version)).encode(), digest_size=4).hexdigest()
    folder = cache_folder()
    path = folder / f"kernels-{variant}-{source_hash(variant)}-{name}.so"
    if not path.is_file():
        try:
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise NativeUnavailable(f"the kernels could not be compiled: {error}") from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                compile_variant(path, variant, cc)
    return path


def cache_folder() -> Path:
    """A folder that only this user can write to: $SPIKEWISE_CACHE, or the user's cache, or, were that read-only, /tmp.

    Raises:  Unavailable
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  Path.expanduser raises without a home
    places = [Path(home, "spikewise"), Path(tempfile.gettempdir(), f"spikewise-{os.getuid()}")]
    if named := os.environ.get("SPIKEWISE_CACHE"):
        places = [Path(named)]
    for place in places:
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = place.lstat()
            private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
            if private and os.access(place, os.W_OK):
                return place
    raise NativeUnavailable(
        f"no folder that is writable by you alone among {', '.join(map(str, places))}; set $SPIKEWISE_CACHE to one"
    )
