"""A folder that LMDeploy loads as a checkpoint without running the checkpoint's code.

LMDeploy has transformers load tokenizer and config. Those of original checkpoints name code of
their own (`auto_map`), InternLM2's tokenizer needs it, and -hf ones may leave out what LMDeploy
asks for. A view has links to the weights, and small files that say it in transformers' terms.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.lmdeploy.jinja import to_jinja
from langchain_internvl.checkpoint import choose_template
from langchain_internvl.errors import CheckpointError, RequestError
from langchain_internvl.json_files import read_json
from langchain_internvl.prompting.segments import IMAGE_CLOSE, IMAGE_CONTEXT, IMAGE_OPEN

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer

_TOKENIZER_FILES = frozenset(
    {
        "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json",
        "tokenizer.model", "tokenizer_config.json", "vocab.json",
    }
)  # fmt: skip
"""Written anew, from the tokenizer that prompts are made with."""

_ARCHITECTURES: Mapping[str, str] = {
    "internlm2": "InternLM2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""What TurboMind asks the config of a language model for, and -hf checkpoints may not say."""

_IMAGE_TOKENS: Mapping[str, str] = {
    "start_image_token": IMAGE_OPEN,
    "end_image_token": IMAGE_CLOSE,
    "context_image_token": IMAGE_CONTEXT,
    "video_token": "<video>",
}
"""Names that transformers' InternVL processor knows the tokens by; older -hf files lack them."""

_PROCESSOR = "processor_config.json"

_MARK = "langchain_internvl_view.json"
"""In every view: what was made by us may be made anew, other folders are left alone."""


def make_view(checkpoint: Checkpoint, tokenizer: PromptTokenizer, folder: Path) -> Path:
    """Make a view of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.
        folder: An empty folder, one that is not there yet, or an older view, which is replaced.

    Returns:
        The folder.

    Raises:
        CheckpointNotFoundError: The checkpoint has no weights.
        CheckpointError: The folder cannot be written.
        RequestError: The folder has other things in it.
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
    """The files of a checkpoint that are shown as they are: neither code nor what is rewritten."""
    seen = {*_TOKENIZER_FILES, "config.json", _PROCESSOR, _MARK}
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.suffix != ".py" and file.name not in seen:
                seen.add(file.name)
                yield file


def _link(file: Path, place: Path) -> None:
    """By a link, or a copy where the system has no links."""
    try:
        place.symlink_to(file.resolve())
    except OSError:
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)


def _settle_tokenizer(file: Path, checkpoint: Checkpoint) -> None:
    settings = without_code(read_json(file) or {})
    # Known to transformers 4 and 5; the class that 5 writes is not to 4.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if not checkpoint.is_original:
        named = settings.get("extra_special_tokens")
        settings["extra_special_tokens"] = {
            **_IMAGE_TOKENS, **(named if isinstance(named, Mapping) else {})
        }  # fmt: skip
    _write_json(file, settings)


def _settle_processor(checkpoint: Checkpoint) -> dict[str, Any]:
    """How many tokens a tile has is said to the processor, too; it takes 256 for granted."""
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
    """Settings that name no code of the checkpoint's own, at any depth."""
    return {
        name: without_code(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name != "auto_map"
    }


def _write_json(file: Path, settings: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", "utf-8")
