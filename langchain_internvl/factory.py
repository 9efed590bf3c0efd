"""Makes backends from settings; the only module that depends on all kinds of backends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from langchain_internvl.backends.bridge import ReplyDeadline
from langchain_internvl.backends.served import Prompts, Served
from langchain_internvl.checkpoint import find_cached, read_checkpoint
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    InternVLError,
    RequestError,
    RequestTimeoutError,
    ServerAccessError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)
from langchain_internvl.json_files import read_json
from langchain_internvl.prompting.control_tokens import add_control_tokens
from langchain_internvl.prompting.templates import TEMPLATES, get_template
from langchain_internvl.prompting.tokenization import declared_length
from langchain_internvl.reply_text.reasoning import LEVELS

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Backend
    from langchain_internvl.backends.registry import Engines
    from langchain_internvl.backends.server.backend import ServerBackend
    from langchain_internvl.backends.server.kinds import ServerKind
    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.settings.model import ModelSettings


def find_prompts(model: ModelSettings, engines: Engines) -> Prompts:
    """The tokenizer, template and other parts that build a model's prompts.

    Raises:
        CheckpointError: The checkpoint does not exist, or cannot be used here.
        ImportError: A required package is not installed.
        RequestError: The model is on a server, and its tokenizer is not on this machine.
    """
    kind = model.backend_kind
    try:
        return engines.prompts(
            model.model,
            model.revision,
            model.chat_template,
            runs_here=kind not in {"lmdeploy", "server"},
        )
    except CheckpointError as error:
        if kind != "server":
            raise
        raise RequestError(
            "render(), prompt_ids() and exact counts, and prompts by ids, need the tokenizer: name "
            "the checkpoint as model= (a folder or an id on the hub), and its name at the server "
            f"as served_model= ({error})"
        ) from error


def known_context_window(model: ModelSettings) -> int | None:
    """Maximum tokens of prompt and reply together, from settings or local files; None: unknown.

    Downloads nothing: a checkpoint of the hub is looked up in the local cache.
    """
    if model.context_window is not None:
        return model.context_window
    try:
        folder = find_cached(model.model, model.revision)
        if folder is None:
            return None
        declared = (read_json(folder / "tokenizer_config.json") or {}).get("model_max_length")
        window = declared_length(declared)
        return window or read_checkpoint(folder, runs_here=False).max_length
    except (InternVLError, OSError):  # damaged files; the first prompt reports them
        return None


def known_effort_levels(model: ModelSettings) -> tuple[str, ...]:
    """Levels of reasoning effort, from settings or local files; empty: none, or unknown.

    A server may have any model, so its levels are those that it accepts.
    """
    if model.backend_kind == "server":
        return LEVELS
    name = model.chat_template
    if name is None:
        try:
            folder = find_cached(model.model, model.revision)
            config = None if folder is None else read_json(folder / "config.json")
        except (InternVLError, OSError):  # damaged files; the first prompt reports them
            return ()
        name = str((config or {}).get("template"))
    return TEMPLATES[name].effort_levels if name in TEMPLATES else ()


def open_backend(model: ModelSettings, engines: Engines, prompts: Prompts) -> Backend:
    """The backend of a model.

    Args:
        model: The model's settings.
        engines: Registry of backends that are open already.
        prompts: Tokenizer and template of the model.
    """
    return _OPENERS[model.backend_kind](model, engines, prompts)


def find_served(
    model: ModelSettings, engines: Engines, deadline: Deadline | None = None
) -> Served | None:
    """The server or conversation backend of a model; None: this package builds the prompts.

    A backend object that takes conversations receives them if the checkpoint's tokenizer, or a
    package that reads it, is not on this machine.
    """
    if not (model.backend_kind == "object" and getattr(model.backend, "takes_turns", False)):
        return find_server(model, engines, deadline)
    key = model.model, model.revision, model.chat_template
    if key not in engines.without_prompts:
        try:
            find_prompts(model, engines)
        except (CheckpointNotFoundError, ImportError):
            engines.without_prompts.add(key)
        else:
            return None
    return Served(model.backend, None, takes_turns=True)


def find_server(
    model: ModelSettings, engines: Engines, deadline: Deadline | None = None
) -> Served | None:
    """The server of a model with its request format; None if the model has no server.

    Args:
        model: The model's settings.
        engines: Registry with the servers found so far.
        deadline: Deadline of the call.

    Raises:
        InternVLError: The server cannot be reached, or requested control tokens are missing.
    """
    if model.backend_kind != "server":
        return None
    key = "" if model.api_key is None else model.api_key.get_secret_value()
    settings = ("model", "revision", "chat_template", "base_url", "max_retries", "served_model",
                "server_prompt")  # fmt: skip
    headers = sorted(
        (header, one.get_secret_value()) for header, one in model.default_headers.items()
    )
    secret = hashlib.sha256(repr((key, headers)).encode()).hexdigest()
    name = (secret, id(model.http_client), repr(sorted(model.engine_options.items())),
            *(getattr(model, one) for one in settings))  # fmt: skip
    timeout = None if deadline is None else deadline.remaining()
    until = ReplyDeadline(timeout)
    return engines.served(name, lambda: _find_out(model, engines, until), timeout)


def system_of(model: ModelSettings, served: Served) -> str | None:
    """System text of the template of a server's model; None: unknown."""
    if model.chat_template is not None:
        return get_template(model.chat_template).default_system
    return None if served.prompts is None else served.prompts[2].default_system


