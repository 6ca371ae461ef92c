"""Plans: the memory estimated from shapes is what real tensors take."""

import json
import os
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import in_processes
from tiny import CPU
from torch._subclasses.fake_tensor import FakeTensorMode

from spikewise.cli.main import main
from spikewise.config import Config, Data, Memory, Model, Optim
from spikewise.data import DATASETS, PlaceholderDataset
from spikewise.data.events import Events, write_events
from spikewise.engine.build import autocast, load_or_placeholder
from spikewise.engine.distributed import joined
from spikewise.engine.memory import plan as planning
from spikewise.engine.memory.estimate import MemoryEstimator, MemoryTracker, random_batch, sample_shape, storage_bytes
from spikewise.engine.memory.plan import MemoryOption, largest_batch, plan, process_bytes, propose_flags
from spikewise.engine.step import TrainState
from spikewise.recipes import RECIPES

DIGITS = Config(optim=Optim(batch=16, epochs=3), model=Model(name="sew_resnet20"))
EVENTS = Config(
    data=Data(name="dvs-gesture", num_frames=4),
    optim=Optim(batch=2, epochs=3),
    model=Model(name="sew_7b", T=4),
    recipe="events",
)
TINY = Config(
    data=Data(name="digits-events", num_frames=2), optim=Optim(batch=64, epochs=3), model=Model(name="sew_7b", num_blocks=1)
)
BFLOAT16 = Optim(batch=16, precision="bfloat16", epochs=3)


def estimate(config, estimator=None, batch=None, **memory):
    """The memory of a step, by default with the config's batch, packing and checkpointing."""
    estimator = estimator or MemoryEstimator(config, load_or_placeholder(config)[0], CPU)
    kept = {"packing": config.memory.packing, "checkpointing": config.memory.checkpointing} | memory
    return estimator.step(batch or config.optim.batch, **kept)


def begin(config):
    """A training with real tensors, and a batch."""
    data, _ = load_or_placeholder(config)
    batch = random_batch(config, sample_shape(config, data), len(data.class_names), config.optim.batch, CPU)
    return TrainState(config, data, CPU), batch


def test_the_tracker_by_hand():
    tracker = MemoryTracker()
    with FakeTensorMode(), tracker:
        a = torch.empty(1000)
        assert tracker.alive == 4000
        b = a * 2
        c = b.view(10, 100)[3]  # no storage of its own
        assert (tracker.alive, tracker.peak) == (8000, 8000)
        del a, b
        assert tracker.alive == 4000  # a view keeps the whole storage
        d = torch.cat([c, c])
        del c
        assert (tracker.alive, tracker.peak) == (800, 8000)
        assert float(d.sum()) == 1
        del d
    assert tracker.alive == 0


