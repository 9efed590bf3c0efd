"""Settings that a call cannot change: the model, its loading, the server and the media policy."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

from langchain_core.utils import secret_from_env
from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator
from typing_extensions import Self

from langchain_internvl import nano
from langchain_internvl.backends.base import Backend
from langchain_internvl.backends.lmdeploy.options import EngineOptions
from langchain_internvl.backends.server.addresses import check_address
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.errors import CheckpointNotFoundError, RequestError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.model_files.hub import local_folder
from langchain_internvl.prompting.templates import get_template
from langchain_internvl.settings.call import CallSettings
from langchain_internvl.settings.descriptions import describe_fields

_SERVER = frozenset({"server"})
_TRANSFORMERS = frozenset({"transformers"})

_USED_BY: Mapping[str, frozenset[str]] = {
    "adapter": _TRANSFORMERS,
    "api_key": _SERVER,
    "attn_implementation": _TRANSFORMERS,
    "chat_template_kwargs": _SERVER,
    "default_headers": _SERVER,
    "device_map": _TRANSFORMERS,
    "dtype": frozenset({"transformers", "lmdeploy"}),
    "engine_options": frozenset({"transformers", "lmdeploy", "server"}),
    "http_client": _SERVER,
    "max_retries": _SERVER,
    "merge_adapter": _TRANSFORMERS,
    "quantization": _TRANSFORMERS,
    "served_model": _SERVER,
    "server_prompt": _SERVER,
}
"""Arguments that only some kinds of backend use, and these kinds. All backends use the other
arguments, except `_USED_BY_IDS` and the `revision` of a folder."""

ENGINE_SETTINGS = frozenset(_USED_BY)
"""Names of the arguments that configure an engine or the connection to a server."""

_USED_BY_IDS = ("context_window", "join_images", "number_images")
"""Settings without effect if a server renders the prompt."""

_GIVEN_TO_EVERY_MODEL = frozenset({"api_key", "max_retries"})
"""Arguments that generic LangChain code passes to every chat model: they warn if they have no
effect. Any other argument that a backend does not use raises."""

ServerPrompt = Literal["auto", "ids", "messages"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Token of RFC 9110, 5.6.2."""
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")


