"""The script for a new GPU machine runs to its end without one, and reports no speed where kernels are not right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]
HIDDEN = ("PIL", "rich", "tyro", "tensorboardX", "pooch", "fsspec", "h5py", "matplotlib", "scipy", "spikingjelly")
RUN = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
sys.argv[1:] = ["--tiny", "--out", {out!r}, "--stages", *{stages!r}]
import gpu_first
{change}
sys.exit(gpu_first.main(gpu_first.parse_options(gpu_first.Options)))
"""


def run(out, *stages, change="", hidden=()):
    code = RUN.format(out=str(out), stages=stages, change=change, hidden=hidden)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks")])
    done = subprocess.run(
        [sys.executable, "-c", code, "--tiny"],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    file = out / "gpu_first.jsonl"
    return done, [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_every_stage_runs_and_leaves_its_lines(tmp_path):
    done, lines = run(tmp_path, "")
    assert done.returncode == 0, done.stderr
    stages = ["machine", "parity", "special", "sanitizer", "sweeps", "networks", "float16", "digits"]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == stages
    assert not any("does not run" in line for line in lines)
    assert lines[-1]["training twice"] == "the same bits"


def test_no_speed_is_reported_of_kernels_that_differ(tmp_path):
    done, lines = run(tmp_path, "parity", "sweeps", change="gpu_first.bench_gpu.Layer.differences = lambda self: ['spikes']")
    assert done.returncode == 1
    assert "spikes. No speed is reported" in done.stderr
    assert not lines


def test_kernels_are_measured_where_nothing_but_pytorch_is(tmp_path):
    done, lines = run(tmp_path, "machine", "special", "networks", hidden=HIDDEN)
    assert done.returncode == 0, done.stderr
    assert {line["stage"] for line in lines} == {"machine", "special", "networks"}
    assert "PIL" in lines[-1]["not run"]
