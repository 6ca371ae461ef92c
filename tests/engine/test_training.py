import dataclasses
import io
import json
import math
import sys
from itertools import pairwise

import pytest
import torch

from spikewise.config import Config, Data, Model, Optim, Retention
from spikewise.engine.build import build_network, choose_device, load_data
from spikewise.engine.evaluate import evaluate
from spikewise.engine.loader import TrainingBatches
from spikewise.engine.loop import train
from spikewise.engine.loss import cross_entropy
from spikewise.engine.optim import build_optimizer, learning_rate, set_learning_rate
from spikewise.engine.step import Training
from spikewise.models.weights import load_pretrained

TINY = Config(
    recipe="tiny",
    data=Data(name="digits", shift=1),
    model=Model(name="sew_7b", neuron="IF", num_blocks=2, T=2),
    optim=Optim(lr=0.1, lr_batch=128, batch=128, epochs=2, warmup_epochs=0.5),
)


def with_optim(**changes):
    return dataclasses.replace(TINY, optim=dataclasses.replace(TINY.optim, **changes))


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_folder(tmp_path):
    result = train(TINY, tmp_path / "run", quiet=True)
    found = {str(path.relative_to(result.run)) for path in result.run.rglob("*") if path.is_file()}
    assert {"config.json", "environment.json", "metrics.jsonl", "timing.jsonl"} <= found
    for name in ("last", "best"):
        assert (result.run / "checkpoints" / name / "model.safetensors").is_file()
    assert any(name.startswith("tensorboard/events") for name in found)
    lines = metrics(result.run)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[-1]["test_accuracy"] == result.final
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert result.best == max(line["test_accuracy"] for line in lines)
    environment = json.loads((result.run / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()


def test_evaluation_of_a_run_finds_what_training_reported(tmp_path):
    result = train(TINY, tmp_path / "run", quiet=True)
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
    with pytest.raises(FileExistsError, match="exists and is not empty; give another folder with --out"):
        train(TINY, tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimizer_learns(optimizer, tmp_path):
    lr = 0.1 if optimizer == "sgd" else 0.01
    result = train(with_optim(optimizer=optimizer, lr=lr), tmp_path / "run", quiet=True)
    lines = metrics(result.run)
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


def test_weight_decay_spares_norms_biases_and_time_constants():
    config = dataclasses.replace(with_optim(weight_decay=0.1), model=dataclasses.replace(TINY.model, neuron="PLIF"))
    net = build_network(config, load_data(config, "test"))
    groups = build_optimizer(config.optim, net).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0, 0]
    assert {id(p) for p in groups[0]["params"]} == {id(p) for p in net.parameters() if p.dim() > 1}
    assert {id(p) for p in groups[2]["params"]} == {id(p) for name, p in net.named_parameters() if name.endswith(".w")}
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_time_constants_may_learn_at_a_rate_of_their_own():
    config = dataclasses.replace(with_optim(plif_lr_multiplier=0.1), model=dataclasses.replace(TINY.model, neuron="PLIF"))
    optimizer = build_optimizer(config.optim, build_network(config, load_data(config, "test")))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 0.05]


def test_learning_rate_warms_up_and_ends_near_zero():
    optim = Optim(lr=0.2, lr_batch=64, batch=64, epochs=10, warmup_epochs=2)
    rates = [learning_rate(optim, step, 50) for step in range(500)]
    assert rates[0] == pytest.approx(0.2 / 100)
    assert all(a < b for a, b in pairwise(rates[:99]))
    assert 0.15 < max(rates) < 0.2
    assert all(a >= b for a, b in pairwise(rates[99:]))
    assert rates[-1] < 1e-5
    assert learning_rate(dataclasses.replace(optim, schedule="constant"), 400, 50) == 0.2


def test_the_step_schedule_is_the_published_one():
    optim = Optim(lr=0.1, lr_batch=16, batch=16, epochs=192, schedule="step")
    assert [learning_rate(optim, epoch * 74, 74) for epoch in (0, 63, 64, 128)] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_a_schedule_that_moves_once_an_epoch_is_constant_within():
    optim = Optim(epochs=10, schedule_every="epoch")
    assert len({learning_rate(optim, step, 7) for step in range(14)}) == 2


def test_cosine_is_the_published_schedule_at_the_start_of_each_epoch():
    optim = Optim(epochs=320)
    assert learning_rate(optim, 160 * 7, 7) == pytest.approx(0.05)
    assert learning_rate(optim, 80 * 7, 7) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)) / 2)


