"""Products of few rows with large float32 matrices on the CPU.

Such a product should take as long as reading the matrix once. MKL's kernels do not reach that: on
an AMD EPYC with 2 threads, 1, 4 and 8 rows by a vocabulary of [151,674, 896] take 32, 68 and 64 ms;
as products of the matrix with 4 columns they take 15, 16 and 29 ms, and the memory's bandwidth
allows 12. Decode steps consist of such products. 16-bit products are computed by oneDNN, which is
not affected.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear, pad

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUP = 4
"""Rows of one product: MKL is as fast for 4 columns as for 2, and slower for more."""

_MOST_ROWS = 12
"""Above it MKL's own way is as fast for wide matrices."""

_LEAST_WEIGHTS = 1 << 19
"""Smaller matrices stay in the processor's cache, where the copies would outweigh the gain."""


class NarrowProducts:
    """The large linear layers of a language model whose products can be faster.

    Args:
        model: A native InternVL.
    """

    def __init__(self, model: Any) -> None:
        parts = (model.model.language_model, model.get_output_embeddings())
        self._layers = [
            module for part in parts if part is not None for module in part.modules()
            if _gains(module)
        ]  # fmt: skip

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Context in which these layers use `narrow_product`; afterwards they are as before."""
        for layer in self._layers:
            vars(layer)["forward"] = partial(narrow_product, weight=layer.weight, bias=layer.bias)
        try:
            yield
        finally:
            for layer in self._layers:
                vars(layer).pop("forward", None)


def _gains(module: nn.Module) -> bool:
    """Whether a module is a plain linear layer in float32 on a CPU whose products MKL computes."""
    return (
        type(module) is nn.Linear
        and "forward" not in vars(module)  # as accelerate's hooks and adapters set it
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and module.weight.numel() >= _LEAST_WEIGHTS
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    )


def narrow_product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`torch.nn.functional.linear`, faster for few rows; the results differ by rounding only.

    Args:
        rows: float32 [..., in].
        weight: float32 [out, in].
        bias: float32 [out]; None: none.

    Returns:
        float32 [..., out].
    """
    out, size = weight.shape
    count = rows.numel() // size
    is_wide = out > size
    if count > (_MOST_ROWS if is_wide else _GROUP) or (count == 1 and not is_wide):
        return linear(rows, weight, bias)
    flat = rows.reshape(count, size)
    result = flat.new_empty(count, out)
    for start in range(0, count, _GROUP):
        group = flat[start : start + _GROUP]
        if is_wide and len(group) < _GROUP:
            group = pad(group, (0, 0, 0, _GROUP - len(group)))
        product = torch.mm(weight, group.t()).t()
        result[start : start + _GROUP] = product[: count - start]
    if bias is not None:
        result += bias
    return result.view(*rows.shape[:-1], out)
