"""Load a checkpoint's weights into transformers' native model."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm
from transformers import (
    AutoConfig,
    InternVLForConditionalGeneration,
    QianfanOCRForConditionalGeneration,
)
from transformers.utils.import_utils import is_flash_attn_2_available

from langchain_internvl._optional import how_to_install
from langchain_internvl.backends.transformers.adapters import attach_adapter, merge_adapter
from langchain_internvl.backends.transformers.bits import (
    DTYPES,
    quantization_config,
    refuse_widths,
)
from langchain_internvl.backends.transformers.config import check_kinds, translate_config
from langchain_internvl.backends.transformers.cpu_products import use_cpu_products
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
from langchain_internvl.backends.transformers.stored_weights import native_quantization
from langchain_internvl.backends.transformers.vision import use_pixel_scale
from langchain_internvl.backends.transformers.weights import InternVLChatModel
from langchain_internvl.checkpoint import find_adapter
from langchain_internvl.errors import (
    BackendError,
    CheckpointError,
    RequestError,
    UnsupportedCheckpointError,
)
from langchain_internvl.forks import remove_with, renew_after_fork
from langchain_internvl.model_files.quantised import method_of, stored_quantization
from langchain_internvl.model_files.refusals import header_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_internvl.checkpoint import Checkpoint

_EAGER_ONLY = {"gpt_oss"}
"""Language models with attention sinks, which torch's own kernels do not support."""


@dataclass(frozen=True)
class LoadOptions:
    """Loading options of the weights.

    Attributes:
        dtype: "auto" (the config's, or as stored), "bfloat16", "float16" or "float32".
        device_map: As in transformers: "auto", a device, or a map of module names to devices.
        attn_implementation: "auto", or any name that transformers accepts.
        quantization: "8bit", "4bit" or None.
        adapter: LoRA adapter: a folder, or an id on the hub.
        merge_adapter: Whether to add the adapter to the weights; False: layers of peft beside them.
    """

    dtype: str = "auto"
    device_map: str | dict[str, Any] | None = "auto"
    attn_implementation: str = "auto"
    quantization: str | None = None
    adapter: str | None = None
    merge_adapter: bool = True


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
    if options.adapter is not None and options.merge_adapter and options.quantization is not None:
        raise RequestError(
            "an adapter cannot be merged into quantised weights: set merge_adapter=False, which "
            "keeps it beside them (extra adapters)"
        )
    stored = stored_quantization(checkpoint.config)
    if stored is not None and (options.quantization or (options.adapter and options.merge_adapter)):
        raise RequestError(
            f"{checkpoint.folder} is stored quantised ({method_of(stored)}): leave out "
            "quantization=, and set merge_adapter=False for an adapter"
        )
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
        use_pixel_scale(model, checkpoint.pixel_scale)
        if options.quantization == "4bit":
            refuse_widths(model, str(checkpoint.folder))
        if checkpoint.is_original:
            _refuse_untied(model, checkpoint)
            _use_norm_eps(model)
        if adapter is not None:
            (merge_adapter if options.merge_adapter else attach_adapter)(model, adapter)
        if any(offloaded.iterdir()):
            remove_with(model, offloaded)
        else:
            offloaded.rmdir()
    except BaseException:
        shutil.rmtree(offloaded, ignore_errors=True)
        raise
    use_cpu_products(model)
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
        "dtype": _dtype(options, checkpoint),
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
    check_kinds(checkpoint.config, str(folder / "config.json"))
    try:
        if checkpoint.is_original:
            model_class = InternVLChatModel
            settings["config"] = translate_config(
                checkpoint.config,
                image_token_id=image_token_id,
                image_seq_length=checkpoint.tokens_per_tile,
            )
        if stored_quantization(checkpoint.config) is not None:
            _use_stored_quantization(settings, checkpoint, folder)
        with watched(folder, may_stop):
            loaded: Any = model_class.from_pretrained(folder, **settings)
    except ImportError as error:
        stored = stored_quantization(checkpoint.config)
        if stored is not None:
            raise ImportError(f"weights stored as {method_of(stored)}: {error}") from error
        raise ImportError(
            f"attn_implementation={settings['attn_implementation']!r} cannot be used: {error} "
            f"(flash-attention needs CUDA: {how_to_install('flash-attn')})"
        ) from error
    except (BackendError, UnsupportedCheckpointError):
        raise
    except Exception as error:  # damaged files raise errors of any type
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"the model of {folder} cannot be loaded: {reason}") from error
    model, report = loaded
    return_from_experts(model)
    return model, report


