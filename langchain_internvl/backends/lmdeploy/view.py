"""Views: folders that LMDeploy loads as a checkpoint without running the checkpoint's code.

LMDeploy loads tokenizer and config through transformers. Those of original checkpoints refer to
remote code (`auto_map`), which InternLM2's tokenizer needs, and -hf ones may lack fields that
LMDeploy requires. A view links to the weights, and has rewritten config and tokenizer files that
transformers loads without remote code.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.lmdeploy.jinja import to_jinja
from langchain_internvl.errors import CheckpointError, RequestError
from langchain_internvl.json_files import read_json
from langchain_internvl.prompting.segments import IMAGE_CLOSE, IMAGE_CONTEXT, IMAGE_OPEN
from langchain_internvl.template_choice import choose_template

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer

_TOKENIZER_FILES = frozenset(
    {
        "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json",
        "tokenizer.model", "tokenizer_config.json", "vocab.json",
    }
)  # fmt: skip
"""Files that are rewritten from this package's tokenizer."""

_ARCHITECTURES: Mapping[str, str] = {
    "internlm2": "InternLM2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""`architectures` of the language model by its type, which TurboMind requires and -hf configs may
lack."""

_IMAGE_TOKENS: Mapping[str, str] = {
    "start_image_token": IMAGE_OPEN,
    "end_image_token": IMAGE_CLOSE,
    "context_image_token": IMAGE_CONTEXT,
    "video_token": "<video>",
}
"""Image tokens by the attribute names of transformers' InternVL processor; older -hf files lack
them."""

_PROCESSOR = "processor_config.json"

_MARK = "langchain_internvl_view.json"
"""Marker file of views: only folders that have it are replaced."""


def make_view(checkpoint: Checkpoint, tokenizer: PromptTokenizer, folder: Path) -> Path:
    """Make a view of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.
        folder: A folder that is empty or does not exist yet, or an older view, which is replaced.

    Returns:
        The folder.

    Raises:
        CheckpointNotFoundError: The checkpoint has no weights.
        CheckpointError: The folder cannot be written.
        RequestError: The folder has other files in it.
    """
    weights = checkpoint.find_weights()
    try:
        _clear(folder)
        _write_json(folder / _MARK, {"of": str(checkpoint.folder.resolve())})
        for file in _others(checkpoint.folder, weights):
            _link(file, folder / file.name)
        tokenizer.save(folder)
        if checkpoint.is_original and "tools" not in (tokenizer.jinja_template or ""):
            written = to_jinja(choose_template(checkpoint, tokenizer))
            (folder / "chat_template.jinja").write_text(written, "utf-8")
        _settle_tokenizer(folder / "tokenizer_config.json", checkpoint)
        _write_json(folder / "config.json", _settle_config(checkpoint))
        if not checkpoint.is_original:
            _write_json(folder / _PROCESSOR, _settle_processor(checkpoint))
    except OSError as error:
        raise CheckpointError(f"no view can be made in {folder}: {error}") from error
    return folder


def _clear(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise RequestError(f"{folder} has files in it that are no view; name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _others(*folders: Path) -> Iterator[Path]:
    """The files of a checkpoint that are linked unchanged: all but code and rewritten files."""
    seen = {*_TOKENIZER_FILES, "config.json", _PROCESSOR, _MARK}
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.suffix != ".py" and file.name not in seen:
                seen.add(file.name)
                yield file


def _link(file: Path, place: Path) -> None:
    """Link a file, or copy it where the system has no links."""
    try:
        place.symlink_to(file.resolve())
    except OSError:
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)


def _settle_tokenizer(file: Path, checkpoint: Checkpoint) -> None:
    settings = without_code(read_json(file) or {})
    # transformers 4 and 5 both have this class; 4 lacks the one that 5 writes.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if not checkpoint.is_original:
        named = settings.get("extra_special_tokens")
        settings["extra_special_tokens"] = {
            **_IMAGE_TOKENS, **(named if isinstance(named, Mapping) else {})
        }  # fmt: skip
    _write_json(file, settings)


def _settle_processor(checkpoint: Checkpoint) -> dict[str, Any]:
    """Processor settings with the number of tokens of a tile, whose default is 256."""
    return {
        **without_code(read_json(checkpoint.folder / _PROCESSOR) or {}),
        "processor_class": "InternVLProcessor",
        "image_seq_length": checkpoint.tokens_per_tile,
    }


def _settle_config(checkpoint: Checkpoint) -> dict[str, Any]:
    config = without_code(checkpoint.config)
    name = "llm_config" if checkpoint.is_original else "text_config"
    text = dict(config[name])
    if not text.get("architectures") and checkpoint.language_model in _ARCHITECTURES:
        text["architectures"] = [_ARCHITECTURES[checkpoint.language_model]]
    if checkpoint.is_original:
        config.setdefault("architectures", ["InternVLChatModel"])
    return {**config, name: text}


def without_code(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without references to the checkpoint's own code (`auto_map`), at any depth."""
    return {
        name: without_code(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name != "auto_map"
    }


def _write_json(file: Path, settings: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", "utf-8")
