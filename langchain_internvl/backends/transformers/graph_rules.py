"""Rules: the models whose decode steps can be captured as CUDA graphs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.transformers.experts import is_mixture
from langchain_internvl.backends.transformers.graphs import CudaRecorder, DecodeGraphs
from langchain_internvl.backends.transformers.rope import LONGROPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_internvl.backends.transformers.graphs import Recorder


def has_hooks(model: Any) -> bool:
    """Whether accelerate moves inputs or weights between devices in forward passes."""
    return any(hasattr(module, "_hf_hook") for module in model.modules())


def is_quantised(model: Any) -> bool:
    """Whether weights are quantised; kernels of several methods read numbers from the device."""
    return (
        getattr(model, "hf_quantizer", None) is not None
        or getattr(model.config, "quantization_config", None) is not None
    )


def routes_to_experts(model: Any) -> bool:
    """Whether the language model is a mixture of experts: shapes depend on the tokens."""
    return is_mixture(model.config.get_text_config().model_type)


def has_longrope(model: Any) -> bool:
    """Whether RoPE is longrope (Phi3), whose factors are chosen in each forward pass."""
    return bool(model.config.get_text_config().rope_parameters["rope_type"] == LONGROPE)


def is_spread(model: Any) -> bool:
    """Whether weights are on several devices."""
    return len({parameter.device for parameter in model.parameters()}) > 1


_AGAINST: Mapping[str, Callable[[Any], bool]] = {
    "accelerate moves its weights or inputs": has_hooks,
    "its weights are on several devices": is_spread,
    "its weights are quantised": is_quantised,
    "it is a mixture of experts": routes_to_experts,
    "its RoPE is longrope": has_longrope,
}
"""What rules out CUDA graphs, with the reason for users."""


def make_graphs(
    model: Any, recorder: Recorder | None = None, *, wanted: bool | None = None
) -> DecodeGraphs | None:
    """The graphs of an engine, if its decode steps can be captured.

    Args:
        model: A native InternVL.
        recorder: Captures steps; None: CUDA graphs, of a model on a CUDA device.
        wanted: False: no graphs; True: warn if there cannot be any; None: graphs where possible.
    """
    if wanted is False:
        return None
    reason = next((why for why, applies in _AGAINST.items() if applies(model)), None)
    device = next(model.parameters()).device
    if reason is None and recorder is None and device.type != "cuda":
        reason = f"it is on the device {device.type!r}"
    if reason is None:
        return DecodeGraphs(recorder or CudaRecorder(device), device)
    if wanted:
        warnings.warn(f"cuda_graphs has no effect on this model: {reason}", stacklevel=2)
    return None
