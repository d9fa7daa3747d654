"""How matrix products are computed: in float32, with bfloat16 inputs, or in TF32 on GPUs that have it.

Parameters, sums, losses and optimiser states are always float32. Whether a GPU may use TF32 is a process-wide switch in
torch. It is set for a training step and restored after it, so that evaluation, export and the user's own products stay
as they were. With fp32 it is off during the step, whatever it was before.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from inference.shared.errors import UserError

AMPERE = (8, 0)
"""The compute capability from which NVIDIA GPUs multiply bfloat16 and TF32; older ones only emulate bfloat16."""


@dataclass(frozen=True)
class Precision:
    """The precision of a run.

    Attributes:
        product_type: type of the inputs of matrix products; everything else is float32.
        tf32: whether float32 products may use 10 bits of their inputs' mantissas (on a GPU).
    """

    product_type: torch.dtype = torch.float32
    tf32: bool = False

    def apply(self) -> AbstractContextManager[None]:
        """Let torch multiply float32 numbers in this precision until the end of the block."""
        return float32_products("tf32" if self.tf32 else "ieee")


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision of that name; "auto" is the fastest that is native to the device.

    Raises:
        UserError: TF32 was requested on a device without it.
    """
    if name == "tf32" and not _has_tf32(device):
        found = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the device {device.type}"
        raise UserError(
            "precision: tf32 expects an NVIDIA GPU of compute capability 8.0 or higher, "
            f"found {found}; use auto, fp32 or bf16"
        )
    if name == "bf16" or (name == "auto" and _has_bfloat16(device)):
        return Precision(torch.bfloat16)
    return Precision(tf32=name == "tf32")


def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.version.hip is not None or _has_tf32(device)
    # AVX512-BF16 or AMX; torch has no public function for either
    private = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in private)


def _has_tf32(device: torch.device) -> bool:
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device) >= AMPERE


@contextmanager
def float32_products(kind: str) -> Iterator[None]:
    """Compute float32 products as "ieee" or "tf32" until the end of the block, on GPUs and in oneDNN.

    Source: torch's notes on CUDA semantics, `fp32_precision`.
    """
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    enough = ("ieee", "none") if kind == "ieee" else (kind,)  # "none" is not set: float32
    changed = [(backend, backend.fp32_precision) for backend in backends if backend.fp32_precision not in enough]
    for backend, _ in changed:
        backend.fp32_precision = kind
    try:
        yield
    finally:
        for backend, before in changed:
            backend.fp32_precision = before
