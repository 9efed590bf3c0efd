"""Types of the constructor's arguments, wider than the types of the fields.

Type checkers use these instead of the fields, because pydantic converts a path to text, or text to
a secret. A test compares the names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from langchain_core.caches import BaseCache
from langchain_core.callbacks import Callbacks
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import SecretStr

from langchain_internvl.backends.base import Backend
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.prompting.build import ImageOrder
from langchain_internvl.reply_text.reasoning import Reasoning


class CallArguments(TypedDict, total=False):
    """Arguments that a single call may override; see `CallSettings`."""

    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    seed: int | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    logprobs: bool | None
    top_logprobs: int | None
    timeout: float | None
    min_tiles: int | None
    max_tiles: int | None
    max_tiles_per_frame: int
    num_frames: int
    number_images: bool
    join_images: bool
    image_order: ImageOrder
    exif_transpose: bool
    scale_16bit: bool
    white_background: bool
    default_system: str | None
    reasoning: Reasoning
    chat_template_kwargs: Mapping[str, Any]
    context_window: int | None


class ModelArguments(CallArguments, total=False):
    """Arguments of a model; see `ModelSettings`."""

    model: str | os.PathLike[str]
    model_name: str | os.PathLike[str]
    revision: str | None
    backend: Literal["transformers", "lmdeploy"] | Backend
    base_url: str | None
    api_key: str | SecretStr | None
    default_headers: Mapping[str, str | SecretStr]
    http_client: Any
    max_retries: int
    served_model: str | None
    server_prompt: Literal["auto", "ids", "messages"]
    adapter: str | os.PathLike[str] | None
    merge_adapter: bool
    dtype: Literal["auto", "bfloat16", "float16", "float32"]
    device_map: str | Mapping[str, Any] | None
    attn_implementation: str
    quantization: Literal["8bit", "4bit"] | None
    engine_options: Mapping[str, Any]
    streaming: bool
    trust_remote_code: bool
    chat_template: str | None
    media_policy: MediaPolicy


class ChatArguments(ModelArguments, total=False):
    """Arguments of `ChatInternVL`, including LangChain's own; see `BaseChatModel`."""

    name: str | None
    cache: BaseCache | bool | None
    verbose: bool
    callbacks: Callbacks
    tags: list[str] | None
    metadata: dict[str, Any] | None
    custom_get_token_ids: Callable[[str], list[int]] | None
    rate_limiter: BaseRateLimiter | None
    disable_streaming: bool | Literal["tool_calling"]
    output_version: str | None
    profile: ModelProfile | None
