"""Builds the CPU kernels into the wheel, every variant this kind of processor can have, where a C compiler is at hand.

`SPIKEWISE_PURE=1` leaves them out: such a wheel compiles them once at the user's, or runs on the reference.
"""

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags


class Kernels(BuildHookInterface):
    """Compiles src/spikewise/native/ into src/spikewise/native/lib/."""

    def initialize(self, version: str, build_data: dict) -> None:
        if self.target_name != "wheel" or version == "editable" or os.environ.get("SPIKEWISE_PURE"):
            return
        spec = importlib.util.spec_from_file_location("build", Path(self.root, "src/spikewise/native/build.py"))
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        try:
            compiler = build.compiler()
        except build.Unavailable as reason:
            self.app.display_warning(f"a wheel without CPU kernels: {reason}")
            return
        build.PREBUILT.mkdir(exist_ok=True)
        for old in build.PREBUILT.glob("*.so"):
            old.unlink()
        for variant in build.variants_of(platform.machine()):
            path = build.prebuilt(variant)
            build.compile_to(path, variant, compiler)
            build_data["force_include"][str(path)] = f"spikewise/native/lib/{path.name}"
        tag = next(tag for tag in sys_tags() if "manylinux" not in tag.platform and "musllinux" not in tag.platform)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag.platform}"  # no Python in it, only C

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        shutil.rmtree(Path(self.root, "src/spikewise/native/lib"), ignore_errors=True)
