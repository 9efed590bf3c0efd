"""Load a checkpoint's weights into transformers' native model."""

from __future__ import annotations

import logging
import shutil
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers import (
    BitsAndBytesConfig,
    InternVLForConditionalGeneration,
    QianfanOCRForConditionalGeneration,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from langchain_internvl._optional import require
from langchain_internvl.backends.transformers.adapters import merge_adapter
from langchain_internvl.backends.transformers.config import translate_config
from langchain_internvl.backends.transformers.experts import (
    MixtureSizes,
    mixture_sizes,
    return_from_experts,
)
from langchain_internvl.backends.transformers.pixel_shuffle import use_pixel_shuffle
from langchain_internvl.backends.transformers.placement import (
    DeviceMap,
    can_use_flash_attention,
    place,
)
from langchain_internvl.backends.transformers.progress import watched
from langchain_internvl.backends.transformers.weights import InternVLChatModel
from langchain_internvl.checkpoint import find_adapter
from langchain_internvl.errors import BackendError, CheckpointError, RequestError
from langchain_internvl.forks import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_internvl.checkpoint import Checkpoint

_EAGER_ONLY = {"gpt_oss"}
"""Language models with attention sinks, which torch's own kernels do not support."""

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


@dataclass(frozen=True)
class LoadOptions:
    """Loading options of the weights.

    Attributes:
        dtype: "auto" (as stored), "bfloat16", "float16" or "float32".
        device_map: As in transformers: "auto", a device, or a map of module names to devices.
        attn_implementation: "auto", or any name that transformers accepts.
        quantization: "8bit", "4bit" or None.
        adapter: LoRA adapter to merge into the weights: a folder, or an id on the hub.
    """

    dtype: str = "auto"
    device_map: str | dict[str, Any] | None = "auto"
    attn_implementation: str = "auto"
    quantization: str | None = None
    adapter: str | None = None


def load_model(
    checkpoint: Checkpoint,
    image_token_id: int,
    options: LoadOptions | None = None,
    may_stop: Callable[[], bool] = lambda: False,
) -> InternVLForConditionalGeneration:
    """Load the model of a checkpoint, in either format and without remote code.

    Args:
        checkpoint: The checkpoint.
        image_token_id: Id of `<IMG_CONTEXT>`, from its tokenizer.
        options: Loading options.
        may_stop: Returns whether to abandon loading; called before each tensor.

    Raises:
        BackendError: `may_stop` returned True.
        CheckpointError: Tensors are missing or damaged, or have the wrong shape.
        CheckpointNotFoundError: There are no weights.
        ImportError: The requested attention implementation is not installed.
        RequestError: An option has an unknown value.
    """
    options = options or LoadOptions()
    if options.adapter is not None and options.quantization is not None:
        raise RequestError("an adapter cannot be merged into quantised weights: leave out one")
    adapter = None if options.adapter is None else find_adapter(options.adapter)
    folder = checkpoint.find_weights()
    # Converted tensors that a device map offloads to disk must be written there again.
    offloaded = Path(mkdtemp(prefix="internvl-offload-"))
    try:
        with _LOADING:
            model, report = _load(
                checkpoint, image_token_id, options, folder, offloaded, may_stop=may_stop
            )
        _refuse_gaps(report, checkpoint)
        use_pixel_shuffle(model, checkpoint.pixel_shuffle)
        if checkpoint.is_original:
            _use_norm_eps(model)
        if adapter is not None:
            merge_adapter(model, adapter)
        if any(offloaded.iterdir()):
            weakref.finalize(model, shutil.rmtree, offloaded, ignore_errors=True)
        else:
            offloaded.rmdir()
    except BaseException:
        shutil.rmtree(offloaded, ignore_errors=True)
        raise
    native: InternVLForConditionalGeneration = model.eval()
    return native


# transformers changes process-wide settings while it loads, such as torch's default dtype:
# concurrent loads would mix them up.
class _Loading:
    """Lock that serialises loads."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self, _Loading.renew)

    def renew(self) -> None:
        """Release the lock in a forked process, where no load is running."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        # tqdm would start a monitor thread that outlives the load.
        self._interval, tqdm.monitor_interval = tqdm.monitor_interval, 0

    def __exit__(self, *_: object) -> None:
        tqdm.monitor_interval = self._interval
        self._lock.release()


_LOADING = _Loading()


def _load(
    checkpoint: Checkpoint,
    image_token_id: int,
    options: LoadOptions,
    folder: Path,
    offload_folder: Path,
    *,
    may_stop: Callable[[], bool],
) -> tuple[Any, dict[str, Any]]:
    """The model, and transformers' loading report (missing and unexpected tensors)."""
    free = [torch.cuda.mem_get_info(gpu)[0] for gpu in range(torch.cuda.device_count())]
    device_map = place(
        options.device_map, checkpoint.num_layers, free, _mixture(options, checkpoint)
    )
    settings: dict[str, Any] = {
        "dtype": _dtype(options.dtype),
        "device_map": device_map,
        "quantization_config": quantization_config(options.quantization, options.dtype),
        "offload_folder": str(offload_folder),
        "attn_implementation": _attention(options, checkpoint, device_map),
        "trust_remote_code": False,
        "local_files_only": True,
        "output_loading_info": True,
    }
    model_class: Any = (
        QianfanOCRForConditionalGeneration
        if checkpoint.is_qianfan_ocr
        else InternVLForConditionalGeneration
    )
    try:
        if checkpoint.is_original:
            model_class = InternVLChatModel
            settings["config"] = translate_config(
                checkpoint.config,
                image_token_id=image_token_id,
                image_seq_length=checkpoint.tokens_per_tile,
            )
        with watched(folder, may_stop):
            loaded: Any = model_class.from_pretrained(folder, **settings)
    except ImportError as error:
        raise ImportError(
            f"attn_implementation={settings['attn_implementation']!r} cannot be used: {error} "
            f"(flash-attention: pip install 'langchain-internvl[flash-attn]', needs CUDA)"
        ) from error
    except BackendError:
        raise
    except Exception as error:  # damaged files raise errors of any type
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"the model of {folder} cannot be loaded: {reason}") from error
    model, report = loaded
    return_from_experts(model)
    return model, report


