"""Representations and filters of recordings: chosen in a config, kept with the weights, used by evaluate and predict."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

import spikewise as sw
from spikewise.cli.main import main
from spikewise.config import Config, Data, Model, Optim, from_json, to_json
from spikewise.data.events import Events, FrameSpec, read_events, write_events
from spikewise.engine.build import load_data
from spikewise.engine.loop import train

OPTIONS = [
    {"split_by": "duration", "time_window": 20_000, "num_frames": 4, "filter": "refractory=100us"},
    {"representation": "time_surface", "tau": 30_000, "num_frames": 3},
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for kind in ("left", "right"):
        (root / kind).mkdir(parents=True)
        for number in range(6):
            t, side = np.sort(rng.integers(0, 10**5, 300)), rng.integers(0, 16, (2, 300)).astype(np.uint16)
            polarity = rng.integers(0, 2, 300).astype(np.uint8)
            write_events(Events(t, side[0], side[1], polarity, (16, 16)), root / kind / f"{number}.npz")
    return root


def config_of(recordings, **options):
    data = Data(name="event-folder", root=str(recordings), **options)
    return Config(data=data, model=Model(name="sew_7b", num_blocks=2), optim=Optim(batch=8, epochs=1))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options.get("representation", "counts"))
def test_a_network_is_shown_recordings_as_in_training(options, recordings, tmp_path):
    config = config_of(recordings, cache=True, **options)
    train(config, tmp_path / "run", device="cpu", quiet=True)
    net, data = sw.load_pretrained(tmp_path / "run"), load_data(config, "test")
    T, named = options["num_frames"], {name: value for name, value in options.items() if name != "num_frames"}
    spec, events = FrameSpec(T, **named), read_events(data.files[1])
    expected = torch.from_numpy(spec.frames(spec.select(events)).astype(np.float32))
    assert torch.equal(net.preprocess(data.files[1])[:, 0], expected)
    assert torch.equal(torch.from_numpy(data.sample(1)), expected)
    assert torch.equal(torch.from_numpy(data.sample(1)), expected)  # from the disk
    file = tmp_path / "run" / "checkpoints" / "last" / "model.safetensors"
    with safe_open(file, "pt") as opened:  # which older versions refuse, as they would show it counts
        assert json.loads(opened.metadata()["spikewise"])["format_version"] == 3
    here = {"device": "cpu", "data_root": str(recordings)}
    assert sw.evaluate(file, **here).correct == sw.evaluate(tmp_path / "run", **here).correct
    prediction = next(sw.Predictor(tmp_path / "run", device="cpu")(data.files[1]))
    with torch.no_grad():
        probability = net(expected[:, None]).softmax(1).max().item()
    assert prediction.classes[0][1] == pytest.approx(probability, rel=1e-4)


def test_a_recording_without_events_is_not_predicted():
    from spikewise.data.input_spec import InputSpec

    spec = InputSpec(
        "event-folder", "events", ("a", "b"), (2, 16, 16), num_frames=3, frame_options={"filter": "background=1us"}
    )
    one = Events(np.array([5]), *(np.zeros(1, kind) for kind in (np.uint16, np.uint16, np.uint8)), (16, 16))
    with pytest.raises(ValueError, match="the Events has no events; 1 of 1 event dropped by the filter"):
        spec.preprocess(one)


def test_a_config_keeps_them():
    data = Data(name="digits-events", split_by="duration", time_window=5000, filter="background=1ms")
    assert from_json(to_json(Config(data=data))).data == data
    before = {name: value for name, value in json.loads(to_json(Config()))["data"].items() if name not in vars(FrameSpec(1))}
    assert from_json(json.dumps({"data": before})).data == Data()  # what was written before there were any


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("digits --data.representation time_surface", "data.representation='time_surface' changes nothing"),
        ("digits --data.filter background=5ms", "data.filter='background=5ms' changes nothing"),
        ("digits-events --data.tau 5ms", "data.tau=5000 changes nothing"),
        ("digits-events --data.time-window 5ms", "--data.time-window is for --data.split-by duration"),
        ("digits-events --data.filter noise=5ms", "no filter named 'noise'"),
        ("digits-events --data.representation voxel_grid", "use --data.split-by duration"),
        ("digits-events --data.representation time_surface --data.event-drop 0.1", "data.event_drop=0.1 is for counts"),
        (
            "digits-events --data.representation time_surface --data.event-drop 0.1 --data.max-count 8",
            "say --data.event-drop 0 --data.max-count 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(words, message, tmp_path, capsys):
    assert main(["train", *words.split(), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_description_of_unknown_frames_is_refused(recordings):
    from spikewise.data.input_spec import InputSpec

    spec = InputSpec("event-folder", "events", ("a", "b"), (2, 16, 16), num_frames=3, frame_options={"tau": 5})
    for options in ({"representation": "newer"}, {"unknown": 1}, [1]):
        with pytest.raises(ValueError, match="description of the input is damaged"):
            InputSpec.from_json(vars(spec) | {"frame_options": options})
    assert InputSpec.from_json(vars(spec)) == spec


def test_whole_numbers_hold_what_frames_hold():
    from spikewise.data.input_spec import InputSpec
    from spikewise.export.integer import input_range

    net = sw.build_model("sew_7b", num_classes=2, num_blocks=1)
    for representation, unit in (("counts", 1.0), ("time_surface", 1 / 255), ("voxel_grid", None)):
        options = {"representation": representation}
        net.input_spec = InputSpec("a", "events", (), (2, 16, 16), num_frames=3, split_by="duration", frame_options=options)
        if unit is not None:
            assert input_range(net) == (unit, 255)
        else:
            with pytest.raises(ValueError, match="whole numbers can't hold a voxel_grid"):
                input_range(net)
