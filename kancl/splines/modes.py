"""What torch does with a computation while it runs: which ways can follow it."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

READABLE: set[type] = {Tensor, Parameter}
"""Types of tensors whose memory a kernel may read and write: no subclass does as much."""


def readable(*tensors: Tensor) -> bool:
    """Whether kernels can be given these tensors."""
    return READABLE.issuperset(map(type, tensors))


def transforms() -> bool:
    """Whether a function transform (``vmap``, ``grad``, ``jvp``, ...) is at work."""
    return torch._C._are_functorch_transforms_active()


def plain_operators_only() -> bool:
    """Whether only torch's own operators, out of place, can be followed.

    Forward mode, ``torch.jit.trace`` and ONNX know no derivative, no trace and no
    translation of anything else.
    """
    return (
        forward_ad._current_level >= 0
        or torch.jit.is_tracing()
        or (torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export())
    )


def graph() -> bool:
    """Whether operators are recorded for later: compiled, exported or traced."""
    return torch.compiler.is_compiling() or plain_operators_only()


def dispatch_modes() -> bool:
    """Whether someone watches every operator, as torch's counters of FLOPs do."""
    return torch._C._len_torch_dispatch_stack() > 0


def batched(tensor: Tensor) -> bool:
    """Whether the tensor holds one value per model or sample of a ``vmap``."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def several_processes() -> bool:
    """Whether others may train the same network in their own memory."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
