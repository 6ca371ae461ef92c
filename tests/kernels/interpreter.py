"""Triton's interpreter, mended where it is older than NumPy: importing this file is enough.

NumPy 2.4 makes no number of an array of one element, which is what a kernel's loop bounds are under Triton below 3.7. GPUs run
the same kernels without it.
"""

import os

import triton
from torch.torch_version import TorchVersion
from triton.runtime import interpreter

patch_tensor = interpreter._patch_lang_tensor


def patch_tensor_with_index(tensor, *scope):
    patch_tensor(tensor, *scope)
    tensor.__index__ = lambda self: int(self.handle.data.item())


if os.environ.get("TRITON_INTERPRET") == "1" and TorchVersion(triton.__version__) < "3.7":
    interpreter._patch_lang_tensor = patch_tensor_with_index
