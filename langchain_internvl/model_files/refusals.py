"""Rejects models that share InternVL's `model_type` but have another architecture.

Each would load in part, or load and answer wrongly. They are detected by the config, or by tensor
names in the weight index, before weights are downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_internvl.errors import CheckpointError, UnsupportedCheckpointError
from langchain_internvl.json_files import open_regular, parse_json, read_json

OWN_CLASSES = frozenset(
    {
        "configuration_internvl_chat.InternVLChatConfig",
        "modeling_internvl_chat.InternVLChatModel",
        "processing_internvl.InternVLProcessor",
    }
)
"""Remote-code classes that this package replaces, by their names in `auto_map`."""

_OWN_TENSORS = ("vision_model.", "language_model.", "mlp1.")
"""Prefixes of the tensor names of an original checkpoint."""

_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Relative:
    """A kind of checkpoint that is not a plain InternVL.

    Attributes:
        name: Description of the kind.
        advice: Alternative for the user.
        in_config: Whether a config is of this kind.
        in_tensors: Whether tensor names are of this kind.
    """

    name: str
    advice: str
    in_config: Callable[[Mapping[str, Any]], bool] = lambda _config: False
    in_tensors: Callable[[Collection[str]], bool] = lambda _names: False


def _has(*parts: str) -> Callable[[Collection[str]], bool]:
    """Predicate: whether any tensor name contains one of the parts."""
    return lambda names: any(part in name for name in names for part in parts)


def _architectures(config: Mapping[str, Any], section: str) -> list[str]:
    listed = (config.get(section) or {}).get("architectures") or []
    return [str(one) for one in listed] if isinstance(listed, list) else []


def _is_mono(config: Mapping[str, Any]) -> bool:
    """Whether the language model has separate experts for image tokens ("visual experts")."""
    return any("VEFor" in one for one in _architectures(config, "llm_config")) or any(
        "Patch" in one for one in _architectures(config, "vision_config")
    )


def _has_variable_positions(config: Mapping[str, Any]) -> bool:
    version = config.get("rope_pos_id_version")
    return version not in {None, "default"} or config.get("rope_pos_id_stride") is not None


RELATIVES = (
    Relative(
        "an InternVL3.5-Flash (it chooses between two resolutions for each part of an image)",
        "use the InternVL3.5 of the same size without -Flash, or serve it",
        in_config=lambda config: bool(config.get("flash_mode")),
        in_tensors=_has("mlp2.", "gating."),
    ),
    Relative(
        "a Mono-InternVL (a language model with visual experts, and no vision tower)",
        "use InternVL2.5 or 3 of a similar size, or serve it",
        in_config=_is_mono,
        in_tensors=_has(".feed_forward_ve."),
    ),
    Relative(
        "an InternVL with V2PE (positions of image tokens are smaller steps)",
        "use InternVL2.5 or 3 of the same size, or serve it",
        in_config=_has_variable_positions,
    ),
    Relative(
        "an InternVL with an adapter whose weights are not merged",
        "merge it into the language model, or give the adapter alone as adapter=; or serve it",
        in_tensors=_has(".lora_A.", ".lora_B."),
    ),
)

_QUANTISED = Relative(
    "a checkpoint of quantised weights (AWQ, GPTQ, compressed-tensors or bitsandbytes) whose "
    "config does not say so",
    "load it by backend='lmdeploy' (extra lmdeploy), or load the checkpoint that it was made from "
    "with quantization='4bit' (extra quantization); or serve it",
    in_tensors=_has(".qweight", ".weight_packed", ".weight.absmax"),
)

_OWN_MODULES = frozenset(one.split(".")[0] for one in OWN_CLASSES)


def refuse_by_config(config: Mapping[str, Any], folder: Path) -> None:
    """Reject another architecture that `config.json` reveals.

    Raises:
        UnsupportedCheckpointError: The model has another architecture.
    """
    for one in RELATIVES:
        if one.in_config(config):
            _refuse(one, folder)
    auto_map = config.get("auto_map") or {}
    for name in sorted({str(value) for value in _values(auto_map)}):
        own_class = name.rpartition("--")[2]
        # The name of a config class is irrelevant if it comes from InternVL's own files.
        is_config = name in map(str, _values({"": auto_map.get("AutoConfig")}))
        is_own = is_config and own_class.split(".")[0] in _OWN_MODULES
        if own_class not in OWN_CLASSES and not is_own:
            raise UnsupportedCheckpointError(
                f"{folder} is a model of its own code, {name[:200]!r} in auto_map, which is not "
                f"InternVL's; the models of this kind compress image tokens or differ in other "
                "ways. Serve it with its own code and name the server as base_url="
            )


def _values(auto_map: Mapping[str, Any]) -> list[Any]:
    """Classes of an `auto_map` except tokenizers, which are selected by their files."""
    return [
        one
        for key, value in auto_map.items()
        if key != "AutoTokenizer"
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]


_COUSINS = (
    (
        "interns1",
        "an Intern-S1",
        "serve it by LMDeploy, vLLM or SGLang and name the server as base_url=",
    ),
    (
        "qianfan",
        "a Qianfan-VL",
        (
            "serve it by vLLM with --hf-overrides "
            """'{"architectures":["InternVLChatModel"],"model_type":"internvl_chat"}' """
            "and name the server as base_url=; for documents use baidu/Qianfan-OCR"
        ),
    ),
)
"""Related models with another `model_type`: prefix of the type, description, advice. The arguments
for Qianfan-VL are from its README (baidubce/Qianfan-VL)."""


def name_cousin(kind: object) -> str | None:
    """Description and advice for a checkpoint of another `model_type`; None: unknown."""
    return next(
        (
            f"it is {name}: {advice}"
            for start, name, advice in _COUSINS
            if str(kind).replace("_", "").startswith(start)
        ),
        None,
    )


def refuse_by_tensors(
    names: Collection[str], folder: Path, *, is_original: bool, is_quantised: bool = False
) -> None:
    """Reject another architecture that the tensor names reveal.

    Args:
        names: Names of the tensors.
        folder: The checkpoint.
        is_original: Whether it is in the original format.
        is_quantised: Whether its config says that the weights are quantised.

    Raises:
        UnsupportedCheckpointError: The model has another architecture.
    """
    for one in RELATIVES if is_quantised else (*RELATIVES, _QUANTISED):
        if one.in_tensors(names):
            _refuse(one, folder)
    if is_original:
        others = sorted(name for name in names if not name.startswith(_OWN_TENSORS))
        if others:
            raise UnsupportedCheckpointError(
                f"{folder} has {len(others)} tensors that no InternVL has "
                f"({others[0][:200]}, ...): it is a model of another architecture. Serve it with "
                "its own code and name the server as base_url="
            )


def _refuse(relative: Relative, folder: Path) -> None:
    raise UnsupportedCheckpointError(
        f"{folder} is {relative.name}, which is not supported: {relative.advice} (base_url=)"
    )


def index_names(folder: Path) -> set[str]:
    """Tensor names in the weight index; empty if there is no index.

    Raises:
        CheckpointError: The index is malformed.
    """
    names: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        weight_map = (read_json(index, 64 << 20) or {}).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index}: weight_map is no mapping of tensors to files")
        names.update(weight_map)
    return names


def header_names(files: Collection[Path]) -> set[str]:
    """Tensor names in the headers of weight files.

    Raises:
        CheckpointError: A file is not in safetensors format.
    """
    names: set[str] = set()
    for file in files:
        try:
            with open_regular(file) as opened:
                # A header length that is too large gives truncated JSON, or is truncated here.
                length = min(int.from_bytes(opened.read(8), "little"), _MOST_HEADER_BYTES)
                header = dict(parse_json(opened.read(length).decode("utf-8")))
            names.update(name for name in header if name != "__metadata__")
        except (OSError, TypeError, ValueError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{file} is no safetensors file: {error}") from error
    return names