def test_loss_is_computed_in_float32_at_least():
    logits = torch.randn(4, 5, dtype=torch.bfloat16)
    assert cross_entropy(logits, torch.tensor([0, 1, 2, 3])).dtype == torch.float32


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_asked_for_by_name_runs_or_is_refused(name):
    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        assert choose_device(name).type == name
    else:
        with pytest.raises(ValueError, match=f"device '{name}' was asked for by name, but torch .* sees none"):
            choose_device(name)


def test_an_unknown_device_or_data_set_is_refused():
    with pytest.raises(ValueError, match="no device named 'tpu'; use auto, cpu, cuda or mps"):
        choose_device("tpu")
    with pytest.raises(ValueError, match="no data set named 'mnist'; known: digits"):
        load_data(Config(data=Data(name="mnist")), "train")


def test_the_average_follows_weights_and_running_estimates(tmp_path):
    config = with_optim(ema_decay=0.9)
    training = Training(config, load_data(config, "train"), torch.device("cpu"))
    batches = TrainingBatches(config, training.data, training.order)
    expected = {k: v.clone() for k, v in training.net.state_dict().items()}
    for step in range(4):
        training.step(*batches[step])
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in training.net.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    for name, value in training.evaluated.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    result = train(config, tmp_path / "run", quiet=True)
    assert evaluate(result.run).accuracy == result.final


@pytest.mark.parametrize("part", ["model.safetensors", "state.json"])
def test_evaluation_refuses_damaged_weights_and_another_config(part, tmp_path):
    result = train(TINY, tmp_path / "run", quiet=True)
    config = result.run / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"T": 2', '"T": 3'))
    with pytest.raises(ValueError, match=r"config.json was changed since last was saved: model.T 2 -> 3; put it back"):
        evaluate(result.run)
    config.write_text(text)
    file = result.run / "checkpoints" / "last" / part
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"last is damaged: .*; `spikewise train --resume"):
        evaluate(result.run)


def test_results_are_the_final_the_best_and_the_mean_of_the_last(tmp_path):
    config = dataclasses.replace(with_optim(epochs=3), retention=Retention(num_last_averaged=2))
    result = train(config, tmp_path / "run", quiet=True)
    accuracies = [line["test_accuracy"] for line in metrics(result.run)]
    assert (result.final, result.best) == (accuracies[-1], max(accuracies))
    assert result.mean_of_last == pytest.approx((accuracies[1] + accuracies[2]) / 2)
    assert result.mean_over == 2


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


def test_momentum_reaches_the_optimizer():
    net = build_network(TINY, load_data(TINY, "train"))
    assert {group["momentum"] for group in build_optimizer(Optim(momentum=0.7), net).param_groups} == {0.7}


def test_the_learning_rate_is_said(tmp_path, capsys):
    train(with_optim(lr=0.2, lr_batch=64, epochs=1), tmp_path / "run")
    assert "peak learning rate 0.4 (0.2 per 64)" in capsys.readouterr().err


def test_a_console_that_went_away_does_not_stop_a_run(tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    assert train(TINY, tmp_path / "run").final > 0
    monkeypatch.setattr(sys, "stderr", None)
    assert train(TINY, tmp_path / "none").final > 0


def test_train_takes_a_config():
    with pytest.raises(ValueError, match=r"train takes a Config, such as sw.RECIPES\['digits'\]\(\), given 'digits'"):
        train("digits")