@describe_fields
class ModelSettings(CallSettings):
    """Arguments of `ChatInternVL`."""

    model_config = ConfigDict(
        hide_input_in_errors=True,  # the input may have the API key
    )

    model: str = "OpenGVLab/InternVL2-8B"
    """Id on the Hugging Face hub, a local folder, or "nano", the embedded model."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None: the default branch."""
    backend: Any = "transformers"
    """"transformers", "lmdeploy", or any object with the methods of `backends.base.Backend`."""
    base_url: str | None = None
    """Base URL of a server with the model, up to `/v1`: LMDeploy's, or any with OpenAI's API. No
    model is loaded in this process then. Default: the environment variable `INTERNVL_BASE_URL`, if
    `backend` is not given."""
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("INTERNVL_API_KEY", default=None), validate_default=True
    )
    """API key of the server. Default: the environment variable `INTERNVL_API_KEY`. Surrounding
    white space, as in files, is removed."""
    default_headers: dict[str, SecretStr] = Field(default_factory=dict, repr=False)
    """Headers of every request to a server. Their values are secret, and masked in errors."""
    http_client: Any = Field(default=None, exclude=True, repr=False)
    """`httpx.AsyncClient` for requests to a server, for proxies, certificates or transports. The
    caller closes it."""
    max_retries: int = Field(default=2, ge=0)
    """Maximum number of retries of a request to a server, before its first token: on connection
    errors, 429 and 5xx."""
    served_model: str | None = None
    """Name of the model on the server; None: `model`."""
    server_prompt: ServerPrompt = "auto"
    """Form of prompts for a server. "ids": token ids, as for other backends (LMDeploy only; needs
    the tokenizer of `model`); "messages": the server's own template; "auto": ids if possible."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Data type of the weights; "auto": as `config.json` says, or as stored if it does not."""
    device_map: str | dict[str, Any] | None = "auto"
    """Placement of the weights, as in transformers; "auto": the GPUs, or the CPU without any."""
    attn_implementation: str = "auto"
    """Attention implementation of transformers; "auto": flash-attention if possible, else SDPA."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Quantise the language model while loading, by bitsandbytes."""
    adapter: str | None = None
    """LoRA adapter in peft's format: a folder, or an id on the Hugging Face hub. Each adapter has
    its own engine."""
    merge_adapter: bool = True
    """Add the adapter to the weights while loading; False: keep it beside them, in layers of peft
    (extra `adapters`), which also works with `quantization`."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """transformers: limits of the engine, such as `max_rows`, `max_kv_bytes` and `max_queued`, and
    `cuda_graphs` (True, False; None: where possible); instances of the same model share its engine,
    so they must have the same options, or none.
    LMDeploy: fields of its engine config, and `engine`, "turbomind" or "pytorch". A server:
    `max_concurrency`, the maximum number of concurrent requests."""
    streaming: bool = False
    """True: `invoke` and `ainvoke` stream internally, so that `on_llm_new_token` fires. Explicit
    False: `stream` and `astream` yield one chunk."""
    trust_remote_code: bool = False
    """Must be False: remote code of a checkpoint is never run."""
    chat_template: str | None = None
    """Name of a template; None: the checkpoint's own."""
    media_policy: MediaPolicy = MediaPolicy()
    """Limits on the media of messages: sizes, seconds, hosts and folders."""

    @field_validator("model", "adapter", mode="before")
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

    @field_validator("default_headers")
    @classmethod
    def _check_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError("default_headers: a name has letters, digits and - _ . only")
            if not _HEADER_VALUE.fullmatch(secret.get_secret_value()):
                raise ValueError(
                    f"default_headers: the value of {name} has characters other than printable "
                    "ASCII, or white space around it"
                )
        return value

    @field_validator("http_client")
    @classmethod
    def _check_client(cls, value: Any) -> Any:
        if value is not None and not (hasattr(value, "send") and hasattr(value, "aclose")):
            raise ValueError(f"http_client is a httpx.AsyncClient, not a {type(value).__name__}")
        return value

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
        """Kind of the backend: transformers, lmdeploy, a server, or the user's own object."""
        if not isinstance(self.backend, str):
            return "object"
        return "server" if self.base_url is not None else self.backend

    def unused_by_messages(self, settings: CallSettings | None = None) -> list[str]:
        """Names of explicit settings without effect if the backend writes the prompt itself.

        Args:
            settings: Settings of a call; None: the model's.
        """
        asked = self if settings is None else settings
        is_given = {
            "context_window": asked.context_window is not None,
            "join_images": asked.join_images,
            "number_images": asked.number_images and "number_images" in asked.model_fields_set,
        }
        return [name for name in _USED_BY_IDS if is_given[name]]

    def _is_set(self, name: str) -> bool:
        """Whether an argument is set explicitly, to another value than its default."""
        if name == "api_key":  # its default comes from the environment
            return self.api_key is not None and name in self.model_fields_set
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(self, name) != default)

    @property
    def _is_local(self) -> bool:
        try:
            return self.model == nano.NAME or local_folder(self.model) is not None
        except CheckpointNotFoundError:  # the name cannot be a path
            return False

    @model_validator(mode="after")
    def _refuse_options_of_another_backend(self) -> Self:
        kind = self.backend_kind
        if kind == "object" and self.base_url is not None:
            raise ValueError("base_url: a backend object is no server; give one of the two")
        unused = [
            name for name, kinds in _USED_BY.items() if kind not in kinds and self._is_set(name)
        ]
        refused = [name for name in unused if name not in _GIVEN_TO_EVERY_MODEL]
        if refused:
            raise ValueError(f"{', '.join(refused)}: {_WHY_NOT[kind]}")
        whys = {_WHY_NOT[kind]: unused}
        if self.revision is not None and self._is_local:
            whys["a local folder has one revision"] = ["revision"]
        if kind == "transformers" and not self.merge_adapter and self.adapter is None:
            whys["there is no adapter"] = ["merge_adapter"]
        if kind == "server" and self.server_prompt == "messages":
            whys[_WHY_NOT["messages"]] = self.unused_by_messages()
        ineffective = [f"{', '.join(names)} ({why})" for why, names in whys.items() if names]
        if ineffective:
            warnings.warn(f"ChatInternVL: no effect: {'; '.join(ineffective)}", stacklevel=4)
        _CHECKS[kind](self)
        return self


_WHY_NOT: Mapping[str, str] = {
    "transformers": "only a server (base_url) has that",
    "lmdeploy": "LMDeploy has its own ways; see engine_options",
    "server": "a server has loaded its model already",
    "object": "a backend object has its own settings",
    "messages": "the server writes the prompt by its own template",
}
"""Why an argument has no effect, by the kind of backend."""


def _check_server(settings: ModelSettings) -> None:
    options = settings.engine_options
    most = options.get("max_concurrency", 1)
    if options.keys() - {"max_concurrency"} or type(most) is not int or most < 1:
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
