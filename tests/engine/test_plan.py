"""Plans: what is foretold from shapes is what real tensors take."""

import json
import os
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikewise.cli.main import main
from spikewise.config import Config, Data, Memory, Model, Optim
from spikewise.data import DATASETS, PlaceholderDataset
from spikewise.engine.build import autocast, known_data
from spikewise.engine.memory import plan as planning
from spikewise.engine.memory.estimate import Imagination, Ledger, random_batch, shape_of_sample
from spikewise.engine.memory.plan import largest, plan
from spikewise.engine.step import Training
from spikewise.recipes import RECIPES

CPU = torch.device("cpu")
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


def as_told(config):
    memory = config.memory
    imagined = Imagination(config, known_data(config)[0], CPU)
    return imagined.step(config.optim.batch, packing=memory.packing, checkpointing=memory.checkpointing)


def begun(config):
    """A training with real tensors, and a batch."""
    data, _ = known_data(config)
    training = Training(config, data, CPU)
    return training, random_batch(config, shape_of_sample(config, data), len(data.class_names), config.optim.batch, CPU)


def storage_bytes(tensors):
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


def test_a_ledger_by_hand():
    ledger = Ledger()
    with FakeTensorMode(), ledger:
        a = torch.empty(1000)
        assert ledger.alive == 4000
        b = a * 2
        c = b.view(10, 100)[3]  # no storage of its own
        assert (ledger.alive, ledger.peak) == (8000, 8000)
        del a, b
        assert ledger.alive == 4000  # a part is seen, all of it is there
        d = torch.cat([c, c])
        del c
        assert (ledger.alive, ledger.peak) == (800, 8000)
        assert float(d.sum()) == 1
        del d
    assert ledger.alive == 0


KEPT = {
    "sew_resnet20": DIGITS,
    "whole spikes": replace(DIGITS, memory=Memory(packing=False)),
    "bfloat16": replace(DIGITS, optim=BFLOAT16),
    "IAND, PLIF": replace(DIGITS, model=Model(name="sew_resnet20", connect="IAND", neuron="PLIF")),
    "spiking_resnet20": replace(DIGITS, model=Model(name="spiking_resnet20")),
    "reference kernels": replace(DIGITS, model=Model(name="sew_resnet20", backend="reference")),
    "ReLU twin, bfloat16": replace(DIGITS, model=Model(name="resnet20"), optim=BFLOAT16),
    "sew_7b": EVENTS,
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_bytes_are_those_of_a_real_forward_pass(name):
    """All but the samples, which were there before; with the logits, and autocast's copy of the last layer's bias."""
    config = KEPT[name]
    training, (samples, _) = begun(config)
    there_before = {x.untyped_storage().data_ptr() for x in (*training.net.state_dict().values(), samples)}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = weakref.ref(storage), storage.data_ptr(), storage.nbytes()
        return tensor

    training.net.train()
    with autocast(config.optim.precision, CPU), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = training.net(samples)
    kept[logits.untyped_storage()._cdata] = weakref.ref(logits.untyped_storage()), 0, logits.untyped_storage().nbytes()
    # what was kept for an output that nobody used, such as the last membrane, is gone
    alive = {at: size for of, at, size in kept.values() if of() is not None and at not in there_before}
    told, half = as_told(config).kept, config.optim.precision == "bfloat16"
    if half:
        told -= 2 * training.net.num_classes
    if half and not training.net.spiking:  # PyTorch foretells two statistics per channel in bfloat16, and keeps float32
        told += 2 * 2 * sum(m.num_features for m in training.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert told == sum(alive.values())


def test_what_lasts_is_what_real_tensors_take():
    for optimizer in ("sgd", "adamw"):
        config = replace(DIGITS, optim=Optim(batch=16, optimizer=optimizer, ema_decay=0.9, epochs=3))
        training, batch = begun(config)
        training.step(*batch)
        told = as_told(config)
        net, states = training.net, training.optimizer.state.values()
        assert told.weights == storage_bytes([*net.parameters(), *net.buffers(), *training.statistics.copies])
        assert told.gradients == storage_bytes([p.grad for p in net.parameters()])
        assert told.optimizer == storage_bytes([x for state in states for x in state.values() if torch.is_tensor(x)])
        assert told.average == storage_bytes([*training.average.net.parameters(), *training.average.net.buffers()])
        assert told.batch == storage_bytes(batch)


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "whole"])
@pytest.mark.parametrize("checkpointing", ["none", "block", "stage"])
def test_the_peak_is_what_the_allocator_saw(packing, checkpointing):
    config = replace(DIGITS, optim=replace(BFLOAT16, batch=64), memory=Memory(packing=packing, checkpointing=checkpointing))
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        training, batch = begun(config)
        for _ in range(2):
            training.step(*batch)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    assert as_told(config).peak == pytest.approx(peak, rel=0.05)