def _use_stored_quantization(
    settings: dict[str, Any], checkpoint: Checkpoint, folder: Path
) -> None:
    """Put the quantisation of the stored weights into the config that the model is loaded with."""
    config = settings.get("config") or AutoConfig.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    names = header_names(list(folder.glob("*.safetensors")))
    config.quantization_config = native_quantization(checkpoint, names, config.get_text_config())
    settings["config"] = config


def _mixture(options: LoadOptions, checkpoint: Checkpoint) -> MixtureSizes | None:
    """Sizes of an unquantised mixture of experts; None for other models."""
    if options.quantization is not None:
        return None
    config = checkpoint.config
    return mixture_sizes(
        config.get("llm_config") or config.get("text_config") or {},
        config.get("vision_config") or {},
        2 if _dtype_name(options, checkpoint) in {"bfloat16", "float16"} else 4,
    )


def _use_norm_eps(model: Any) -> None:
    """Set the epsilon of query and key norms to `layer_norm_eps`.

    The original `modeling_intern_vit.py` uses that value; transformers always uses 1e-6.
    """
    for layer in model.model.vision_tower.encoder.layer:
        for norm in (layer.attention.q_norm, layer.attention.k_norm):
            if hasattr(norm, "variance_epsilon"):
                norm.variance_epsilon = model.config.vision_config.layer_norm_eps


def _refuse_untied(model: Any, checkpoint: Checkpoint) -> None:
    """Raise if a head that the config ties to the embeddings has weights of its own.

    The original has one parameter for both; transformers 5 would keep two.
    """
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    is_tied = model.config.get_text_config().tie_word_embeddings
    is_comparable = not head.is_meta and head.device == embeddings.device
    if is_tied and is_comparable and not torch.equal(embeddings, head):
        raise CheckpointError(
            f"{checkpoint.folder}: tie_word_embeddings is true, but lm_head and embeddings differ"
        )


def _refuse_gaps(report: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Raise for missing or misshapen tensors, which transformers fills randomly with a warning."""
    gaps = {
        "missing": report["missing_keys"],
        "unknown": report["unexpected_keys"],
        "of another shape": [key for key, *_ in report["mismatched_keys"]],
    }
    found = {kind: sorted(keys) for kind, keys in gaps.items() if keys}
    if found:
        problems = "; ".join(
            f"{len(keys)} tensors {kind} ({', '.join(keys[:3])}, ...)"
            for kind, keys in found.items()
        )
        raise CheckpointError(
            f"the weights of {checkpoint.folder} do not fit its config: {problems}"
        )


def _dtype_name(options: LoadOptions, checkpoint: Checkpoint) -> str:
    """Name of the data type; "auto": that of the stored tensors, since the config states none.

    transformers would take the type of stored tensors for every original checkpoint, whose
    translated config states none, and so another one than memory is planned for.
    """
    stated = checkpoint.stored_dtype
    return stated if options.dtype == "auto" and stated in DTYPES else options.dtype


def _dtype(options: LoadOptions, checkpoint: Checkpoint) -> str | torch.dtype:
    name = _dtype_name(options, checkpoint)
    if name == "auto":
        return name
    if name not in DTYPES:
        raise RequestError(f"dtype is auto, {', '.join(DTYPES)}, not {name!r}")
    return DTYPES[name]


def _attention(options: LoadOptions, checkpoint: Checkpoint, device_map: DeviceMap) -> str:
    if options.attn_implementation != "auto":
        return options.attn_implementation
    if checkpoint.language_model in _EAGER_ONLY:
        return "eager"
    gpus = range(torch.cuda.device_count())
    flash = can_use_flash_attention(
        _dtype_name(options, checkpoint),
        device_map,
        [torch.cuda.get_device_capability(gpu) for gpu in gpus],
        is_installed=is_flash_attn_2_available(),
    )
    return "flash_attention_2" if flash else "sdpa"
