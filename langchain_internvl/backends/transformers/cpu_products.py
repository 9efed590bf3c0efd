"""Products of float32 rows and matrices on the CPU, by oneDNN in place of MKL.

torch computes float32 linear layers with MKL, whose kernels use no AVX-512 on AMD's processors, and
need up to ten times the time of reading the matrix for two to eight rows. oneDNN is part of torch
too: torch uses it for 16 bits, and its inductor for float32. Measured on an AMD EPYC with 2
threads, matrices not in the cache, MKL / oneDNN in ms:

    matrix [out, in]      1 row          4 rows         16 rows        1,025 rows
    [1024, 1024]          0.20 / 0.16    0.41 / 0.19    0.42 / 0.23    12.4 / 5.0
    [4864, 896]           0.98 / 0.44    1.57 / 0.62    2.10 / 0.87    47.9 / 25.1
    [151674, 896]         31.5 / 10.2    59.3 / 20.8    75.8 / 26.8

16-bit products are computed by oneDNN anyway. Its float32 rows are the same to the bit for two and
more rows; one row alone differs by rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, pad

_LEAST_WORK = 1 << 19
"""Rows times weights from which oneDNN is faster, as a call of it costs about 10 us more.

Measured, MKL / oneDNN in us: 1 row x [512, 512] 66 / 88, 1 row x [896, 896] 186 / 150; in one
thread, 8 rows x [128, 128] 5 / 13 and 64 rows x [128, 128] 21 / 19."""

_BLOCKS = (256, 64, 32)
"""Numbers of rows of one call: oneDNN keeps memory of a result's size for each number of rows that
it has met with a matrix such as [4864, 896]: 4 GB after prompts of 20 to 680 tokens."""

_RESTS = (1, 4, 8, 16, 32)
"""Numbers to which the rows of a rest are padded; 2 rows take as long as 4. One row, whose rounding
differs, is not padded where it is the only one."""

_FAST = "AVX512"
"""torch's name of the instructions with which oneDNN is faster than MKL."""


class CPULinear(nn.Linear):
    """A linear layer whose large products are computed by oneDNN.

    The parameters are those of the `torch.nn.Linear` that it was. Products for which a gradient is
    asked, that are compiled or converted by autocast, small ones and other dtypes are as before.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in the base class
        """Product of float32 rows [..., in] and the weight, plus bias: float32 [..., out]."""
        if _can_compute(input, self.weight, self.bias):
            return _product(input, self.weight, self.bias)
        return linear(input, self.weight, self.bias)


def use_cpu_products(model: Any) -> int:
    """Let the plain float32 linear layers of a model on the CPU be computed by oneDNN.

    Layers of other classes (quantised, adapters of peft) and layers whose `forward` has been
    replaced (accelerate's hooks) stay as they are. Parameters are neither copied nor changed.

    Args:
        model: A model with its weights and adapters in place.

    Returns:
        Number of changed layers; 0 where oneDNN is not faster or has no such product.
    """
    layers = [module for module in model.modules() if _is_plain(module)]
    if not (layers and is_faster()):
        return 0
    for layer in layers:
        layer.__class__ = CPULinear
    return len(layers)


def _product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    flat = rows.reshape(-1, weight.shape[1])
    parts = flat.split(_blocks(len(flat)))  # type: ignore[no-untyped-call]
    if len(parts) == 1:
        result = _onednn(_padded(flat), weight, bias)[: len(flat)]
    else:
        result = flat.new_empty(len(flat), len(weight))
        start = 0
        for part in parts:
            product = _onednn(_padded(part, _RESTS[1]), weight, bias)
            result[start : start + len(part)] = product[: len(part)]
            start += len(part)
    return result.view(*rows.shape[:-1], len(weight))


def _padded(rows: torch.Tensor, least: int = 1) -> torch.Tensor:
    """The rows of a block, with zeros up to one of few numbers, and to at least `least`."""
    count = len(rows)
    missing = next((size for size in _RESTS if size >= max(count, least)), count) - count
    return pad(rows, (0, 0, 0, missing)) if missing else rows


def _blocks(count: int) -> list[int]:
    """Numbers of rows that are multiplied at once: a few different ones, and rests up to 32."""
    sizes = []
    while count > _BLOCKS[-1]:
        sizes.append(next(size for size in _BLOCKS if size <= count))
        count -= sizes[-1]
    return [*sizes, count] if count else sizes


def _onednn(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - no public name
        rows, weight, bias, "none", [], ""
    )
    return product


@cache
def is_faster() -> bool:
    """Whether this processor gains, and torch's own build has the product and computes it right."""
    return (
        torch.backends.cpu.get_cpu_capability() == _FAST
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and _is_right()
    )


def _is_right() -> bool:
    """Whether the operator exists with these arguments and equals `linear` within rounding.

    It has no public name, so another version of torch may change it.
    """
    numbers = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 80, generator=numbers), torch.randn(96, generator=numbers)
    try:
        with torch.inference_mode():
            return all(
                torch.allclose(
                    _product(rows, weight, one),
                    linear(rows, weight, one),
                    atol=1e-4,
                    rtol=1e-4,
                )
                for count in (1, 2, 40)
                for one in (bias, None)
                for rows in [torch.randn(1, count, 80, generator=numbers)]
            )
    except Exception:  # noqa: BLE001 - of any kind: torch's own layers are used then
        return False


def _is_plain(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and type(module.weight) is nn.Parameter  # not a quantised tensor
        and "forward" not in vars(module)
        and module.weight.device.type == "cpu"
        and module.weight.dtype is torch.float32
    )


def _can_compute(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    with_gradients = (rows, weight) if bias is None else (rows, weight, bias)
    return (
        rows.numel() * weight.shape[0] >= _LEAST_WORK
        and rows.dtype is weight.dtype is torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and not (torch.is_grad_enabled() and any(one.requires_grad for one in with_gradients))
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )
