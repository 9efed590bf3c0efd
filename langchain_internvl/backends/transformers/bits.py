"""Weights of 8 and 4 bits: quantised by bitsandbytes while they are loaded."""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from langchain_internvl._optional import require
from langchain_internvl.errors import RequestError

DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
"""Data types of weights by name."""

_BLOCK = 64
"""Weights that share a scale in bitsandbytes' 4-bit format."""


class _PassesOnce(logging.Filter):
    """Passes each text once: bitsandbytes logs a line for each product of 8-bit weights."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_new = text not in self._passed
        self._passed.add(text)
        return is_new


_PASSES_ONCE = _PassesOnce()


def quantization_config(name: str | None, dtype: str = "auto") -> BitsAndBytesConfig | None:
    """The bitsandbytes config of a quantisation.

    Only the language model is quantised, except its head. The vision tower and the projector take
    little memory, and their quantisation errors would affect every token.

    Args:
        name: "8bit", "4bit" (NF4, computed in `dtype`) or None.
        dtype: As in `LoadOptions`; "auto": bfloat16.

    Raises:
        ImportError: bitsandbytes is not installed.
        RequestError: The name is unknown.
    """
    if name is None:
        return None
    if name not in {"8bit", "4bit"}:
        raise RequestError(f"quantization is 8bit, 4bit or None, not {name!r}")
    require("bitsandbytes", extra="quantization")
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_PASSES_ONCE)
    kept = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
    if name == "8bit":
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_8bit=True, llm_int8_skip_modules=kept
        )
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=DTYPES.get(dtype, torch.bfloat16),
        llm_int8_skip_modules=kept,
    )


def refuse_widths(model: Any, where: str) -> None:
    """Raise for layers that bitsandbytes' CPU kernel for 4 bits fails on at the first forward pass.

    It reshapes each row of a weight into blocks of 64 (`_convert_weight_packed_for_cpu`).

    Args:
        model: A model with 4-bit weights.
        where: The checkpoint.

    Raises:
        RequestError: A layer on the CPU has inputs of another width.
    """
    for name, module in model.named_modules():
        is_uneven = type(module).__name__ == "Linear4bit" and module.in_features % _BLOCK
        if is_uneven and module.weight.device.type == "cpu":
            raise RequestError(
                f"quantization='4bit' on a CPU needs inputs of layers that are multiples of "
                f"{_BLOCK}; {name} of {where} has {module.in_features}. Use '8bit'"
            )