def _find_out(model: ModelSettings, engines: Engines, deadline: ReplyDeadline) -> Served:
    prompts: Prompts | None = None
    try:
        prompts = find_prompts(model, engines)
    except (CheckpointError, ImportError, RequestError):
        if model.server_prompt == "ids":
            raise
    else:
        add_control_tokens(token.content for token in prompts[1].added_tokens)
    backend = _ask_server(model, prompts)
    by_ids = prompts is not None and model.server_prompt == "ids"
    try:
        if not by_ids:
            may_be_ids = prompts is not None and model.server_prompt == "auto"
            name = model.served_model or model.model
            kind = _kind_of_server(backend, name, deadline, is_needed=may_be_ids)
            by_ids = may_be_ids and kind.takes_ids
            backend.use_kind(kind)
    except BaseException:
        backend.close()
        raise
    return Served(backend, prompts, takes_turns=not by_ids)


def _ask_server(model: ModelSettings, prompts: Prompts | None) -> ServerBackend:
    from langchain_internvl.backends.server.backend import (  # noqa: PLC0415 - only for servers
        ServerBackend,
        ServerOptions,
    )
    from langchain_internvl.backends.server.client import ServerAddress  # noqa: PLC0415
    from langchain_internvl.backends.server.retries import Retries  # noqa: PLC0415

    key = None if model.api_key is None else model.api_key.get_secret_value()
    options = ServerOptions(
        model=model.served_model or model.model,
        retries=Retries(model.max_retries),
        **model.engine_options,
    )
    tokens = None if prompts is None else prompts[:2]
    headers = {name: one.get_secret_value() for name, one in model.default_headers.items()}
    address = ServerAddress(str(model.base_url), key, headers, model.http_client)
    return ServerBackend(address, options, tokens)


def _kind_of_server(
    backend: ServerBackend, name: str, deadline: ReplyDeadline, *, is_needed: bool
) -> ServerKind:
    """The kind of a server, detected from its list of models.

    Args:
        backend: The server.
        name: The model's name on the server.
        deadline: Deadline of the call.
        is_needed: Whether requests depend on the kind; if not, an unknown kind means OpenAI's
            format.

    Raises:
        ServerError: The kind is needed, and the server cannot be reached or rejects the API key.
        RequestTimeoutError: The deadline has passed, for instance while a tokenizer loaded.
    """
    from langchain_internvl.backends.server.kinds import OTHER, kind_of  # noqa: PLC0415

    left = deadline.for_thread()
    if left == 0:
        raise deadline.error()
    try:
        models = backend.models(left)
    except RequestTimeoutError:
        raise deadline.error() from None
    except (ServerAccessError, ServerBusyError, ServerUnavailableError):
        if is_needed:
            raise
        return OTHER
    except ServerError:
        return OTHER  # some gateways do not list their models
    own_first = sorted(models, key=lambda one: one.name != name)
    kinds = (kind_of(one.owner) for one in own_first)
    return next((kind for kind in kinds if kind is not OTHER), OTHER)


def _transformers(model: ModelSettings, engines: Engines, prompts: Prompts) -> Backend:
    checkpoint, tokenizer, _ = prompts
    return engines.transformers(
        checkpoint,
        tokenizer,
        dtype=model.dtype,
        device_map=model.device_map,
        attn_implementation=model.attn_implementation,
        quantization=model.quantization,
        adapter=model.adapter,
        merge_adapter=model.merge_adapter,
        limits=model.engine_options,
    )


def _lmdeploy(model: ModelSettings, engines: Engines, prompts: Prompts) -> Backend:
    checkpoint, tokenizer, _ = prompts
    return engines.lmdeploy(checkpoint, tokenizer, model.dtype, model.engine_options)


def _server(model: ModelSettings, engines: Engines, _prompts: Prompts) -> Backend:
    served = find_server(model, engines)
    if served is None:
        raise RequestError("there is no server: base_url is not set")
    return served.backend


def _given(model: ModelSettings, _engines: Engines, _prompts: Prompts) -> Backend:
    backend: Backend = model.backend
    return backend


_OPENERS: Mapping[str, Callable[[ModelSettings, Engines, Prompts], Backend]] = {
    "transformers": _transformers,
    "lmdeploy": _lmdeploy,
    "server": _server,
    "object": _given,
}
