import dataclasses
import inspect
import json
import re
from typing import get_args, get_type_hints

import pytest
import tyro

from spikewise.config import Config, Data, Memory, Model, Optim, Range, Retention, from_json, to_json
from spikewise.models.registry import DEFAULTS
from spikewise.recipes import RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_config_survives_json(recipe):
    config = RECIPES[recipe]()
    assert from_json(to_json(config)) == config
    assert config.recipe == recipe
    config = dataclasses.replace(config, imports=("a.b", "/c.py"))
    assert from_json(to_json(config)) == config


def test_the_model_section_has_the_options_and_defaults_of_build_model():
    ours = {f.name: f.default for f in dataclasses.fields(Model)}
    ours.pop("name")
    assert ours == {k: v for k, v in DEFAULTS.items() if k != "in_channels"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": {"lrr": 1}}, r"Optim has no field 'lrr'; did you mean 'lr'\?"),
        ({"modle": {}}, r"the config: Config has no field 'modle'; did you mean 'model'\?"),
        ({"data": {"xyz": 1}}, r"the config: Data has no field 'xyz'; its fields: name, root"),
        ({"optim": {"lr": "fast"}}, r"optim.lr='fast' has the wrong type; use float"),
        ({"optim": {"batch": True}}, r"optim.batch=True has the wrong type; use int"),
        ({"optim": {"batch": 1.5}}, r"optim.batch=1.5 has the wrong type; use int"),
        ({"optim": {"optimizer": "lion"}}, r"optim.optimizer='lion' is unknown; use 'sgd', 'adam', 'adamw'"),
        ({"optim": 3}, r"optim=3 must be an object with the fields of Optim"),
        ({"model": {"v_reset": "none"}}, r"model.v_reset='none' has the wrong type; use float or null"),
        ({"optim": {"lr": -1}}, r"optim.lr=-1.0 is out of range; use a number above 0"),
        (
            {"optim": {"warmup_epochs": -1}},
            r"optim.warmup_epochs=-1.0 is out of range; use 0 or more",
        ),
        ({"seed": -1}, r"seed=-1 is out of range"),
        ({"imports": "neurons"}, r"imports='neurons' has the wrong type; use a list of names"),
        ({"imports": [1]}, r"imports=\[1\] has the wrong type"),
        ({"data": {"split_by": "time"}}, r"data.split_by='time' is unknown; use 'count', 'duration'"),
        ({"data": {"event_drop": 1.0}}, r"data.event_drop=1.0 is out of range; use at least 0 and below 1"),
        ({"data": {"resized_crop": -0.1}}, r"data.resized_crop=-0.1 is out of range; use at least 0 and below 1"),
        ({"data": {"rotate": 200}}, r"data.rotate=200.0 is out of range; use 0 to 180 degrees"),
        ({"data": {"mixup": 0.001}}, r"data.mixup=0.001 is out of range; use 0, or 0.01 to 100"),
        ({"data": {"cutmix": -1}}, r"data.cutmix=-1.0 is out of range; use 0, or 0.01 to 100"),
        ({"format_version": True}, r"format_version True"),
        ({"model": {"v_th": 10**400}}, r"is out of range; use a finite number"),
        ({"model": {"alpha": float("inf")}}, r"model.alpha=inf is out of range; use a finite number"),
        ({"format_version": 99}, r"format_version 99; this spikewise reads 1 to 2: update it"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps(change))


@pytest.mark.parametrize("kind", [Data, Model, Optim, Retention, Config])
def test_every_range_is_held(kind):
    ranges = {
        name
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if any(isinstance(note, Range) for note in get_args(hint))
    }
    assert ranges
    for name in ranges:  # none of them allows a negative number
        negative = (-1, -1) if name == "sensor" else -1
        with pytest.raises(ValueError, match=rf"{name}=\(?-1[-., 01]*\)? is out of range; use "):
            kind(**{name: negative})


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000], ids=["cut", "list", "number", "deep"])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(ValueError, match="the config is"):
        from_json(text)


def test_whole_numbers_serve_as_floats_and_null_as_none():
    config = from_json('{"optim": {"lr": 1}, "model": {"v_reset": null}}')
    assert config.optim.lr == 1.0
    assert config.model.v_reset is None


def test_learning_rate_scales_with_the_batch():
    assert Optim(lr=0.1, lr_batch=256, batch=64).peak_lr == pytest.approx(0.025)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1
    assert Data() == Data()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optim(schedule="linear"), "optim.schedule='linear' is unknown; use 'cosine', 'step', 'constant'"),
        (lambda: Data(temporal_delete_per="recording"), "data.temporal_delete_per='recording' is unknown"),
        (lambda: Optim(lr="fast"), "optim.lr='fast' has the wrong type"),
        (lambda: Optim(lr=1e300), "optim.lr=1e[+]300 is out of range"),
        (lambda: Optim(weight_decay=float("inf")), "optim.weight_decay=inf is out of range"),
        (lambda: Config(seed=1.5), "seed=1.5 has the wrong type; use int"),
        (lambda: Config(data={"name": "digits"}), "data=.* has the wrong type; use Data"),
    ],
)
def test_a_config_made_in_python_is_checked_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("section", [Config, Data, Memory, Model, Optim, Retention])
def test_each_options_help_is_the_comment_beside_it_and_no_other(section, capsys):
    """A comment above a field would also be shown for the one below, if that had none of its own."""
    written, above = {}, []
    for line in inspect.getsource(section).splitlines():
        if comment := re.fullmatch(r"    # (.*)", line):
            above.append(comment[1])
            continue
        if about := re.match(r"    (\w+): ", line):
            written[about[1]] = line.partition("  # ")[2] or " ".join(above)
        above = []
    fields = {field.name for field in dataclasses.fields(section) if not dataclasses.is_dataclass(field.default_factory)}
    texts = {name: written[name] for name in fields}
    assert all(texts.values()), f"{[name for name in texts if not texts[name]]} say nothing"
    assert len({*texts.values()}) == len(texts)
    with pytest.raises(SystemExit):
        tyro.cli(tyro.conf.AvoidSubcommands[section], args=["--help"])
    shown = "".join(re.sub(r"[│╭╮╰╯─]", "", capsys.readouterr().out).split())
    for name, text in texts.items():
        if name not in ("recipe", "imports"):  # no options
            assert shown.count("".join(text.split())), name
