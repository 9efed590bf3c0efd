"""The settings of a chat model that change its replies, for the fingerprint of a journal."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_internvl import nano

_WHERE = frozenset({
    "api_key", "attn_implementation", "backend", "base_url", "cache", "callbacks",
    "custom_get_token_ids", "default_headers", "device_map", "disable_streaming",
    "engine_options", "http_client", "logprobs", "max_retries", "media_policy", "metadata", "name",
    "output_version", "profile", "rate_limiter", "server_prompt", "streaming", "tags", "timeout",
    "top_logprobs", "trust_remote_code", "verbose",
})  # fmt: skip
"""Fields that do not change replies: where and how a model runs. They include a server's address,
since the same model may be served at another address later."""

_OF_CHECKPOINTS = (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt")


def identify(llm: BaseChatModel) -> dict[str, Any]:
    """Fields of a chat model that change its replies, and the files of local checkpoints.

    Args:
        llm: Any chat model; the fields are those of its pydantic class.
    """
    fields = type(llm).model_fields.keys() - _WHERE
    values = {name: getattr(llm, name, None) for name in sorted(fields)}
    values["class"] = type(llm).__qualname__
    model, adapter = values.get("model"), values.get("adapter")
    if model == nano.NAME:  # by content: an installation gives the same files other times
        values["files"] = _digests(nano.FOLDER)
    elif isinstance(model, str) and Path(model).is_dir():
        values["files"] = _files(Path(model))
    if isinstance(adapter, str) and Path(adapter).is_dir():
        values["files of the adapter"] = _files(Path(adapter))
    return values


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the last change of each file of a checkpoint."""
    states = [(path.name, path.stat()) for path in _of_checkpoint(folder)]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


@cache
def _digests(folder: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file of a small checkpoint."""
    return [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in _of_checkpoint(folder)
    ]


def _of_checkpoint(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _OF_CHECKPOINTS and path.is_file()
    ]
