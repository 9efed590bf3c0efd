"""Settings of a model that a call cannot change: what is loaded, how, and what may be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from langchain_core.utils import secret_from_env
from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator
from typing_extensions import Self

from langchain_internvl.backends.base import Backend
from langchain_internvl.backends.lmdeploy.options import EngineOptions
from langchain_internvl.backends.server.addresses import check_address
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.errors import RequestError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.prompting.templates import get_template
from langchain_internvl.settings.call import CallSettings

_OF_BACKENDS: Mapping[str, frozenset[str]] = {
    "transformers": frozenset(
        {"dtype", "device_map", "attn_implementation", "quantization", "engine_options"}
    ),
    "lmdeploy": frozenset({"dtype", "engine_options"}),
    "server": frozenset(
        {
            "engine_options",
            "served_model",
            "server_prompt",
            "default_headers",
            "http_client",
        }
    ),
    "object": frozenset(),
}
"""Arguments that say how a backend is made, by the kinds of backends that take them."""

ServerPrompt = Literal["auto", "ids", "messages"]


class ModelSettings(CallSettings):
    """Settings that `ChatInternVL` has as arguments."""

    model_config = ConfigDict(
        hide_input_in_errors=True,  # the input has the key
        use_attribute_docstrings=True,
    )

    model: str = "OpenGVLab/InternVL2-8B"
    """Id on the Hugging Face hub, a local folder, or "nano", the embedded model."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None: the default branch."""
    backend: Any = "transformers"
    """"transformers", "lmdeploy", or any object with the methods of `backends.base.Backend`."""
    base_url: str | None = None
    """Address of a server, up to `/v1`, that has the model: LMDeploy's, or any that speaks OpenAI's
    protocol. Nothing is loaded here then. By default `INTERNVL_BASE_URL` of the environment, if
    `backend` is not given."""
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("INTERNVL_API_KEY", default=None), validate_default=True
    )
    """The server's key; by default `INTERNVL_API_KEY` of the environment. White space around it,
    as files leave it, is taken off."""
    default_headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    """Headers of every request to a server. Their values are secrets: no error has them."""
    http_client: Any = Field(default=None, exclude=True, repr=False)
    """`httpx.AsyncClient` for requests to a server, for proxies, certificates or transports. It
    is not closed here."""
    max_retries: int = Field(default=2, ge=0)
    """How often a request to a server is tried again, before its first token: without a connection,
    on 429 and on 5xx."""
    served_model: str | None = None
    """The model's name at the server; None: as `model`."""
    server_prompt: ServerPrompt = "auto"
    """How a server is asked: "ids", as everywhere else (LMDeploy only; the tokenizer of `model` is
    needed); "messages", by the server's own template; "auto": by ids where that is possible."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights; "auto": as stored."""
    device_map: str | dict[str, Any] | None = "auto"
    """Where the weights go, as in transformers; "auto": GPUs if there are any."""
    attn_implementation: str = "auto"
    """Attention of transformers; "auto": flash-attention where it can run, else SDPA."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Quantise the language model while loading, by bitsandbytes."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """transformers: what the engine takes on at once, `max_rows`, `max_kv_bytes`, `max_queued`;
    instances that share a model share its engine: they have the same options, or none. LMDeploy:
    fields of its engine config, and `engine`, "turbomind" or "pytorch". A server:
    `max_concurrency`, most requests at once."""
    streaming: bool = False
    """True: `invoke` and `ainvoke` stream inside, so that `on_llm_new_token` fires. False given
    explicitly: `stream` and `astream` yield one chunk."""
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

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = "" if value is None else value.get_secret_value().strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError("a key has printable ASCII characters only, as headers do")
        return SecretStr(key) if key else None

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

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
        if value not in ("transformers", "lmdeploy") and not isinstance(value, Backend):
            raise ValueError(
                f'backend is "transformers", "lmdeploy" or a Backend object, not {value!r}'
            )
        return value

    @property
    def backend_kind(self) -> str:
        """What runs the model: transformers, lmdeploy, a server, or an object of the user's."""
        if not isinstance(self.backend, str):
            return "object"
        return "server" if self.base_url is not None else self.backend

    @model_validator(mode="after")
    def _refuse_options_of_another_backend(self) -> Self:
        kind = self.backend_kind
        if kind == "object" and self.base_url is not None:
            raise ValueError("base_url: a backend object is no server; give one of the two")
        fields = type(self).model_fields
        given = [
            name for name in sorted(frozenset().union(*_OF_BACKENDS.values()) - _OF_BACKENDS[kind])
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]  # fmt: skip
        if given:
            raise ValueError(f"{', '.join(given)}: {_WHY_NOT[kind]}")
        _CHECKS[kind](self)
        return self


_WHY_NOT: Mapping[str, str] = {
    "transformers": "only a server (base_url) has that",
    "lmdeploy": "LMDeploy has its own ways; see engine_options",
    "server": "a server has loaded its model already",
    "object": "a backend object has its own settings",
}


def _check_server(settings: ModelSettings) -> None:
    options = settings.engine_options
    most = options.get("max_concurrency", 1)
    if options.keys() - {"max_concurrency"} or not isinstance(most, int) or most < 1:
        raise RequestError(
            f"engine_options of a server are max_concurrency, from 1, not {options!r}"
        )


_CHECKS: Mapping[str, Callable[[ModelSettings], object]] = {
    "transformers": lambda settings: Limits.from_options(settings.engine_options),
    "lmdeploy": lambda settings: EngineOptions.from_mapping(
        settings.dtype, settings.engine_options
    ),
    "server": _check_server,
    "object": lambda _settings: None,
}
