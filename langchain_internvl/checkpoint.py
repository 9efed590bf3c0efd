"""Description of a checkpoint, read from its small files without loading the weights.

Two formats: *original* (`OpenGVLab/InternVL2-8B`, ..., `model_type: internvl_chat`) and *-hf*
(`model_type: internvl`, transformers' own).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_internvl import nano
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    UnsupportedCheckpointError,
)
from langchain_internvl.json_files import read_json, refuse_pointer
from langchain_internvl.media.tiling import BICUBIC, PixelScale, TileLimits
from langchain_internvl.model_files import hub
from langchain_internvl.model_files.config_rules import (
    check_config,
    check_generation,
    check_preprocessor,
)
from langchain_internvl.model_files.folders import (
    ADAPTER_FILES,
    SMALL_FILES,
    WEIGHT_FILES,
    check_files,
    check_index,
)
from langchain_internvl.model_files.quantised import refuse_quantised, stored_quantization
from langchain_internvl.model_files.refusals import (
    header_names,
    index_names,
    name_cousin,
    refuse_by_config,
    refuse_by_tensors,
)
from langchain_internvl.model_files.rules import SECTION, check_rules
from langchain_internvl.model_files.weight_size import check_size
from langchain_internvl.reply_text.reasoning import THINKING_MODELS

ORIGINAL = "internvl_chat"
HF = "internvl"
QIANFAN_OCR = "qianfan_ocr"
"""A document model with InternVL's architecture, under its own name in transformers."""

LANGUAGE_MODELS = (
    "gpt_oss", "internlm2", "internlm3", "llama", "phi3", "qwen2", "qwen3", "qwen3_moe",
)  # fmt: skip
"""Language models of supported checkpoints, by `model_type`."""


@dataclass(frozen=True)
class Checkpoint:
    """Description of a checkpoint.

    Attributes:
        folder: Folder of its files.
        repo: Its id on the Hugging Face hub; None for a local folder.
        config: `config.json`.
        generation: `generation_config.json`; empty if there is none.
        language_model: `model_type` of its language model.
        tiles: Default tile limits of images.
        tokens_per_tile: Context tokens of one tile.
        eos_ids: The end tokens that the checkpoint itself declares.
        max_length: Maximum sequence length of its position encoding, in tokens; None: not stated.
        num_layers: Number of layers of its language model.
        stored_dtype: Data type of its weights by the config; None: it states none.
        pixel_shuffle: Version of the pixel shuffle, "v1" or "v2".
        pixel_scale: Scale of the pixels that its vision tower was trained on.
    """

    folder: Path
    repo: str | None
    config: Mapping[str, Any] = field(repr=False)
    generation: Mapping[str, Any] = field(repr=False)
    language_model: str
    tiles: TileLimits
    tokens_per_tile: int
    eos_ids: tuple[int, ...]
    max_length: int | None
    num_layers: int
    stored_dtype: str | None
    pixel_shuffle: str
    pixel_scale: PixelScale = field(default_factory=PixelScale)

    @property
    def is_original(self) -> bool:
        """Whether it is in the original format."""
        return _is_original(self.config)

    @property
    def is_qianfan_ocr(self) -> bool:
        """Whether it is Qianfan-OCR, which analyses a page's layout in its thoughts."""
        return bool(self.config["model_type"] == QIANFAN_OCR)

    @property
    def thinks_unasked(self) -> bool:
        """Whether it may think by default, without a request for thinking."""
        return self.language_model in THINKING_MODELS and not self.is_qianfan_ocr

    def find_weights(self) -> Path:
        """The folder with the weights, which are downloaded first if necessary.

        Raises:
            CheckpointNotFoundError: There are no safetensors, or one in the index is missing.
            CheckpointError: The files are git-lfs pointers, not regular, or too small for the
                model of the config, or the index is malformed.
        """
        folder = self.folder
        if self.repo is not None:
            # The folder is named after the commit; the weights must come from the same commit.
            folder = hub.download(self.repo, self.folder.name, WEIGHT_FILES)
        files = list(folder.glob("*.safetensors"))
        for file in files:
            refuse_pointer(file)
        if not files:
            old = any(folder.glob("*.bin"))
            hint = "; pickled weights (*.bin) may run code, convert them first" if old else ""
            raise CheckpointNotFoundError(f"{folder} has no weights (*.safetensors){hint}")
        check_files(folder)
        check_index(folder)
        refuse_by_tensors(
            header_names(files),
            folder,
            is_original=self.is_original,
            is_quantised=stored_quantization(self.config) is not None,
        )
        check_size(self.config, sum(file.stat().st_size for file in files), str(folder))
        return folder


