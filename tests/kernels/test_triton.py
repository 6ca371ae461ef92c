"""Triton's kernels, mostly without a GPU: what they compute under Triton's interpreter, and what they are compiled to.

Triton reads TRITON_INTERPRET when it is imported, for the whole process, so both are run in processes of their own.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.torch_version import TorchVersion

from spikewise.kernels import triton
from spikewise.kernels.triton import launch

HERE = Path(__file__).parent
DEVICE_SOURCES = Path(triton.__file__).parent / "device"
TRITON = importlib.util.find_spec("triton")
PTXAS = Path(TRITON.origin).parent / "backends" / "nvidia" / "bin" / "ptxas" if TRITON and TRITON.origin else None
# Triton 3.4 has no other division that rounds to nearest; forward divides nothing, and of a gradient 1e-38 may be lost
FLUSHED = {"div.rn.ftz.f32"} if TRITON and TorchVersion(metadata.version("triton")) < "3.6" else set()
needs_triton = pytest.mark.skipif(TRITON is None, reason="Triton is not installed (pip install triton, on Linux)")
needs_ptxas = pytest.mark.skipif(PTXAS is None or not PTXAS.exists(), reason="this Triton brings no ptxas, NVIDIA's assembler")


def run(*command, **environment):
    """Another Python, with one thread, and without what this one's environment says of Triton."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    return subprocess.run(
        [sys.executable, *command],
        env=kept | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_triton
@pytest.mark.timeout(900)  # the interpreter takes some ten seconds on an idle core
@pytest.mark.parametrize("which", ["forward", "backward", "not forward and not backward"])
def test_kernels_are_the_reference_under_tritons_interpreter(which):
    done = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "triton_parity.py"), "-k", which, TRITON_INTERPRET="1"
    )
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"\d\d passed", done.stdout)
    assert "skipped" not in done.stdout


@needs_triton
@pytest.mark.timeout(900)
def test_whole_networks_learn_the_same_under_tritons_interpreter():
    done = run("-W", "ignore", str(HERE / "triton_network.py"), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 3


@needs_triton
@pytest.mark.slow  # some hundred variants of kernels are compiled
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
def test_kernels_are_the_reference_on_a_gpu():
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "600", str(HERE / "triton_parity.py"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@needs_triton
@needs_ptxas
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_and_fuse_no_product_with_a_sum(capability, tmp_path):
    done = run(str(HERE / "triton_compile.py"), str(capability), TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    sources = [file.read_text() for file in DEVICE_SOURCES.glob("*.py")]
    written = {name for source in sources for name in re.findall(r"^def (\w+_kernel)\(", source, re.M)}
    assert {kernel["kernel"] for kernel in found} == written
    for kernel in found:
        assert kernel["target"].startswith(f"sm_{capability}")
        assert kernel["cubin"] > 0
        assert not kernel["fused"], "spikes would depend on where they are computed"
        assert set(kernel["flushed"]) <= FLUSHED, "denormal numbers would be zero"
        assert not kernel["atomic"], "sums would depend on timing"
        if kernel["kernel"] in ("norm_fire_kernel", "fire_pool_kernel"):
            assert not kernel["approximate"]
        assert not kernel["spilled"], "registers went to memory"


@needs_triton
@needs_ptxas
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("steps", "dtype", "learned", "most"),
    [
        (4, "bfloat16", "fixed", {"norm_fire_kernel": 72, "norm_fire_backward_kernel": 80}),
        (4, "float32", "fixed", {"norm_fire_kernel": 64, "norm_fire_backward_kernel": 64}),
        (4, "float16", "learned", {"norm_fire_kernel": 72, "norm_fire_backward_kernel": 80}),
        (16, "bfloat16", "learned", {"norm_fire_kernel": 96, "norm_fire_backward_kernel": 255}),
    ],
)
def test_a_layers_kernels_move_vectors_of_16_bytes_and_leave_registers_for_other_programs(
    capability, steps, dtype, learned, most, tmp_path
):
    """They use registers in steps of eight: with 80 of them six programs share a multiprocessor."""
    done = run(str(HERE / "triton_compile.py"), str(capability), str(steps), dtype, learned, TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    found = {kernel["kernel"]: kernel for kernel in map(json.loads, done.stdout.splitlines())}
    assert not any(kernel["spilled"] for kernel in found.values())
    for name, registers in most.items():
        assert found[name]["registers"] <= registers, name
    half = dtype != "float32"
    for name in ("norm_fire_kernel", "norm_stats_kernel", "batch_norm_backward_kernel"):
        large = {int(size) for size, count in found[name]["loads"].items() if count >= min(steps, 2)}
        assert max(large) == 16, name
    assert {int(size) for size in found["norm_fire_kernel"]["stores"]} == {16, 1}  # outputs, bytes of planes
    if half:
        assert found["norm_fire_kernel"]["barriers"] == 0, "a byte of a bit plane is one thread's"


@needs_triton
@needs_ptxas
def test_another_batch_or_image_size_compiles_nothing(tmp_path):
    done = run(str(HERE / "triton_compile.py"), "sizes", TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    first, *more = map(int, done.stdout.split())
    assert first >= 10
    assert more == [0, 0, 0, 0]


def test_the_launchers_can_be_imported_without_triton():
    done = run(
        "-c",
        "import sys; sys.modules['triton'] = None; from spikewise.kernels.triton import launch, max_pool, norm_fire, packing",
    )
    assert done.returncode == 0, done.stderr


@needs_triton
@pytest.mark.timeout(900)
def test_a_training_step_waits_for_nothing_and_starts_few_kernels_per_layer():
    """Of PyTorch alone a step of SEW-ResNet-18 has 20 convolutions, twice that backward, 40 casts of their weights, and 80
    operations that move running statistics.
    """
    networks = ("sew_resnet18", "sew_resnet50", "sew_resnet20")  # the last one of PLIF without decay_input
    done = run("-W", "ignore", str(HERE / "triton_counts.py"), *networks, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: list(map(int, counts)) for name, *counts in map(str.split, done.stdout.splitlines())}
    assert list(found) == list(networks)
    assert all(waits == 0 for *_, waits in found.values())
    for name, layers in (("sew_resnet18", 20), ("sew_resnet50", 53)):
        ours, pytorchs, _ = found[name]
        assert ours <= 7 * layers
        assert pytorchs <= 10 * layers + 40


def test_the_gpu_that_holds_the_tensor_is_asked_not_the_current_one(monkeypatch):
    monkeypatch.setattr(launch, "is_triton_installed", lambda: True)
    monkeypatch.setattr(launch, "gpu_capability", {0: (9, 0), 1: (7, 5)}.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with FakeTensorMode():
        first, second = (torch.empty(1, device=f"cuda:{index}") for index in range(2))
    assert triton.unavailable_reason() == triton.unavailable_reason(first) == ""
    assert "this one has 7.5" in triton.unavailable_reason(second)


def test_a_reason_is_given_in_words(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(launch, "is_triton_installed", lambda: True)
    assert triton.unavailable_reason(torch.ones(1)) == "they compute on CUDA, given a tensor on cpu"
    if not torch.cuda.is_available():
        assert triton.unavailable_reason() == "PyTorch sees no CUDA device"
    monkeypatch.setattr(launch, "is_triton_installed", lambda: False)
    assert triton.unavailable_reason().startswith("Triton is not installed")
