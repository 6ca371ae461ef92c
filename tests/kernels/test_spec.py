"""What the operators are told: the same numbers in Python, C and Triton, and schemas that are the records."""

import ctypes

import pytest
import torch

from spikewise.kernels import CONNECT, SURROGATES, NeuronParams
from spikewise.kernels.spec import (
    CONNECT_CODES,
    SURROGATE_CODES,
    Connect,
    FireBackwardOutput,
    FireGrads,
    FireOutput,
    FireSpec,
    FireTensors,
    GradSpec,
    PoolWindow,
    Surrogate,
    numbers,
    specs,
    split,
)
from spikewise.native import load as native

ENUMS = {"connect": Connect, "surrogate": Surrogate}


class NamedCode(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("code", ctypes.c_int32))


def numbers_in_c(array):
    """Of an array of the library that a nameless one ends."""
    codes = (NamedCode * 64).in_dll(native.load(native.selected_variant()), array)
    found = {}
    for each in codes:
        if each.name is None:
            return found
        found[each.name.decode()] = each.code
    raise AssertionError(f"{array} has no end")


@pytest.mark.skipif(bool(native.unavailable_reason()), reason=f"no CPU kernels here: {native.unavailable_reason()}")
@pytest.mark.parametrize("what", ENUMS)
def test_c_has_the_numbers_of_python(what):
    assert numbers_in_c(f"{what}_codes") == {member.name: member.value for member in ENUMS[what]}


@pytest.mark.parametrize("what", ENUMS)
def test_triton_has_the_numbers_of_python(what):
    tl = pytest.importorskip("triton.language", reason="Triton is not installed (pip install triton, on Linux)")
    from spikewise.kernels.triton.device import neuron, norm_fire

    module = {"connect": norm_fire, "surrogate": neuron}[what]
    constants = {name: each.value for name, each in vars(module).items() if isinstance(each, tl.constexpr)}
    found = {name: value for name, value in constants.items() if isinstance(value, int)}
    assert found == {member.name: member.value for member in ENUMS[what]}


def test_everything_built_in_has_a_number_of_its_name():
    assert {name.upper(): SURROGATE_CODES[function] for name, function in SURROGATES.items()} == Surrogate.__members__
    assert {name: CONNECT_CODES[g] for name, g in CONNECT.items()} | {"NONE": Connect.NONE} == Connect.__members__


@pytest.mark.parametrize(
    ("name", "given", "returned"),
    [
        ("norm_fire", (FireTensors,), FireOutput),
        ("norm_fire_backward", (FireGrads, FireTensors), FireBackwardOutput),
    ],
)
def test_schemas_list_the_fields_of_the_records_in_their_order(name, given, returned):
    schema = getattr(torch.ops.spikewise, name).default._schema
    fields = [field for record in given for field in record._fields]
    assert [argument.name for argument in schema.arguments] == [*fields, "spec"]
    assert [result.name for result in schema.returns] == list(returned._fields)
    optional = {argument.name for argument in schema.arguments if isinstance(argument.type, torch.OptionalType)}
    assert optional == {
        field
        for record in given
        for field, kind in record.__annotations__.items()
        if type(None) in getattr(kind, "__args__", ())
    }


def test_a_flat_call_is_taken_apart_into_the_same_records():
    tensors, grads = FireTensors(*"abcdefg")._replace(current=None), FireGrads(*"hijkl")  # whatever they are
    found = split([*grads, *tensors], FireGrads, FireTensors)
    assert found == [grads, tensors]
    assert [type(record) for record in found] == [FireGrads, FireTensors]


SPECS = [
    FireSpec(),
    FireSpec(0.5, None, Surrogate.ERF, 1.7, False, Connect.IAND, 4, PoolWindow(3, 2, 1), True, 2, 0.25, 0.75, -1 / 3),
    *(FireSpec()._replace(**{name: not value}) for name, value in FireSpec()._asdict().items() if isinstance(value, bool)),
    FireSpec(v_reset=0.0),
    FireSpec(v_reset=-0.1, repeat_steps=7, num_planes=1),
]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("want", [None, GradSpec(), *(GradSpec()._replace(**{name: True}) for name in GradSpec._fields)])
def test_what_is_no_tensor_comes_back_from_one_list_of_numbers(spec, want):
    flat = tuple(map(float, numbers(spec, want)))  # as operators hand it on
    found = specs(flat)
    assert found == ((spec,) if want is None else (spec, want))
    assert [type(value) for value in found[0]] == [type(value) for value in spec]
    assert hash(found[0]) == hash(spec)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_neurons_of_numbers_and_built_in_surrogates_are_fused(surrogate):
    assert NeuronParams(0.5, torch.ones(1), 0.0, 0.75, None, surrogate).unfusible_reason() == ""


def test_surrogates_of_the_users_own_and_tensors_are_not_and_it_says_why(monkeypatch):
    monkeypatch.setitem(SURROGATES, "mine", lambda u, alpha: u)
    monkeypatch.setitem(SURROGATES, "atan", lambda u, alpha: u)  # its name is built in, it is not
    for name in ("mine", "atan", "never added"):
        assert SURROGATES.get(name) not in SURROGATE_CODES
        reason = NeuronParams(1.0, 1.0, 0.0, surrogate=name).unfusible_reason()
        assert reason == f"the surrogate {name!r} is not one of those built in"
    plain = NeuronParams(1.0, 1.0, 0.0, surrogate="sigmoid")
    for field in ("v_th", "v_reset", "alpha"):
        for tensor in (torch.zeros(1), torch.ones(3)):
            assert "are tensors, not numbers" in plain._replace(**{field: tensor}).unfusible_reason()
    for field in ("a", "b", "c"):
        assert "not one number each" in plain._replace(**{field: torch.ones(3)}).unfusible_reason()


def test_a_connection_of_the_users_own_has_no_number():
    assert (lambda a, s: a + s) not in CONNECT_CODES