def open_checkpoint(
    model: str, revision: str | None = None, *, runs_here: bool = True
) -> Checkpoint:
    """Read a checkpoint's description.

    Args:
        model: "nano", the embedded model; a local folder; or an id on the Hugging Face hub (only
            small files are downloaded).
        revision: Branch, tag or commit on the hub; None: the default branch.
        runs_here: Reject what the transformers backend cannot run, such as quantised weights.

    Raises:
        CheckpointNotFoundError: The checkpoint does not exist, or lacks files.
        UnsupportedCheckpointError: The checkpoint is no InternVL, or cannot be loaded here.
        CheckpointError: Its files are damaged.
    """
    if model == nano.NAME:
        nano.announce()
        return read_checkpoint(nano.FOLDER, runs_here=runs_here)
    folder, is_of_hub = hub.find_folder(model, revision, SMALL_FILES)
    return read_checkpoint(folder, repo=model if is_of_hub else None, runs_here=runs_here)


def find_cached(model: str, revision: str | None = None) -> Path | None:
    """The local folder of a checkpoint's small files, or None; downloads nothing.

    Args:
        model: See `open_checkpoint`.
        revision: Branch, tag or commit on the hub; None: the default branch.
    """
    if model == nano.NAME:
        return nano.FOLDER
    folder = None
    with suppress(CheckpointNotFoundError):
        folder = hub.local_folder(model)
    if folder is None and hub.is_repository(model):
        folder = hub.find_cached(model, revision)
    return folder


def find_adapter(adapter: str) -> Path:
    """The folder of an adapter, which is downloaded if necessary.

    Args:
        adapter: A local folder, or an id on the Hugging Face hub.

    Raises:
        CheckpointNotFoundError: The adapter does not exist.
    """
    try:
        return hub.find_folder(adapter, None, ADAPTER_FILES)[0]
    except CheckpointNotFoundError as error:
        raise CheckpointNotFoundError(f"adapter {error}") from error


def read_checkpoint(folder: Path, repo: str | None = None, *, runs_here: bool = True) -> Checkpoint:
    """Read the description of a checkpoint in a local folder; see `open_checkpoint`."""
    check_files(folder)
    config = read_json(folder / "config.json")
    if config is None:
        raise CheckpointNotFoundError(
            f"{folder} has no config.json, so it is no checkpoint; name the folder that has it"
        )
    try:
        _refuse_strangers(config, folder)
        check_config(config, str(folder / "config.json"), is_original=_is_original(config))
        if runs_here:
            _refuse_unsupported(config, folder)
        return _describe(folder, repo, config)
    except CheckpointError:
        raise
    except _WRONG_TYPES as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"the settings of {folder} are malformed: {reason}") from error


# Errors of reading settings with values of any type.
_WRONG_TYPES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def _describe(folder: Path, repo: str | None, config: Mapping[str, Any]) -> Checkpoint:
    generation = read_json(folder / "generation_config.json") or {}
    check_generation(generation, str(folder / "generation_config.json"))
    text, vision = _sub_configs(config)
    own_size = vision.get("image_size", 224 if _is_original(config) else 448)
    tile_size = int(_first(config.get("force_image_size") or own_size))
    preprocessor = {} if _is_original(config) else _preprocessor(folder, tile_size)
    return Checkpoint(
        folder=folder,
        repo=repo,
        config=config,
        generation=generation,
        language_model=text["model_type"],
        tiles=_tile_limits(config, preprocessor, tile_size),
        tokens_per_tile=_tokens_per_tile(config, vision, tile_size),
        eos_ids=_eos_ids(generation.get("eos_token_id", config.get("eos_token_id"))),
        max_length=_max_length(text),
        num_layers=int(text.get("num_hidden_layers", 1)),
        stored_dtype=_stored_dtype(config, text),
        pixel_shuffle=_pixel_shuffle(config),
        pixel_scale=_pixel_scale(preprocessor),
    )


def _pixel_shuffle(config: Mapping[str, Any]) -> str:
    """The version of the pixel shuffle; the original's default is the one of InternVL 1.x."""
    version = config.get("ps_version", "v1" if config["model_type"] == ORIGINAL else "v2")
    if version not in ("v1", "v2"):  # not a set: JSON values may be unhashable lists
        raise UnsupportedCheckpointError(f"ps_version is {version!r}; v1 and v2 are known")
    return str(version)


def _stored_dtype(*configs: Mapping[str, Any]) -> str | None:
    said = (config.get(key) for config in configs for key in ("dtype", "torch_dtype"))
    return next(filter(None, said), None)


def _max_length(text: Mapping[str, Any]) -> int | None:
    length = text.get("max_position_embeddings")
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    is_dynamic = "dynamic" in (rope.get("type"), rope.get("rope_type"))
    return None if length is None else int(length * (rope["factor"] if is_dynamic else 1))


