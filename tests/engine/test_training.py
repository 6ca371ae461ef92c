import dataclasses
import io
import json
import sys

import pytest
import torch
from tiny import TINY, begin, json_lines, with_optim

from spikewise.config import Data, Retention
from spikewise.engine.build import choose_device, load_data
from spikewise.engine.evaluate import evaluate
from spikewise.engine.loop import train
from spikewise.models.weights import load_pretrained


def load_train(data):
    return load_data(dataclasses.replace(TINY, data=data), "train")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Of a run of three epochs."""
    config = dataclasses.replace(with_optim(epochs=3), retention=Retention(num_last_averaged=2))
    return train(config, tmp_path_factory.mktemp("run") / "run", quiet=True)


def test_a_run_leaves_its_folder(result):
    files = {str(path.relative_to(result.run)) for path in result.run.rglob("*") if path.is_file()}
    assert {"config.json", "environment.json", "metrics.jsonl", "timing.jsonl"} <= files
    assert {f"checkpoints/{name}/model.safetensors" for name in ("last", "best")} <= {
        str(path.relative_to(result.run)) for path in result.run.glob("checkpoints/*/*")
    }
    assert any(name.startswith("tensorboard/events") for name in files)
    environment = json.loads((result.run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()


def test_a_result_is_the_final_the_best_and_the_mean_of_the_last_epochs(result):
    lines = json_lines(result.run / "metrics.jsonl")
    accuracies = [line["test_accuracy"] for line in lines]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert (result.final, result.best) == (accuracies[-1], max(accuracies))
    assert result.mean_last_epochs == pytest.approx((accuracies[1] + accuracies[2]) / 2)
    assert result.num_averaged == 2


def test_evaluation_of_a_run_finds_what_training_reported(result):
    assert evaluate(result.run).accuracy == result.final
    assert evaluate(result.run, checkpoint="best").accuracy == result.best
    assert load_pretrained(result.run).spec["name"] == "sew_7b"


def test_the_same_config_gives_the_same_run_and_another_seed_another(tmp_path):
    first, again = (train(TINY, tmp_path / name, quiet=True) for name in "ab")
    other = train(dataclasses.replace(TINY, seed=1), tmp_path / "c", quiet=True)
    assert (first.run / "metrics.jsonl").read_bytes() == (again.run / "metrics.jsonl").read_bytes()
    assert (first.run / "metrics.jsonl").read_bytes() != (other.run / "metrics.jsonl").read_bytes()


def test_training_does_not_touch_the_callers_random_numbers(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(with_optim(epochs=1), tmp_path / "run", quiet=True)
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not empty; give another folder with --out"):
        train(TINY, tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("optim", "data"),
    [
        ({"optimizer": "adam", "lr": 0.01}, {}),
        ({"optimizer": "adamw", "lr": 0.01}, {}),
        ({"precision": "bfloat16", "eval_precision": "bfloat16"}, {}),
        ({}, {"mixup": 0.2, "cutmix": 1.0}),
    ],
    ids=["adam", "adamw", "bfloat16", "mixed targets"],
)
def test_every_optimizer_precision_and_target_learns(optim, data, tmp_path):
    config = dataclasses.replace(with_optim(**optim), data=Data(**data))
    first, last = json_lines(train(config, tmp_path / "run", quiet=True).run / "metrics.jsonl")
    assert last["train_loss"] < first["train_loss"]
    assert last["train_accuracy"] > 0


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_asked_for_by_name_runs_or_is_refused(name):
    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        assert choose_device(name).type == name
    else:
        with pytest.raises(ValueError, match=f"device '{name}' was asked for by name, but torch .* sees none"):
            choose_device(name)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (train, "digits", r"train takes a Config.*given 'digits'"),
        (choose_device, "tpu", "no device named 'tpu'; use auto, cpu, cuda or mps"),
        (load_train, Data(name="mnist"), r"no data set named 'mnist'; .*known: digits"),
        (load_train, Data(name="digits", temporal_delete=4), "=4 is for event recordings; digits holds still images"),
        (load_train, Data(name="nmnist", affine=0.1), "is for still images; nmnist holds event recordings"),
        (load_train, Data(name="digits", fold=0), "is for nmnist; digits has one split"),
    ],
)
def test_what_does_not_fit_is_refused(function, given, message):
    with pytest.raises(ValueError, match=message):
        function(given)


def test_the_moving_average_follows_weights_and_running_statistics(tmp_path):
    config = with_optim(ema_decay=0.9)
    state, batches = begin(config)
    expected = {name: value.clone() for name, value in state.net.state_dict().items()}
    for step in range(4):
        state.step(*batches[step])
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in state.net.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    torch.testing.assert_close(dict(state.eval_net.state_dict()), expected)
    result = train(config, tmp_path / "run", quiet=True)
    assert evaluate(result.run).accuracy == result.final


@pytest.mark.parametrize("file", ["model.safetensors", "state.json"])
def test_evaluation_refuses_damaged_weights_and_another_config(file, tmp_path):
    run = train(with_optim(epochs=1), tmp_path / "run", quiet=True).run
    config = run / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"T": 2', '"T": 3'))
    with pytest.raises(ValueError, match=r"config.json was changed since last was saved: model.T 2 -> 3"):
        evaluate(run)
    config.write_text(text)
    path = run / "checkpoints" / "last" / file
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last is damaged: .*; `spikewise train --resume"):
        evaluate(run)


@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_precision_reaches_the_convolutions(part, tmp_path):
    config = with_optim(epochs=1, **{"precision" if part == "training" else "eval_precision": "bfloat16"})
    dtypes = {True: set(), False: set()}
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda m, _, out: dtypes[m.training].add(out.dtype) if isinstance(m, torch.nn.Conv2d) else None
    )
    try:
        train(config, tmp_path / "run", quiet=True)
    finally:
        hook.remove()
    assert dtypes == {part == "training": {torch.bfloat16}, part != "training": {torch.float32}}


def test_the_learning_rate_is_printed(tmp_path, capsys):
    train(with_optim(lr=0.2, lr_batch=64, epochs=1), tmp_path / "run")
    assert "peak learning rate 0.4 (0.2 per 64)" in capsys.readouterr().err


def test_a_console_that_went_away_does_not_stop_a_run(tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    for number, stderr in enumerate((Gone(), None)):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert train(with_optim(epochs=1), tmp_path / f"{number}").final > 0
