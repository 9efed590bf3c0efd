"""Settings of a model that a call cannot change: what is loaded, how, and what may be read."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from langchain_internvl.backends.base import Backend
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.settings import CallSettings
from langchain_internvl.templates import get_template

_OF_TRANSFORMERS = ("dtype", "device_map", "attn_implementation", "quantization", "engine_options")
"""Arguments that say how the transformers backend is made."""


class ModelSettings(CallSettings):
    """Settings that `ChatInternVL` has as arguments."""

    model: str = "OpenGVLab/InternVL2-8B"
    """Id on the Hugging Face hub, a local folder, or "nano", the embedded model."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None: the default branch."""
    backend: Any = "transformers"
    """"transformers", or any object with the methods of `backends.base.Backend`."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights; "auto": as stored."""
    device_map: str | dict[str, Any] | None = "auto"
    """Where the weights go, as in transformers; "auto": GPUs if there are any."""
    attn_implementation: str = "auto"
    """Attention of transformers; "auto": flash-attention where it can run, else SDPA."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Quantise the language model while loading, by bitsandbytes."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """What the engine takes on at once: `max_rows`, `max_kv_bytes`, `max_queued`. Instances that
    share a model share its engine: they have the same options, or none."""
    trust_remote_code: bool = False
    """Stays False: code that comes with a checkpoint is never run."""
    chat_template: str | None = None
    """Name of a template; None: the checkpoint's own."""
    media_policy: MediaPolicy = MediaPolicy()
    """Limits on images: bytes, pixels, addresses."""

    @field_validator("model", mode="before")
    @classmethod
    def _read_path(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("chat_template")
    @classmethod
    def _check_template(cls, value: str | None) -> str | None:
        if value is not None:
            get_template(value)
        return value

    @field_validator("trust_remote_code")
    @classmethod
    def _refuse_remote_code(cls, value: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        if value:
            raise ValueError("ChatInternVL never runs code of a checkpoint; leave it False")
        return value

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: Any) -> Any:
        if value != "transformers" and not isinstance(value, Backend):
            raise ValueError(f'backend is "transformers" or a Backend object, not {value!r}')
        return value

    @field_validator("engine_options")
    @classmethod
    def _check_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        Limits.from_options(value)
        return value

    @model_validator(mode="after")
    def _refuse_options_of_another_backend(self) -> Self:
        if isinstance(self.backend, str):
            return self
        fields = type(self).model_fields
        given = [
            name for name in _OF_TRANSFORMERS
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]  # fmt: skip
        if given:
            raise ValueError(f"{', '.join(given)}: a backend object has its own settings")
        return self
