"""What a decode step writes, reads from the device, and spends on sampling."""

from __future__ import annotations

import statistics
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.random_model import VOCABULARY, loop_of, make_model, words
from benchmarks.row import Bench, Result, Row, Study, timed
from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.backends.transformers.sampling import SamplerState, sample


@torch.inference_mode()
def measure(bench: Bench) -> dict[str, Result]:
    """Count bytes and device reads; time sampling beside a step of a whole 0.5B model."""
    return {
        "written": _written(bench),
        "device_reads": _device_reads(bench),
        "sampling": _sampling(bench),
    }


def _written(bench: Bench) -> Result:
    """Bytes of the KV cache that a step changes, over those of a column: one token of each."""
    length, rows = bench.size(2000, 60), bench.size(16, 2)
    loop = loop_of(bench.model, prefix_cache=False)
    begun = [loop.add(Request(words(length, n), max_tokens=4))[0] for n in range(rows)]
    tensors = [
        tensor for one in begun if one.slot for layer in one.slot.block.layers for tensor in layer
    ]
    before = [tensor.clone() for tensor in tensors]
    places = [tensor.data_ptr() for tensor in tensors]
    loop.step()
    changed = sum(
        int((tensor != copy).sum()) * tensor.element_size()
        for tensor, copy in zip(tensors, before, strict=True)
    )
    if places != [tensor.data_ptr() for tensor in tensors]:
        raise SystemExit("the KV cache has moved")
    column = rows * loop._slots.shape.token_bytes  # noqa: SLF001
    loop.clear()
    return Result([changed / column], f"{rows} sequences x {length} tokens, {column:,} bytes")


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that wait for a number from the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        to_cpu = "_to_copy" in name and "cpu" in str(kwargs)
        self.count += to_cpu or any(one in name for one in ("_local_scalar_dense", "nonzero"))
        return func(*args, **(kwargs or {}))


def _device_reads(bench: Bench) -> Result:
    """Transfers of a greedy step of 8 rows; `tolist` of a tensor is one transfer."""
    loop = loop_of(bench.model, prefix_cache=False)
    for number in range(8):
        loop.add(Request(words(50, number), max_tokens=50))
    loop.step()
    lists = 0
    tolist = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        nonlocal lists
        lists += 1
        return tolist(tensor)

    with patch.object(torch.Tensor, "tolist", counted), _Reads() as reads:
        loop.step()
    loop.clear()
    return Result([float(reads.count + lists)], "counted on this CPU's path, 8 rows")


def _sampling(bench: Bench) -> Result:
    """Sampling of 16 rows, over a decode step of them on a 0.5B model."""
    model = make_model(1, bench.size(24, 1))
    loop = loop_of(model, prefix_cache=False)
    for number in range(16):
        loop.add(Request(words(200, number), max_tokens=20))
    steps = [timed(loop.step) for _ in range(bench.size(8, 2))]
    loop.clear()
    settings = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.1, seed=1)
    states = [SamplerState(settings) for _ in range(16)]
    for state in states:
        for token in words(200, 3):
            state.see(token)
    logits = torch.randn(16, VOCABULARY) * 3
    sample(logits, states)
    times = [timed(lambda: sample(logits, states)) for _ in range(bench.size(15, 2))]
    step = statistics.median(steps)
    weights = sum(one.nbytes for one in model.model.language_model.parameters())
    return Result(
        [one / step for one in times],
        f"{1000 * statistics.median(times):.1f} of {1000 * step:.0f} ms, 16 rows, "
        f"{VOCABULARY:,} entries",
        profile=lambda: sample(logits, states),
        limit=f"reading 16 rows of logits once {1e3 * logits.nbytes / bench.peaks.bandwidth:.2f} "
        f"ms, the weights {1e3 * weights / bench.peaks.bandwidth:.0f} ms",
    )


STUDY = Study(
    (
        Row("written", "bytes written to caches in a step / bytes of one column", 1.1),
        Row("device_reads", "device reads of a greedy step, 8 rows", 1, "reads"),
        Row("sampling", "sampling of 16 rows / a decode step of a 0.5B model", 0.05),
    ),
    measure,
)
