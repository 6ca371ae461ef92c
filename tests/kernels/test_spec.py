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
        ("norm_fire", (FireTensors, FireSpec), FireOutput),
        ("norm_fire_backward", (FireGrads, FireTensors, FireSpec, GradSpec), FireBackwardOutput),
    ],
)
def test_schemas_list_the_fields_of_the_records_in_their_order(name, given, returned):
    schema = getattr(torch.ops.spikewise, name).default._schema
    assert [argument.name for argument in schema.arguments] == [field for record in given for field in record._fields]
    assert [result.name for result in schema.returns] == list(returned._fields)
    optional = {argument.name for argument in schema.arguments if isinstance(argument.type, torch.OptionalType)}
    assert optional == {
        field
        for record in given
        for field, kind in record.__annotations__.items()
        if type(None) in getattr(kind, "__args__", ())
    }


def test_a_flat_call_is_taken_apart_into_the_same_records():
    tensors, grads = FireTensors(*"abcdefg")._replace(current=None), FireGrads(*"hijk")  # whatever they are
    spec = FireSpec(0.5, None, Surrogate.ERF, 1.7, False, Connect.IAND, 4, PoolWindow(3, 2, 1), True, 2)
    records = [grads, tensors, spec, GradSpec(True, want_v=True)]
    flat = [[*value] if isinstance(value, PoolWindow) else value for record in records for value in record]  # as operators do
    found = split(flat, FireGrads, FireTensors, FireSpec, GradSpec)
    assert found == records
    assert [type(record) for record in found] == [type(record) for record in records]
    assert hash(found[2]) == hash(spec)


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