CONFIGS = {
    "sew_resnet20": DIGITS,
    "whole spikes": replace(DIGITS, memory=Memory(packing=False)),
    "bfloat16": replace(DIGITS, optim=BFLOAT16),
    "IAND, PLIF": replace(DIGITS, model=Model(name="sew_resnet20", connect="IAND", neuron="PLIF")),
    "spiking_resnet20": replace(DIGITS, model=Model(name="spiking_resnet20")),
    "reference kernels": replace(DIGITS, model=Model(name="sew_resnet20", backend="reference")),
    "ReLU twin, bfloat16": replace(DIGITS, model=Model(name="resnet20"), optim=BFLOAT16),
    "sew_7b": EVENTS,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_activations_are_those_of_a_real_forward_pass(name):
    """All but the samples, which were there before; with the logits, and autocast's copy of the last layer's bias."""
    config = CONFIGS[name]
    state, (samples, _) = begin(config)
    there_before = {x.untyped_storage().data_ptr() for x in (*state.net.state_dict().values(), samples)}
    saved = {}

    def save(tensor):
        storage = tensor.untyped_storage()
        saved[storage._cdata] = weakref.ref(storage), storage.data_ptr(), storage.nbytes()
        return tensor

    state.net.train()
    with autocast(config.optim.precision, CPU), torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        logits = state.net(samples)
    saved[logits.untyped_storage()._cdata] = weakref.ref(logits.untyped_storage()), 0, logits.untyped_storage().nbytes()
    # what was saved for an output that nobody used, such as the last membrane, is gone
    alive = {address: size for ref, address, size in saved.values() if ref() is not None and address not in there_before}
    estimated, half = estimate(config).activations, config.optim.precision == "bfloat16"
    if half:
        estimated -= 2 * state.net.num_classes
    if half and not state.net.spiking:  # PyTorch's shapes promise two statistics per channel in bfloat16; it keeps float32
        estimated += 2 * 2 * sum(m.num_features for m in state.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert estimated == sum(alive.values())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_persistent_memory_is_what_real_tensors_take(optimizer):
    config = replace(DIGITS, optim=Optim(batch=16, optimizer=optimizer, ema_decay=0.9, epochs=3))
    state, batch = begin(config)
    state.step(*batch)
    net, buffers = state.net, [x for states in state.optimizer.state.values() for x in states.values()]
    real = {
        "weights": [*net.parameters(), *net.buffers(), *state.buffers.copies],
        "gradients": [p.grad for p in net.parameters()],
        "optimizer": [x for x in buffers if torch.is_tensor(x)],
        "average": [*state.ema_net.parameters(), *state.ema_net.buffers()],
        "batch": batch,
    }
    use = estimate(config)
    assert {name: getattr(use, name) for name in real} == {name: storage_bytes(tensors) for name, tensors in real.items()}


@pytest.mark.filterwarnings("ignore:.*Profiler clears events")  # of PyTorch 2.11
@pytest.mark.parametrize("packing", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("checkpointing", ["none", "block", "stage"])
def test_the_peak_is_what_the_allocator_saw(packing, checkpointing):
    config = replace(DIGITS, optim=replace(BFLOAT16, batch=64), memory=Memory(packing=packing, checkpointing=checkpointing))
    assert estimate(config).peak == pytest.approx(peak_of_allocator(0, config), rel=0.05)


def peak_of_allocator(rank, config):
    """Bytes that PyTorch's allocator had handed out at once in two training steps; of this process, where there are several."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with joined(CPU) as world, torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        data, _ = load_or_placeholder(config)
        shape, num_classes = sample_shape(config, data), len(data.class_names)
        state = TrainState(config, data, CPU, world=world)
        count = len(range(config.optim.shards)[rank :: world.size])
        shards = [random_batch(config, shape, num_classes, config.optim.shard_batch, CPU) for _ in range(count)]
        for _ in range(2):
            state.step_shards(shards)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


MANY_WEIGHTS = replace(DIGITS, model=Model(name="sew_resnet18", T=1, width=0.5))


@pytest.mark.parametrize(
    ("config", "changes", "processes"),
    [
        (DIGITS, {}, 1),
        (DIGITS, {"norm_over": "batch"}, 1),
        (MANY_WEIGHTS, {"gradient_sum": "float32"}, 1),
        (MANY_WEIGHTS, {}, 2),
        (MANY_WEIGHTS, {"norm_over": "batch"}, 2),
    ],
    ids=["apart", "together", "float32", "apart, 2 processes", "together, 2 processes"],
)
def test_the_peak_of_shards_is_what_the_allocator_saw_in_a_process(config, changes, processes):
    """Of rank 0, which has two of three shards where there are two processes."""
    config = replace(config, optim=Optim(batch=24, shards=3, epochs=3, **changes))
    peak = in_processes(2, peak_of_allocator, config)[0] if processes == 2 else peak_of_allocator(0, config)
    estimator = MemoryEstimator(config, load_or_placeholder(config)[0], CPU, processes)
    assert estimate(config, estimator).peak == pytest.approx(peak, rel=0.05)


def test_a_plan_is_of_one_process_and_names_batches_that_the_shards_divide(monkeypatch, capsys):
    config = replace(TINY, optim=Optim(batch=60, shards=3, epochs=3))
    alone, shared = (plan(config, device="cpu", measure=0, processes=processes) for processes in (1, 3))
    assert shared.bytes.terms == shared.bytes.gradients == alone.bytes.terms / 3
    monkeypatch.setattr(planning, "free_memory", lambda _: alone.process - 1)
    tight = plan(config, device="cpu", measure=1)
    assert [option.max_batch % 3 for option in tight.options] == [0] * 6
    assert 0 < tight.timing.batch < 60
    words = ["plan", "digits", "--optim.batch", "60", "--optim.shards", "3", "--device", "cpu", "--measure", "0"]
    assert main([*words, "--processes", "3"]) == 0
    assert "batch 60, cpu, each of 3 processes" in capsys.readouterr().out
    assert main([*words, "--processes", "4"]) == 2
    assert "4 processes for optim.shards=3" in capsys.readouterr().err


def test_packing_and_checkpointing_save_memory():
    estimator = MemoryEstimator(EVENTS, load_or_placeholder(EVENTS)[0], CPU)
    activations = [
        estimate(EVENTS, estimator, packing=packing, checkpointing=checkpointing).activations
        for packing, checkpointing in ((False, "none"), (True, "none"), (True, "block"))
    ]
    assert activations[0] > 1.4 * activations[1] > 1.4 * 1.4 * activations[2]


def test_the_largest_batch_is_found_on_bent_lines():
    def needed(n):
        return max(100 + 3 * n, 20 * n, 35 * n - 900)

    for free in (0, 101, 130, 500, 1000, 5000, 10**9):
        batch = largest_batch(needed, {0: 100, 8: needed(8)}, free, 10**6)
        assert batch == 0 or needed(batch) <= free
        if free >= 130:
            best = next(n for n in range(10**6, 0, -1) if needed(n) <= free) if free < 10**6 else 10**6
            assert 0.9 * best <= batch <= best
    assert largest_batch(needed, {0: 100, 8: needed(8)}, 10**9, 64) == 64


def test_a_plan_says_what_fits(monkeypatch):
    monkeypatch.setattr(planning, "HEAP_BYTES", 0)
    roomy = plan(TINY, device="cpu", measure=0)
    assert roomy.fits
    assert (roomy.proposal, roomy.timing) == ("", None)
    assert [option.max_batch for option in roomy.options] == [1438] * 6
    assert [(option.packing, option.checkpointing) for option in roomy.options][:2] == [(True, "none"), (True, "block")]


def test_what_does_not_fit_gets_a_proposal():
    def option(packing, checkpointing, max_batch):
        return MemoryOption(packing, checkpointing, 0, 0, 0, max_batch)

    options = [option(False, "none", 10), option(True, "stage", 40), option(True, "block", 30), option(True, "none", 20)]
    for batch, expected in (
        (10, "--memory.no-packing --memory.checkpointing none"),
        (20, "--memory.packing --memory.checkpointing none"),
        (30, "--memory.packing --memory.checkpointing block"),
        (40, "--memory.packing --memory.checkpointing stage"),
        (50, "--optim.batch 40 --memory.packing --memory.checkpointing stage"),
    ):
        config = replace(TINY, optim=Optim(batch=batch), memory=Memory(packing=batch > 10))
        assert propose_flags(config, options) == expected
    assert propose_flags(TINY, [option(True, "block", 0)]) is None


def test_events_of_a_large_sensor_get_a_canvas_that_fits(tmp_path, monkeypatch):
    for label in "ab":
        for i in range(3):
            events = Events(*(np.zeros(9, kind) for kind in (np.int64, np.uint16, np.uint16, np.uint8)), (200, 300))
            (tmp_path / label).mkdir(exist_ok=True)
            write_events(events, tmp_path / label / f"{i}.npz")
    large = replace(EVENTS, data=Data(name="event-folder", root=str(tmp_path), num_frames=4))
    needed = process_bytes(estimate(replace(large, data=replace(large.data, size=128))), CPU)
    monkeypatch.setattr(planning, "free_memory", lambda _: needed)
    found = plan(large, device="cpu", measure=0)
    assert (found.proposal, found.proposal_bytes) == ("--data.size 128", needed)
    monkeypatch.setattr(planning, "free_memory", lambda _: needed - 1)  # 7 blocks need 128 pixels
    assert "--data.size" not in (plan(large, device="cpu", measure=0).proposal or "")


def test_time_is_measured_at_a_batch_that_fits(monkeypatch):
    free = process_bytes(estimate(TINY, batch=32), CPU)
    monkeypatch.setattr(planning, "free_memory", lambda _: free)
    tight = plan(TINY, device="cpu", measure=1)
    assert not tight.fits
    assert tight.options[0].max_batch == tight.timing.batch == 32
    assert tight.timing.whole_run == pytest.approx(3 * tight.timing.per_epoch)
    assert tight.timing.per_epoch == pytest.approx(tight.timing.per_step * 1438 / 64)


DATA_ROOTS = [os.environ.get("SPIKEWISE_DATA"), Path(__file__).parents[3] / "shared/data", Path(__file__).parents[3] / "data"]


@pytest.mark.parametrize("name", [name for name, source in DATASETS.items() if source.info])
def test_what_is_known_of_a_data_set_is_what_is_in_it(name):
    source, roots = DATASETS[name], [root for root in DATA_ROOTS if root and Path(root).is_dir()]
    options = {"T": 3} if source.events else {}
    for root in roots or [None]:
        try:
            data = source.load("train", root, **options)
        except FileNotFoundError:
            continue
        known = PlaceholderDataset(name, source.info, **options)
        if name != "nmnist" or len(data.labels) == 60_000:  # a part of it may be here
            assert len(known.labels) == len(data.labels)
        assert len(known.class_names) == len(data.class_names)
        assert known.in_channels == data.in_channels
        assert known.sample(0).shape == data.sample(0).shape
        return
    pytest.skip(f"no {name} here")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned_without_its_data(name, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEWISE_DATA", str(tmp_path))
    config = RECIPES[name]()
    if config.data.name in ("image-folder", "event-folder"):  # of a user's own: nothing is known of it
        with pytest.raises(FileNotFoundError, match="make the folders"):
            load_or_placeholder(config)
        return
    data, loaded = load_or_placeholder(config)
    assert loaded == (config.data.name in ("digits", "digits-events"))
    assert len(data.labels) > 1000
    assert sample_shape(config, data)[-3] == data.in_channels


def test_the_command_prints_a_table_or_json(capsys):
    args = ["plan", "digits-events", "--device", "cpu", "--measure", "1", "--model.num-blocks", "1"]
    assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sew_7b on digits-events (1,438 training samples of 4 x 2 x 32 x 32)")
    assert any(line.startswith("kept for backward") and line.endswith("MiB") for line in lines)
    assert lines[-1].startswith("fits: ")
    assert main([*args, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["fits"]
    assert planned["timing"]["steps"] == 1
    assert planned["bytes"]["activations"] < planned["bytes"]["peak"] < planned["process"] < planned["free"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "plan needs a recipe; known: digits"),
        (["digitz"], "no recipe named 'digitz'"),
        (["--measure", "3"], "plan needs a recipe before its options; given '--measure' first"),
        (["digits", "--measure", "-1"], "measure=-1 is out of range; use 0 or more steps"),
        (["digits", "--optim.batch", "2000"], "a batch of 2000 from 1,438 samples"),
        (["imagenet/sew-resnet18", "--device", "cpu"], "precision float16 needs a GPU"),
        (["digits", "--model.name", "sew_7b"], "needs at least 128 x 128 pixels"),
        (["digits", "--data.name", "image-folder", "--data.root", "/nowhere"], "no image-folder data"),
    ],
)
def test_mistakes_are_told_in_a_line(args, message, capsys):
    assert main(["plan", *args]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
