"""Files of every format, cut short, changed, hostile or of another kind: refused in one line that names the file, or read."""

import io
import math
import random
import struct
import warnings

import numpy as np
import pytest
import torch

from spikewise.export.integer import to_integers
from spikewise.export.integer_runner import Runner, read_program, write_program
from spikewise.models import build_model
from spikewise.models.tensor_file import serialize
from spikewise.models.weights import load_pretrained, serialize_pretrained, to_published

SIDE = 8


def small_net():
    return build_model("sew_7b", num_classes=3, num_blocks=1, width=0.25)


def saved(content, **options):
    with io.BytesIO() as file:
        torch.save(content, file, **options)
        return file.getvalue()


def published_net():
    net = build_model("sew_7b", num_classes=3, num_blocks=1)
    return {"model": to_published(net), "args": {"connect_f": "ADD"}}


MAKERS = {
    "net.safetensors": lambda: bytes(serialize_pretrained(small_net())),
    "net.pth": lambda: saved(published_net()),
    "legacy.pt": lambda: saved(published_net(), _use_new_zipfile_serialization=False),
    "net.spk": lambda: write_program(to_integers(small_net().eval(), shape=(SIDE, SIDE))),
}


def open_file(path):
    if path.suffix != ".spk":
        return load_pretrained(path)
    program = read_program(path)
    small = math.prod(program.shape) < 10**6
    return Runner(program).step(np.zeros((1, *program.shape), np.int32)) if small else None


@pytest.fixture(params=MAKERS)
def whole(request, tmp_path):
    """The path of a good file, which is read as it is."""
    path = tmp_path / request.param
    path.write_bytes(MAKERS[request.param]())
    open_file(path)
    return path


def refused_or_read(path):
    """Whether a file is read; refused in other than one line that names it is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            open_file(path)
        except ValueError as error:
            refusal = str(error)
        else:
            return True
    assert path.name in refusal
    assert "\n" not in refusal
    return False


def test_a_file_that_ends_early_is_refused(whole):
    content = whole.read_bytes()
    for length in {0, 1, 7, 8, 9, 40, *range(50, len(content), len(content) // 23), len(content) - 1}:
        whole.write_bytes(content[:length])
        assert not refused_or_read(whole), f"{length} of {len(content)} bytes"


def test_changed_bytes_are_refused_or_change_numbers_only(whole):
    content, chance = whole.read_bytes(), random.Random(0)
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 4, 40))):
            place = chance.randrange(min(len(content), chance.choice((64, 1000, len(content)))))
            changed[place] = chance.randrange(256)
        whole.write_bytes(changed)
        refused_or_read(whole)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.onnx", b"\x08\x0a\x12\x07pytorch", "is an ONNX file"),
        ("net.bin", b"SPKWINT\0" + b"\0" * 60, "is an integer network"),
        ("net.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "is an HDF5 file"),
        ("net.pth", b"PK\x03\x04" + b"\0" * 60, "not a checkpoint of plain tensors"),
        ("net.pth", b"<html>404</html>", "not a checkpoint of plain tensors"),
        ("net.pth", b"", "not a checkpoint of plain tensors"),
        ("net.safetensors", struct.pack("<Q", 2**62) + b"{}", "not a readable safetensors file"),
        ("net.safetensors", struct.pack("<Q", 2) + b"[]", "not a readable safetensors file"),
        ("net", struct.pack("<Q", 8) + b'{"x":{}}', "not a readable safetensors file"),
        ("net", bytes(serialize({"x": torch.zeros(1)})), "of no network that build_model makes: x"),
    ],
)
def test_files_of_other_kinds_say_what_they_are(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_pretrained(tmp_path / name)
    assert name in str(caught.value)


def test_safetensors_need_no_suffix(tmp_path):
    (tmp_path / "file").write_bytes(serialize_pretrained(small_net()))
    assert load_pretrained(tmp_path / "file").spec["num_blocks"] == 1


def spoil(change):
    program = to_integers(small_net().eval(), shape=(SIDE, SIDE))
    change(program)
    return program


def set_numbers(kind, *numbers):
    def change(program):
        operation = next(operation for operation in program.operations if operation.kind == kind)
        operation.numbers = numbers

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_numbers(0, 0, 1), "operation 0, conv, does not fit"),
        (set_numbers(0, 1, 2**31 - 1), "conv, does not fit"),
        (set_numbers(1, -1, 0, 0, 0), "fire, does not fit"),
        (set_numbers(1, 0, 31, 0, 0), "fire, does not fit"),
        (set_numbers(5, 2, 0, 0), "maxpool, does not fit"),
        (set_numbers(5, 100, 1, 0), "maxpool, does not fit"),
        (lambda program: program.operations.reverse(), "reads what no operation before it has written"),
        (lambda program: program.operations.pop(), "features, and is given 0"),
        (lambda program: program.operations.pop(0), "does not fit|no operation before"),
    ],
)
def test_hostile_programs_are_refused_before_they_run(change, message, tmp_path):
    (tmp_path / "net.spk").write_bytes(write_program(spoil(change)))
    with pytest.raises(ValueError, match=message):
        read_program(tmp_path / "net.spk")


def test_a_program_that_claims_tables_of_any_size_is_refused(tmp_path):
    content = bytearray(write_program(spoil(lambda _: None)))
    for field in (12, 24, 28, 36):  # channels, classes, features, operations
        for value in (2**32 - 1, 2**31, 2**16):
            changed = bytearray(content)
            changed[field : field + 4] = struct.pack("<I", value)
            (tmp_path / "net.spk").write_bytes(changed)
            with pytest.raises(ValueError, match=r"net\.spk"):
                read_program(tmp_path / "net.spk")