def test_packing_and_checkpointing_keep_less():
    imagined = Imagination(EVENTS, known_data(EVENTS)[0], CPU)
    kept = [
        imagined.step(2, packing=packing, checkpointing=checkpointing).kept
        for packing, checkpointing in ((False, "none"), (True, "none"), (True, "block"))
    ]
    assert kept[0] > 1.4 * kept[1] > 1.4 * 1.4 * kept[2]


def test_the_largest_batch_is_found_on_bent_lines():
    def needed(n):
        return max(100 + 3 * n, 20 * n, 35 * n - 900)

    for free in (0, 101, 130, 500, 1000, 5000, 10**9):
        most = largest(needed, {0: 100, 8: needed(8)}, free, 10**6)
        assert most == 0 or needed(most) <= free
        if free >= 130:
            best = next(n for n in range(10**6, 0, -1) if needed(n) <= free) if free < 10**6 else 10**6
            assert 0.9 * best <= most <= best
    assert largest(needed, {0: 100, 8: needed(8)}, 10**9, 64) == 64


def test_a_plan_says_what_fits(monkeypatch):
    monkeypatch.setattr(planning, "HEAP_BYTES", 0)
    roomy = plan(TINY, device="cpu", measure=0)
    assert roomy.fits
    assert roomy.proposal == ""
    assert roomy.timing is None
    assert [c.fits for c in roomy.choices] == [1438] * 6
    assert [(c.packing, c.checkpointing) for c in roomy.choices][:2] == [(True, "none"), (True, "block")]


def test_what_does_not_fit_gets_a_proposal():
    def choice(packing, checkpointing, fits):
        return planning.Choice(packing, checkpointing, 0, 0, 0, fits)

    choices = [choice(False, "none", 10), choice(True, "stage", 40), choice(True, "block", 30), choice(True, "none", 20)]
    for batch, expected in (
        (10, "--memory.no-packing --memory.checkpointing none"),
        (20, "--memory.packing --memory.checkpointing none"),
        (30, "--memory.packing --memory.checkpointing block"),
        (40, "--memory.packing --memory.checkpointing stage"),
        (50, "--optim.batch 40 --memory.packing --memory.checkpointing stage"),
    ):
        how = replace(TINY, optim=Optim(batch=batch), memory=Memory(packing=batch > 10))
        assert planning.proposed(how, choices) == expected
    assert planning.proposed(TINY, [choice(True, "block", 0)]) is None


def test_time_is_measured_at_a_batch_that_fits(monkeypatch):
    imagined = Imagination(TINY, known_data(TINY)[0], CPU)
    some = planning.process_bytes(imagined.step(32, packing=True, checkpointing="none"), CPU)
    monkeypatch.setattr(planning, "free_memory", lambda _: some)
    found = plan(TINY, device="cpu", measure=1)
    assert not found.fits
    assert found.choices[0].fits == found.timing.batch == 32
    assert found.timing.whole_run == pytest.approx(3 * found.timing.per_epoch)
    assert found.timing.per_epoch == pytest.approx(found.timing.per_step * 1438 / 64)


HERE = [os.environ.get("SPIKEWISE_DATA"), Path(__file__).parents[3] / "shared/data", Path(__file__).parents[3] / "data"]


@pytest.mark.parametrize("name", [name for name, source in DATASETS.items() if source.info])
def test_what_is_known_of_a_data_set_is_what_is_in_it(name):
    source, roots = DATASETS[name], [root for root in HERE if root and Path(root).is_dir()]
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
    data, read = known_data(config)
    assert read == (config.data.name in ("digits", "digits-events"))
    assert len(data.labels) > 1000
    assert shape_of_sample(config, data)[-3] == data.in_channels


def test_the_command_prints_a_table_or_json(capsys):
    given = ["plan", "digits-events", "--device", "cpu", "--measure", "1", "--model.num-blocks", "1"]
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sew_7b on digits-events (1,438 training samples of 4 x 2 x 32 x 32)")
    assert any(line.startswith("kept for backward") and line.endswith("MiB") for line in lines)
    assert lines[-1].startswith("fits: ")
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert found["timing"]["steps"] == 1
    assert found["bytes"]["kept"] < found["bytes"]["peak"] < found["process"] < found["free"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "plan needs a recipe; known: digits"),
        (["digitz"], "no recipe named 'digitz'"),
        (["--measure", "3"], "plan needs a recipe before its options; given '--measure' first"),
        (["digits", "--measure", "-1"], "measure=-1 is out of range; use 0 or more steps"),
        (["digits", "--optim.batch", "2000"], "a batch of 2000 from 1438 samples"),
        (["imagenet/sew-resnet18", "--device", "cpu"], "precision float16 needs a GPU"),
        (["digits", "--model.name", "sew_7b"], "needs at least 128 x 128 pixels"),
        (["digits", "--data.name", "image-folder", "--data.root", "/nowhere"], "no image-folder data"),
    ],
)
def test_mistakes_are_told_in_a_line(given, says, capsys):
    assert main(["plan", *given]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
