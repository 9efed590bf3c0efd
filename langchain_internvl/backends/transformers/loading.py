"""Load a checkpoint's weights into transformers' native model."""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import InternVLForConditionalGeneration
from transformers.utils.import_utils import is_flash_attn_2_available

from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.weights import InternVLChatModel
from langchain_internvl.errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


@dataclass(frozen=True)
class LoadOptions:
    """How weights are loaded.

    Attributes:
        dtype: "auto" (as stored), "bfloat16", "float16" or "float32".
        device_map: As in transformers: "auto", a device, or a map of module names to devices.
        attn_implementation: "auto", or any name that transformers knows.
    """

    dtype: str = "auto"
    device_map: str | dict[str, Any] | None = "auto"
    attn_implementation: str = "auto"


def load_model(
    checkpoint: Checkpoint, image_token_id: int, options: LoadOptions | None = None
) -> InternVLForConditionalGeneration:
    """Load the model of a checkpoint, in either format and without remote code.

    Args:
        checkpoint: The checkpoint.
        image_token_id: Id of `<IMG_CONTEXT>`, from its tokenizer.
        options: How to load it.

    Raises:
        CheckpointError: Tensors are missing or have another shape.
        CheckpointNotFoundError: There are no weights.
        RequestError: A setting is unknown.
    """
    options = options or LoadOptions()
    folder = checkpoint.find_weights()
    # Converted tensors that a device map sends to the disk have to be written there anew.
    offload_folder = TemporaryDirectory(prefix="internvl-offload-")
    settings: dict[str, Any] = {
        "dtype": _dtype(options.dtype),
        "device_map": _device_map(options.device_map),
        "offload_folder": offload_folder.name,
        "attn_implementation": _attention(options),
        "trust_remote_code": False,
        "local_files_only": True,
        "output_loading_info": True,
    }
    model_class = InternVLForConditionalGeneration
    if checkpoint.is_original:
        model_class = InternVLChatModel
        settings["config"] = translate_config(
            checkpoint.config,
            image_token_id=image_token_id,
            image_seq_length=checkpoint.tokens_per_tile,
        )
    try:
        loaded: Any = model_class.from_pretrained(folder, **settings)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {folder} cannot be loaded: {error}") from error
    model, report = loaded
    _refuse_gaps(report, checkpoint)
    model.offload_folder = offload_folder  # kept as long as the model, removed with it
    native: InternVLForConditionalGeneration = model.eval()
    return native


def _refuse_gaps(report: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Transformers only warns of missing tensors and fills them with random numbers."""
    gaps = {
        "missing": report["missing_keys"],
        "unknown": report["unexpected_keys"],
        "of another shape": [key for key, *_ in report["mismatched_keys"]],
    }
    found = {kind: sorted(keys) for kind, keys in gaps.items() if keys}
    if found:
        told = "; ".join(
            f"{len(keys)} tensors {kind} ({', '.join(keys[:3])}, ...)"
            for kind, keys in found.items()
        )
        raise CheckpointError(f"the weights of {checkpoint.folder} do not fit its config: {told}")


def _dtype(name: str) -> str | torch.dtype:
    if name == "auto":
        return name
    if name not in _DTYPES:
        raise RequestError(f"dtype is auto, {', '.join(_DTYPES)}, not {name!r}")
    return _DTYPES[name]


def _device_map(device_map: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Without a GPU "auto" is the CPU, for which accelerate's hooks would be in the way."""
    if device_map == "auto" and not torch.cuda.is_available():
        return None
    return device_map


def _attention(options: LoadOptions) -> str:
    if options.attn_implementation != "auto":
        return options.attn_implementation
    half = options.dtype != "float32"
    return "flash_attention_2" if half and is_flash_attn_2_available() else "sdpa"
