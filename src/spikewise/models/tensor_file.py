"""The content of a safetensors file in one copy: tensors go from where they are straight to their place in it."""

import json
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor

from ..disk import PAGE

DTYPES = {  # as the format names them; a file holds them from the last to the first
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}
ORDER = {dtype: number for number, dtype in enumerate(reversed(DTYPES))}


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> memoryview:
    """The bytes that `safetensors.torch.save` makes, at the cost of copying the tensors once, from any device and layout.

    Raises:  ValueError for a type that these files do not hold here
    Source:  https://huggingface.co/docs/safetensors: the header's length (8 bytes), the header, the tensors without gaps
    """
    if strange := [name for name, tensor in tensors.items() if tensor.dtype not in DTYPES]:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ValueError(f"{strange[0]} is {tensors[strange[0]].dtype}, which no weights file holds; use one of {allowed}")
    names = sorted(tensors, key=lambda name: (ORDER[tensors[name].dtype], name))
    ends = list(accumulate(tensors[name].nbytes for name in names))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, end in zip(names, ends, strict=True):
        tensor = tensors[name]
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [end - tensor.nbytes, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    size = begin + (ends[-1] if ends else 0)
    room = torch.empty(PAGE + size, dtype=torch.uint8, device="cpu")
    content = room[-room.data_ptr() % PAGE :][:size]  # so that it may go to the disk as it is (disk.write)
    memory = content.numpy().data
    memory[:begin] = len(text).to_bytes(8, "little") + text
    for name, end in zip(names, ends, strict=True):
        tensor = tensors[name].detach()
        place = content[begin + end - tensor.nbytes : begin + end]
        place.view(tensor.dtype).view(tensor.shape).copy_(tensor)
    return memory
