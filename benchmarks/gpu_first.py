"""The first ten minutes on a bare GPU machine: is everything right, how fast is it, and which settings are best?

    PYTHONPATH=src python benchmarks/gpu_first.py [--out FOLDER]

Needs PyTorch, Triton, NumPy and safetensors, and Pillow for whole networks; pytest, compute-sanitizer and SpikingJelly are used
where they are. Stages follow one another, and each writes its lines into OUT/gpu_first.jsonl as it goes. Where kernels differ
from the reference no speed is reported. `--tiny` runs every stage without a GPU, under Triton's interpreter, on a few numbers:
a check of this script alone.
"""

import gc
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if "--tiny" in sys.argv:  # before Triton is imported
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "kernels"))
    import interpreter  # noqa: F401  mends the one of older versions of Triton

import bench_gpu
import torch
from runner import parse_options, take_turns, where
from torch import Tensor

from spikewise.kernels.triton import launch, norm_fire

try:
    from spikewise.config import Config, Data, Memory, Model, Optim
    from spikewise.data import PlaceholderDataset, find_dataset
    from spikewise.engine.build import load_data
    from spikewise.engine.deferred import DeferredTrainState, begin_training
    from spikewise.engine.loader import TrainingBatches, to_device

    MISSING = ""
except ImportError as error:  # the kernels can be measured without what training needs
    MISSING = str(error)

ROOT = Path(__file__).resolve().parents[1]
TINY = "--tiny" in sys.argv
DEVICE = torch.device("cpu" if TINY else "cuda")
Line = dict[str, Any]


@dataclass
class Options:
    """Where results go, and how much is done."""

    out: str = str(ROOT / "benchmarks" / "results")
    minutes: float = 10.0  # no stage begins later
    stages: tuple[str, ...] = ("",)  # by name; "": all
    case: str = ""  # run one case of the sanitizer's, and nothing else
    tiny: bool = False  # without a GPU


class Red(Exception):
    """Something is not as the reference has it: no speed is reported."""


# What is there ------------------------------------------------------------


