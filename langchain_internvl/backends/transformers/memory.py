"""Memory of a device that the KV cache may take, and detection of out-of-memory errors."""

from __future__ import annotations

import gc
import os
import re
import traceback
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import torch

_GPU_SHARE, _CPU_SHARE = 0.8, 0.5
_UNKNOWN = 8 << 30
_CGROUP = Path("/sys/fs/cgroup/memory.max")


_FULL = re.compile(
    r"DefaultCPUAllocator|CUDA error: out of memory|cudaErrorMemoryAllocation"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|(cublas|cudnn|cusolver|cusparse)\w*[^.]*(out of memory|alloc_failed)",
    re.IGNORECASE,
)
"""Out-of-memory messages of errors without a specific type: torch's CPU allocator, the CUDA
runtime, and libraries that allocate their own handles and workspaces."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory; judged by the message where torch has no type."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and _FULL.search(str(error)) is not None
    )


def forget_locals(error: BaseException | None) -> None:
    """Clear the local variables of an error's traceback frames, which may hold tensors.

    Callers may keep errors for long; the running sequences need that memory.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__ if error.__cause__ is None else error.__cause__


def free_model(model: weakref.ref[Any]) -> None:
    """Free the weights of an unused model, and return the memory to the device.

    Args:
        model: The model. Reference cycles may keep it alive, such as accelerate's hooks.
    """
    if (alive := model()) is not None:
        _drop_hooks(alive)
        del alive
    if model() is not None:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _drop_hooks(model: Any) -> None:
    """Drop accelerate's hooks; its own removal function would first load offloaded weights."""
    for module in model.modules():
        if hasattr(module, "_hf_hook"):
            for name in ("_hf_hook", "_old_forward", "forward"):
                vars(module).pop(name, None)


def free_for_cache(model: Any) -> int:
    """Default KV-cache budget, in bytes.

    Args:
        model: A native InternVL. Each layer's keys and values are on the device of the layer, so
            the device with the least free memory per layer sets the budget.

    Returns:
        On GPUs four fifths of the free memory, including unused memory of torch's allocator; on the
        CPU half of the machine's memory, or of its container's limit.
    """
    layers = Counter(layer_device(layer) for layer in model.model.language_model.layers)
    total = sum(layers.values())
    return min(
        int(_free(device) * total / count)
        for device, count in layers.items()
    )  # fmt: skip


def layer_device(layer: Any) -> torch.device:
    """The device of a layer's computation, and of its keys and values."""
    hook = getattr(getattr(layer, "_hf_hook", None), "execution_device", None)
    return next(layer.parameters()).device if hook is None else torch.device(hook)


def _free(device: torch.device) -> float:
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + unused) * _GPU_SHARE
    return min(_machine(), _container()) * _CPU_SHARE


def _machine() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not available on every system
        return 2 * _UNKNOWN


def _container() -> float:
    """The limit of this process's control group (Linux, version 2)."""
    try:
        return float(_CGROUP.read_text("ascii"))
    except (OSError, ValueError):  # no limit file, or "max"
        return float("inf")