def _mixture(options: LoadOptions, checkpoint: Checkpoint) -> MixtureSizes | None:
    """Sizes of an unquantised mixture of experts; None for other models."""
    if options.quantization is not None:
        return None
    config = checkpoint.config
    name = checkpoint.stored_dtype if options.dtype == "auto" else options.dtype
    return mixture_sizes(
        config.get("llm_config") or config.get("text_config") or {},
        config.get("vision_config") or {},
        4 if name == "float32" else 2,
    )


def _use_norm_eps(model: Any) -> None:
    """Set the epsilon of query and key norms to `layer_norm_eps`.

    The original `modeling_intern_vit.py` uses that value; transformers always uses 1e-6.
    """
    for layer in model.model.vision_tower.encoder.layer:
        for norm in (layer.attention.q_norm, layer.attention.k_norm):
            if hasattr(norm, "variance_epsilon"):
                norm.variance_epsilon = model.config.vision_config.layer_norm_eps


def _refuse_gaps(report: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Raise for missing or misshapen tensors, which transformers fills randomly with a warning."""
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


def _attention(options: LoadOptions, checkpoint: Checkpoint, device_map: DeviceMap) -> str:
    if options.attn_implementation != "auto":
        return options.attn_implementation
    if checkpoint.language_model in _EAGER_ONLY:
        return "eager"
    gpus = range(torch.cuda.device_count())
    flash = can_use_flash_attention(
        checkpoint.stored_dtype if options.dtype == "auto" else options.dtype,
        device_map,
        [torch.cuda.get_device_capability(gpu) for gpu in gpus],
        is_installed=is_flash_attn_2_available(),
    )
    return "flash_attention_2" if flash else "sdpa"


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
        bnb_4bit_compute_dtype=_DTYPES.get(dtype, torch.bfloat16),
        llm_int8_skip_modules=kept,
    )
