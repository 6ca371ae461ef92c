"""Builds the CPU kernels into the wheel, every variant this kind of processor can have, where a C compiler is at hand.

`SPIKEWISE_PURE=1` leaves them out: such a wheel compiles them once at the user's, or runs on the reference.
"""

import importlib.util
import os
import platform
import shutil
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags


class Kernels(BuildHookInterface):
    """Compiles src/spikewise/native/ for the wheel's folder spikewise/native/lib/."""

    folder = ""

    def initialize(self, version: str, build_data: dict) -> None:
        if self.target_name != "wheel" or version == "editable" or os.environ.get("SPIKEWISE_PURE"):
            return
        spec = importlib.util.spec_from_file_location("build", Path(self.root, "src/spikewise/native/build.py"))
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        try:
            compiler = build.find_compiler()
        except build.NativeUnavailable as reason:
            self.app.display_warning(f"a wheel without CPU kernels: {reason}")
            return
        self.folder = tempfile.mkdtemp()  # not into the sources, which another process may be using
        for variant in build.variants_for(platform.machine()):
            path = Path(self.folder, build.prebuilt_path(variant).name)
            build.compile_variant(path, variant, compiler)
            build_data["force_include"][str(path)] = f"spikewise/native/lib/{path.name}"
        tag = next(tag for tag in sys_tags() if "manylinux" not in tag.platform and "musllinux" not in tag.platform)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag.platform}"  # no Python in it, only C

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
