"""How much memory there is, and whether an error says that it is full."""

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
"""What errors without a type of their own say where memory is full: torch's allocator of the CPU,
the CUDA runtime, and libraries that allocate handles and workspaces by themselves."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full; torch has no type for most of them."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and _FULL.search(str(error)) is not None
    )


def forget_locals(error: BaseException | None) -> None:
    """Keep what happened where, but none of the tensors that were at work there.

    Callers may keep errors for long, and what runs on needs their memory.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__ if error.__cause__ is None else error.__cause__


def free_model(model: weakref.ref[Any]) -> None:
    """Free the weights of a model that nobody uses any more, and give their memory back.

    Args:
        model: The model. Cycles may keep it alive: accelerate's hooks are such.
    """
    if (alive := model()) is not None:
        _drop_hooks(alive)
        del alive
    if model() is not None:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _drop_hooks(model: Any) -> None:
    """Drop accelerate's hooks; its own way to remove them first loads what is offloaded."""
    for module in model.modules():
        if hasattr(module, "_hf_hook"):
            for name in ("_hf_hook", "_old_forward", "forward"):
                vars(module).pop(name, None)


def free_for_cache(model: Any) -> int:
    """Bytes that keys and values may take, if nobody said how many.

    Args:
        model: A native InternVL. Each layer's keys and values lie where the layer is, so of
            several devices the one decides that has least for its share of the layers.

    Returns:
        Of GPUs four fifths of what is free now, also within torch's allocator; of the CPU half of
        this machine's memory, or of what its container may have.
    """
    layers = Counter(layer_device(layer) for layer in model.model.language_model.layers)
    total = sum(layers.values())
    return min(
        int(_free(device) * total / count)
        for device, count in layers.items()
    )  # fmt: skip


def layer_device(layer: Any) -> torch.device:
    """Where a layer computes, and its keys and values are."""
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
    except (AttributeError, OSError, ValueError):  # not on every system
        return 2 * _UNKNOWN


def _container() -> float:
    """The limit of this process's control group (Linux, version 2)."""
    try:
        return float(_CGROUP.read_text("ascii"))
    except (OSError, ValueError):  # none; "max"
        return float("inf")