def _eos_ids(stored: Any) -> tuple[int, ...]:
    many = stored if isinstance(stored, list) else [] if stored is None else [stored]
    return tuple(int(one) for one in many)


def _is_original(config: Mapping[str, Any]) -> bool:
    return bool(config["model_type"] == ORIGINAL)


def _sub_configs(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    text = "llm_config" if config["model_type"] == ORIGINAL else "text_config"
    return config.get(text) or {}, config.get("vision_config") or {}


def _refuse_strangers(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("model_type")
    if kind not in {ORIGINAL, HF, QIANFAN_OCR}:
        advice = name_cousin(kind) or "use one of OpenGVLab's, such as OpenGVLab/InternVL2-8B"
        raise UnsupportedCheckpointError(
            f"{folder} is a checkpoint of type {kind!r}, no InternVL ({ORIGINAL}, {HF} or "
            f"{QIANFAN_OCR}); {advice}"
        )


def _refuse_unsupported(config: Mapping[str, Any], folder: Path) -> None:
    """Raise for checkpoints that the transformers backend cannot load."""
    text, _ = _sub_configs(config)
    refuse_by_config(config, folder)
    refuse_quantised(config, folder)
    if (folder / ADAPTER_FILES[0]).is_file():  # transformers would load it, but only with peft
        raise UnsupportedCheckpointError(
            f"{folder} has an adapter ({ADAPTER_FILES[0]}) beside its weights: put the adapter "
            "into a folder of its own and name it as adapter="
        )
    refuse_by_tensors(
        index_names(folder),
        folder,
        is_original=_is_original(config),
        is_quantised=stored_quantization(config) is not None,
    )
    language_model = text.get("model_type")
    if language_model not in LANGUAGE_MODELS:
        raise UnsupportedCheckpointError(
            f"{folder} has a language model of type {language_model!r}; supported are "
            f"{', '.join(LANGUAGE_MODELS)}"
        )


def _preprocessor(folder: Path, tile_size: int) -> Mapping[str, Any]:
    """Settings of the image processor.

    transformers 5 saves them in the processor's config, and prefers those to an older file.
    """
    settings: Mapping[str, Any]
    where = folder / "processor_config.json"
    whole = read_json(where) or {}
    if whole.get("image_processor") is not None:
        check_rules(whole, {"image_processor": SECTION}, str(where))
        settings, name = whole["image_processor"], f"{where}: image_processor"
    else:
        where = folder / "preprocessor_config.json"
        settings, name = read_json(where) or {}, str(where)
    check_preprocessor(settings, name, tile_size)
    return settings


def _pixel_scale(preprocessor: Mapping[str, Any]) -> PixelScale:
    """The scale of an image processor; the original code has ImageNet's, whatever its files say."""
    factor = 1.0
    if preprocessor.get("do_rescale") is not False:
        factor = preprocessor.get("rescale_factor") or PixelScale.factor
    if preprocessor.get("do_normalize") is False:
        return PixelScale((0.0,) * 3, (1.0,) * 3, factor)
    stated = {
        name: tuple(map(float, value if isinstance(value, list) else [value] * 3))
        for name, value in (
            ("mean", preprocessor.get("image_mean")),
            ("std", preprocessor.get("image_std")),
        )
        if value is not None
    }
    return PixelScale(**stated, factor=factor)


def _tile_limits(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any], tile_size: int
) -> TileLimits:
    if config["model_type"] == ORIGINAL:
        # Defaults of `configuration_internvl_chat.py`: releases before 1.5 take whole images.
        fewest, most = config.get("min_dynamic_patch", 1), config.get("max_dynamic_patch", 6)
        cuts = config.get("dynamic_image_size", False)
        thumbnail, resample = config.get("use_thumbnail", False), BICUBIC
    else:
        fewest, most = preprocessor.get("min_patches", 1), preprocessor.get("max_patches", 12)
        # Their files have crop_to_patches: false, which transformers' InternVLProcessor overrides;
        # tiles are then cut by resizing, whatever do_resize says.
        cuts, thumbnail = True, True
        stated = preprocessor.get("resample")
        resample = BICUBIC if stated is None else stated
    if not cuts:
        fewest = most = 1
    return TileLimits(fewest, most, tile_size, thumbnail, resample)


def _tokens_per_tile(config: Mapping[str, Any], vision: Mapping[str, Any], tile_size: int) -> int:
    if isinstance(config.get("image_seq_length"), int):
        return int(config["image_seq_length"])
    side = tile_size // _first(vision.get("patch_size", 14)) * config.get("downsample_ratio", 0.5)
    return int(side) ** 2


def _first(value: int | list[int]) -> int:
    return value[0] if isinstance(value, list) else value