def machine(_: Options) -> Iterator[Line]:
    """Versions, and what memory and matrix units reach: all speeds below are shares of these."""
    import triton

    line: Line = {"triton": triton.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if not TINY:
        properties = torch.cuda.get_device_properties(0)
        line |= {"gpu": properties.name, "GB": round(properties.total_memory / 1e9, 1), "SMs": properties.multi_processor_count}
    yield line
    n = 1 << (12 if TINY else 30)
    source, target = (torch.empty(n, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    yield {"copy_GB_per_s": round(2 * n / seconds_of(lambda: target.copy_(source)) / 1e9, 1)}
    side = 64 if TINY else 8192
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    yield {"matmul_bf16_TFLOP_per_s": round(2 * side**3 / seconds_of(lambda: a @ b) / 1e12, 1)}


def synchronize() -> None:
    if not TINY:
        torch.cuda.synchronize()


def seconds_of(step: Callable[[], Any], calls: int = 20, rounds: int = 5) -> float:
    """Seconds of one call, the best of some rounds."""
    calls, rounds = (1, 1) if TINY else (calls, rounds)
    step()
    synchronize()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            step()
        synchronize()
        found.append((time.perf_counter() - began) / calls)
    return min(found)


# Is it right? ------------------------------------------------------------


def parity(_: Options) -> Iterator[Line]:
    """Spikes, planes, statistics and gradients of the kernels against the reference; then the project's own tests of them."""
    dtypes = ("float32",) if TINY else ("float32", "float16", "bfloat16")
    for precision, T, channels in itertools.product(dtypes, (2,) if TINY else (1, 4, 16, 33), (11,) if TINY else (64, 70, 11)):
        options = bench_gpu.Options(T=T, batch=1 if TINY else 8, channels=channels, size=5 if TINY else 28, precision=precision)
        torch.manual_seed(0)
        if differences := bench_gpu.Layer(options).differences():
            raise Red(f"T={T}, {channels} channels, {precision}: {', '.join(differences)}")
        yield {"same": f"T={T}, {channels} channels, {precision}"}
    tests = ROOT / "tests" / "kernels" / "triton_parity.py"
    if TINY or shutil.which("pytest") is None or not tests.exists():
        yield {"tests": "not run: " + ("too long for the interpreter" if TINY else "pytest or tests/ is missing")}
        return
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "8", "-W", "default", "-p", "no:cacheprovider", str(tests)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    summary = done.stdout.strip().splitlines()[-1:]
    yield {"tests": summary}
    if done.returncode:
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        raise Red(f"tests/kernels/triton_parity.py: {'; '.join(failed[:10]) or summary}")


def layer(**changes: Any) -> bench_gpu.Layer:
    small = {"T": 2, "batch": 1, "channels": 8, "size": 4, "precision": "float32"} if TINY else {"precision": "bfloat16"}
    torch.manual_seed(0)
    return bench_gpu.Layer(bench_gpu.Options(**{**small, **changes}))


def special(_: Options) -> Iterator[Line]:
    """More values than 2^31, views that begin in the middle, another stream, and a recorded graph."""
    plain = layer()
    expected = plain.forward(2)
    shifted = torch.empty(plain.y.numel() + 1, dtype=plain.y.dtype, device=DEVICE)[1:]
    view = shifted.view(plain.y.permute(0, 1, 3, 4, 2).shape).permute(0, 1, 4, 2, 3).copy_(plain.y)
    got = norm_fire.norm_fire(plain.tensors._replace(y=view), plain.spec._replace(num_planes=2))
    require_equal("a misaligned view", got, expected)
    yield {"same": "a misaligned view"}
    if TINY:
        yield {"not run": "2^31 values, another stream, a recorded graph: these need a GPU"}
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = plain.forward(2)
    torch.cuda.current_stream().wait_stream(stream)
    require_equal("another stream", got, expected)
    yield {"same": "another stream"}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = plain.forward(2)
    got.out.fill_(torch.nan)
    graph.replay()
    require_equal("a recorded graph", got, expected)
    yield {"same": "a recorded graph"}
    del plain, expected, got, view, shifted
    torch.cuda.empty_cache()
    many = layer(T=4, batch=2800, channels=64, size=56)  # 2.25e9 values
    few = many.tensors._replace(y=many.y[:, -2:], shortcut=many.shortcut[:, -2:])
    require_equal("2^31 values", (many.forward().out[:, -2:],), (norm_fire.norm_fire(few, many.spec).out,))
    yield {"same": f"{many.y.numel():,} values"}


def require_equal(what: str, got: Any, expected: Any) -> None:
    synchronize()
    if not all(torch.equal(a, b) for a, b in zip(got, expected, strict=True)):
        raise Red(f"{what}: other bits than expected")


CASES = {
    "T=4": {"T": 4, "batch": 1, "channels": 64, "size": 8},
    "T=33": {"T": 33, "batch": 1, "channels": 64, "size": 4},
    "11 channels": {"T": 4, "batch": 1, "channels": 11, "size": 7},
    "pooled": {"T": 2, "batch": 2, "channels": 32, "size": 9},
}


def sanitizer(_: Options) -> Iterator[Line]:
    """NVIDIA's compute-sanitizer over four cases: memory out of bounds, and races."""
    if TINY or shutil.which("compute-sanitizer") is None:
        yield {"not run": "compute-sanitizer is not here"}
        return
    for tool, case in itertools.product(("memcheck", "racecheck"), CASES):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "3", sys.executable, __file__, "--case", case]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        yield {tool: case, "status": done.returncode}
        if done.returncode == 3:
            raise Red(f"{tool}, {case}: {next((x for x in done.stdout.splitlines() if 'ERROR' in x), '')}")


def run_case(name: str) -> None:
    one = bench_gpu.Layer(bench_gpu.Options(**CASES[name], precision="bfloat16"))
    one.pooled_backward() if name == "pooled" else one.backward(coefficients=True)
    one.forward(2)
    synchronize()


# Which settings? ------------------------------------------------------------


def sweeps(_: Options) -> Iterator[Line]:
    """Each kernel's share of the copy's bandwidth, as built and with other settings."""
    options = {} if TINY else {"batch": 256}
    yield from shares("as built", layer(**options))
    for programs in (2,) if TINY else (528, 1056, 2112):
        with setting(launch, MAX_PROGRAMS=programs):
            yield from shares(f"MAX_PROGRAMS={programs}", layer(**options), only=("norm_stats", "norm_fire_backward"))
    for size in (128,) if TINY else (128, 256, 512, 1024):
        with setting(norm_fire, backward_tile_size=lambda steps, dtype, size=size: size):
            yield from shares(f"backward tile {size}", layer(**options), only=("norm_fire_backward",))
    for T, tile in ((3, 64),) if TINY else ((16, 64), (16, 128), (16, 256)):
        with setting(norm_fire, backward_tile_size=lambda steps, dtype, size=tile: size):
            yield from shares(f"T={T}, backward tile {tile}", layer(**{**options, "T": T}), only=("norm_fire_backward",))


class setting:
    """Other values of a module's names, while open."""

    def __init__(self, module: Any, **values: Any):
        self.module, self.values = module, values

    def __enter__(self) -> None:
        self.before = {name: getattr(self.module, name) for name in self.values}
        vars(self.module).update(self.values)

    def __exit__(self, *_: object) -> None:
        vars(self.module).update(self.before)


def shares(what: str, one: bench_gpu.Layer, only: tuple[str, ...] = ()) -> Iterator[Line]:
    into = torch.empty_like(one.y)
    copy = seconds_of(lambda: into.copy_(one.y))
    for name, (step, moved) in one.kernels(bench_gpu.Options(T=len(one.y), channels=one.y.shape[2])).items():
        if not only or name in only:
            yield {"setting": what, "kernel": name, "share_of_copy": round(moved / 2 * copy / seconds_of(step), 3)}


# Whole steps ------------------------------------------------------------


def config_of(name: str, *, batch: int, precision: str = "bfloat16", packing: bool = True, capture: bool = True) -> "Config":
    data = Data(name="dvs-gesture", num_frames=2 if TINY else 16) if "7b" in name else Data(name="imagenet")
    optim = Optim(batch=batch, precision="float32" if TINY else precision, check_every=50)
    return Config(
        data=data,
        model=Model(name=name, T=4, **({"num_blocks": 1} if TINY else {})),
        optim=optim,
        memory=Memory(packing=packing, capture=capture),
    )


def state_of(config: "Config") -> "tuple[DeferredTrainState, Tensor, Tensor]":
    """A training of random samples."""
    events, batch = config.data.name != "imagenet", config.optim.batch
    side = 8 if TINY else 128 if events else 224
    data = PlaceholderDataset(
        config.data.name, find_dataset(config.data.name).info, T=config.data.num_frames * events, size=side
    )
    state = begin_training(config, data, DEVICE)
    shape = (config.data.num_frames, batch, 2, side, side) if events else (batch, 3, side, side)
    samples = to_device((torch.rand(shape) < 0.05).float() if events else torch.rand(shape), DEVICE)
    return state, samples, torch.arange(batch, device=DEVICE) % len(data.class_names)


def measured(config: "Config", *, images: int) -> Line:
    """Seconds of a step, of the host in it, and the peak of memory."""
    state, samples, labels = state_of(config)
    for _ in range(2 if TINY else 5):
        state.step(samples, labels)
    synchronize()
    peak = 0 if TINY else torch.cuda.max_memory_allocated()
    steps, began = 1 if TINY else 40, time.perf_counter()
    for _ in range(steps):
        state.unseen = 1  # no look
        state.step(samples, labels)
    host = (time.perf_counter() - began) / steps
    synchronize()
    step = (time.perf_counter() - began) / steps
    line = {"step_s": round(step, 5), "host_s": round(host, 5), "images_per_s": round(images / step, 1), "peak_bytes": peak}
    return line | {"notes": state.notes, "recorded": getattr(state, "recording", None) is not None}


def networks(_: Options) -> Iterator[Line]:
    """Training steps, called one by one and recorded, with and without packed spikes, against the ReLU twin on T times as many
    images, and SpikingJelly where it is installed.
    """
    batch = 2 if TINY else 64
    names = ("sew_7b",) if TINY else ("sew_resnet18", "sew_resnet50", "sew_7b")
    for name in names:
        images = 2 if TINY else 16 if name == "sew_7b" else batch
        for capture, packing in itertools.product((True, False), (True, False)):
            config = config_of(name, batch=images, packing=packing, capture=capture)
            yield {"network": name, "capture": capture, "packing": packing} | clean(
                lambda c=config, n=images: measured(c, images=n)
            )
        if name != "sew_7b":
            twin = config_of(name.removeprefix("sew_"), batch=batch * 4)
            yield {"network": f"{name}, ReLU twin on {4 * batch} images"} | clean(lambda c=twin: measured(c, images=batch))
            yield {"network": f"{name}, SpikingJelly"} | clean(lambda n=name: spikingjelly(int(n[10:]), batch))


def spikingjelly(depth: int, batch: int) -> Line:
    import bench_gpu_networks as peers

    step = peers.train_step(peers.triton_peer(depth, 4), peers.images(batch, 3, 224, 224), torch.arange(batch, device="cuda"))
    peak, seconds = peers.peak_of(step), take_turns({"peer": step}, 15)["peer"]
    return {"step_s": round(sorted(seconds)[len(seconds) // 2], 5), "peak_bytes": peak}


def clean(measure: Callable[[], Line]) -> Line:
    """A measurement that begins with the whole memory; what does not run is told."""
    gc.collect()
    if not TINY:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return measure()
    except (ImportError, SystemExit, RuntimeError, torch.OutOfMemoryError) as error:
        return {"does not run": (str(error).splitlines() or [type(error).__name__])[0]}


def float16(_: Options) -> Iterator[Line]:
    """The published precision, whose loss scale stays on the device, too."""
    name = "sew_7b" if TINY else "sew_resnet18"
    config = config_of(name, batch=2 if TINY else 64, precision="float16")
    yield {"network": name, "precision": "float16"} | clean(lambda: measured(config, images=config.optim.batch))


def digits(_: Options) -> Iterator[Line]:
    """A training twice, with sums in one order: the same weights to the bit?"""
    hashes = []
    for _ in range(2):
        config = Config(
            data=Data(name="digits", shift=1),
            model=Model(name="sew_7b", neuron="IF", num_blocks=1 if TINY else 4, T=2 if TINY else 4),
            optim=Optim(batch=32 if TINY else 128, epochs=1 if TINY else 3, deterministic=True, check_every=50),
        )
        state = begin_training(config, load_data(config, "train"), DEVICE)
        batches = TrainingBatches(config, state.data, state.order)
        for step in range(2 if TINY else state.num_steps):
            samples, labels = batches[step]
            state.step(to_device(samples, DEVICE), labels.to(DEVICE))
        state.look()
        weights = b"".join(tensor.cpu().numpy().tobytes() for tensor in state.net.state_dict().values())
        hashes.append(hashlib.sha256(weights).hexdigest()[:16])
    yield {"training twice": "the same bits" if len(set(hashes)) == 1 else "other bits", "hashes": hashes, "loss": state.loss}


NEED_ENGINE = (networks, float16, digits)
STAGES = {f.__name__: f for f in (machine, parity, special, sanitizer, sweeps, networks, float16, digits)}


def main(o: Options) -> int:
    if o.case:
        run_case(o.case)
        return 0
    if not TINY and (reason := launch.unavailable_reason()):
        print(f"no CUDA GPU to measure: {reason}; --tiny tries this script without one", file=sys.stderr)
        return 2
    chosen = STAGES if not any(o.stages) else {name: STAGES[name] for name in o.stages}
    Path(o.out).mkdir(parents=True, exist_ok=True)
    file, began, conditions = Path(o.out) / "gpu_first.jsonl", time.monotonic(), where()
    for name, stage in chosen.items():
        if time.monotonic() - began > o.minutes * 60:
            print(f"{name}: not begun, {o.minutes:g} minutes are over", file=sys.stderr)
            continue
        lines = [{"not run": MISSING}] if MISSING and stage in NEED_ENGINE else stage(o)
        try:
            for line in lines:
                text = json.dumps({"stage": name, **line, "at_s": round(time.monotonic() - began, 1)} | conditions)
                print(json.dumps({"stage": name, **line}), file=sys.stderr, flush=True)
                with file.open("a") as out:
                    print(text, file=out, flush=True)
        except Red as red:
            print(f"{name}: {red}. No speed is reported.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main(parse_options(Options)))
