"""From settings to engines: the only place that knows all kinds of backends."""

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
from langchain_internvl.prompting.templates import get_template
from langchain_internvl.prompting.tokenization import declared_length

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Backend
    from langchain_internvl.backends.registry import Engines
    from langchain_internvl.backends.server.backend import ServerBackend
    from langchain_internvl.backends.server.kinds import ServerKind
    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.settings.model import ModelSettings


def find_prompts(model: ModelSettings, engines: Engines) -> Prompts:
    """What prompts of a model are made with.

    Raises:
        CheckpointError: The checkpoint is not there, or of no use here.
        ImportError: A package that it needs is missing.
        RequestError: A server has the model, and its tokenizer is not here.
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
    """Most tokens of prompt and reply together, as far as settings or files on this machine say.

    Nothing is downloaded: a checkpoint of the hub is looked up in its cache. None: unknown.
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


def open_backend(model: ModelSettings, engines: Engines, prompts: Prompts) -> Backend:
    """The engine of a model.

    Args:
        model: The model's settings.
        engines: What is loaded already.
        prompts: What its prompts are made with.
    """
    return _OPENERS[model.backend_kind](model, engines, prompts)


def find_served(
    model: ModelSettings, engines: Engines, deadline: Deadline | None = None
) -> Served | None:
    """The backend of a model that takes conversations, or a server; None: prompts are made here.

    A backend object that takes conversations gets them where the checkpoint's tokenizer is not on
    this machine, or the packages that read it.
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
    """The server of a model, and how it is asked; None if it has none.

    Args:
        model: The model's settings.
        engines: What is known already.
        deadline: When it has to be known.

    Raises:
        InternVLError: The server cannot be reached, or tokens are missing that are asked for.
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
    """System text of the template that a server's model was trained with, if that is known."""
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
    from langchain_internvl.backends.server.backend import (  # noqa: PLC0415 - only servers need it
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
    """The kind of a server, by its list of models.

    Args:
        backend: The server.
        name: The model's name there.
        deadline: When it has to be known.
        is_needed: Whether requests depend on it; else they are OpenAI's where it is unknown.

    Raises:
        ServerError: It is needed, and the server cannot be reached, or not with this key.
        RequestTimeoutError: There is no time left, as a tokenizer may take a while to load.
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
        return OTHER  # it does not list its models: some gateways do not
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
