"""Base of the chat model: argument names, copies, engines, and preparation of requests."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from pydantic import PrivateAttr, model_validator
from typing_extensions import Self, override

from langchain_internvl.backends.base import Backend, EngineStats, Request
from langchain_internvl.backends.registry import Engines
from langchain_internvl.backends.served import Served
from langchain_internvl.errors import InternVLError, MediaError, MessageError, did_you_mean
from langchain_internvl.factory import find_prompts, find_served, open_backend, system_of
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.messages.conversation import Turn
from langchain_internvl.messages.convert import to_turns
from langchain_internvl.messages.references import normalise_messages
from langchain_internvl.prompting.reply_ids import replies_of
from langchain_internvl.requests.call_context import context_of
from langchain_internvl.requests.chunks import ChunkMaker
from langchain_internvl.requests.message_request import (
    TurnRenderer,
    check_for_server,
    refuse_thoughts,
)
from langchain_internvl.requests.prompt_request import Renderer, call_stream, make_request
from langchain_internvl.settings.call import CallSettings, without_superseded
from langchain_internvl.settings.model import ENGINE_SETTINGS, ModelSettings
from langchain_internvl.tool_calling.response_format import (
    RESPONSE_SETTINGS,
    ResponseFormat,
    read_response_format,
)


class PreparedModel(ModelSettings, BaseChatModel):
    """The part of the chat model that loads backends and prepares their requests."""

    _engines: Engines = PrivateAttr(default_factory=Engines)
    _warned: set[str] = PrivateAttr(default_factory=set)
    # Identifies backend objects in caches: an `id()` may be reused.
    _backend_key: str = PrivateAttr(default_factory=lambda: uuid4().hex)

    @model_validator(mode="before")
    @classmethod
    def _read_names(cls, values: Any) -> Any:
        """Read alternative argument names; unknown ones warn, as LangChain passes extra ones."""
        if not isinstance(values, Mapping):
            return values
        read = cls._known(values, stacklevel=5)
        address = os.environ.get("INTERNVL_BASE_URL")
        if address and not {"base_url", "backend"} & read.keys():
            read["base_url"] = address
        return read

    @classmethod
    def _known(cls, values: Mapping[str, Any], *, stacklevel: int) -> dict[str, Any]:
        """The values whose names are arguments, with a warning about the others."""
        known = cls.model_fields.keys()
        read = {name: value for name, value in values.items() if name in known}
        for name in values.keys() - known - {"model_name"}:
            hint = did_you_mean(name, known)
            warnings.warn(f"ChatInternVL has no argument {name!r}{hint}", stacklevel=stacklevel)
        if "model_name" in values:  # other chat models of LangChain call it so
            read = {"model": values["model_name"], **read}
        return read

    @override
    def __copy__(self) -> Self:
        """A copy; closing it or changing its settings does not affect this instance."""
        copied = super().__copy__()
        copied._engines = self._engines.for_copy()  # noqa: SLF001 - of the same class
        return copied

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A deep copy, with the same backend object and HTTP client: both hold connections."""
        shared = {id(one): one for one in (self.backend, self.http_client)}
        memo = {} if memo is None else memo
        memo.update(shared)
        return super().__deepcopy__(memo)

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the loaded model; see `pydantic.BaseModel.model_copy`.

        Args:
            update: New values of arguments, validated as in the constructor; unknown names warn.
            deep: Copy the values of arguments too.

        Raises:
            ValidationError: A value is invalid.
        """
        known = type(self).model_fields
        changed = self._known(update or {}, stacklevel=3)
        if changed:
            given = {name: getattr(self, name) for name in self.model_fields_set & known.keys()}
            if self.profile == self._resolve_model_profile():  # it follows the settings
                del given["profile"]
                changed.setdefault("profile", None)
            backend = changed.get("backend", self.backend)
            if not isinstance(backend, str) or {"backend", "base_url"} & changed.keys():
                # Settings of the original's engine do not apply to another backend.
                given = {name: one for name, one in given.items() if name not in ENGINE_SETTINGS}
            checked = type(self)(**{**without_superseded(given, changed), **changed})
            # Contradicted settings change too, although `update` does not name them.
            dropped = given.keys() - without_superseded(given, changed).keys()
            changed = {name: getattr(checked, name) for name in {*changed, *dropped}}
        copied = super().model_copy(deep=deep)
        return super(PreparedModel, copied).model_copy(update=changed) if changed else copied

    @property
    def engine_stats(self) -> EngineStats:
        """Current statistics of the engine; all zero before the first reply."""
        if isinstance(self.backend, str):
            return self._engines.stats
        stats = getattr(self.backend, "stats", None)
        return stats if isinstance(stats, EngineStats) else EngineStats()

    def warm_up(self) -> None:
        """Load the model and run it once, so that the first reply does not wait for loading.

        Has no effect with servers and with backends that need no warm-up.

        Raises:
            InternVLError: The model cannot be loaded.
        """
        if self.backend_kind == "server":
            return
        backend = self._backend(self._renderer(self._read_call({})[0]))
        warm_up = getattr(backend, "warm_up", None)
        if warm_up is not None:
            warm_up()

    def clear_caches(self) -> None:
        """Clear the KV cache and the vision features that are stored for later turns.

        Running requests continue. The caches are shared by all instances with the same model.
        """
        clear = getattr(self.backend, "clear_caches", self._engines.clear_caches)
        clear()

    def close(self) -> None:
        """Free the model unless another instance uses it; the next request loads it again."""
        self._engines.close()

    # Preparation of calls.

    @override
    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        try:
            value = super()._convert_input(model_input)
        except InternVLError:
            raise
        except (LookupError, NotImplementedError, TypeError, ValueError) as error:
            raise MessageError(f"the input is no text and no messages: {error}") from error
        if isinstance(value, StringPromptValue):
            return value
        return ChatPromptValue(messages=self._normalise(value.to_messages()))

    def _normalise(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        return normalise_messages(messages, self.media_policy)

    def _turns(self, messages: LanguageModelInput) -> list[Turn]:
        return to_turns(self._convert_input(messages).to_messages(), self.media_policy)

    def _read_call(
        self, overrides: Mapping[str, Any], stop: list[str] | None = None
    ) -> tuple[CallSettings, ResponseFormat]:
        """The settings of a call and its response format."""
        settings = {
            name: one
            for name, one in overrides.items()
            # `stream` of a call is LangChain's: it chooses between `_generate` and `_stream`.
            if name not in RESPONSE_SETTINGS and name != "stream"
        }
        form = {name: one for name, one in overrides.items() if name in RESPONSE_SETTINGS}
        read = self.for_call(settings if stop is None else {**settings, "stop": stop})
        response_format = read_response_format(form)
        if response_format.choices and read.num_logprobs is not None:
            warnings.warn(
                "ChatInternVL: no effect with choices: logprobs; response_metadata['choices'] has "
                "the probabilities",
                stacklevel=2,
            )
        return read, response_format

    def _prepare(
        self,
        messages: list[BaseMessage],
        settings: CallSettings,
        deadline: Deadline,
        form: ResponseFormat | None = None,
    ) -> tuple[Backend, Request, ChunkMaker]:
        """The backend, the request for it, and the maker of message chunks from its deltas."""
        served = find_served(self, self._engines, deadline)
        try:
            if served is not None and served.takes_turns:
                turn_renderer = self._turn_renderer(served, settings, deadline, form)
                turns = to_turns(messages, self.media_policy)
                self._warn_of_unused(settings)
                if self.backend_kind == "server":
                    check_for_server(turn_renderer.form, turn_renderer.options, turns)
                request = turn_renderer.make_request(settings, turns)
                calls = turn_renderer.call_stream(settings)
                chunks = ChunkMaker(self.model, 0, {}, calls, request.choices)
                return served.backend, request, chunks
            if served is not None and form is not None:
                refuse_thoughts(form, thinks=settings.thinks)
            renderer = self._renderer(settings, form, deadline)
            request = make_request(settings, renderer, to_turns(messages, self.media_policy))
        except MediaError as error:
            if deadline.is_over:
                raise deadline.error() from error
            raise
        token_bytes = renderer.tokenizer.token_bytes
        calls = call_stream(settings, renderer)
        chunks = ChunkMaker(
            self.model,
            len(request.prompt_ids),
            token_bytes,
            calls,
            request.choices,
            channels=renderer.template.channels,
            replies=replies_of(renderer.tokenizer),
            stop_ids=request.stop_ids,
        )
        return self._backend(renderer), request, chunks

    def _warn_of_unused(self, settings: CallSettings) -> None:
        """Warn once about each setting without effect on a backend that takes messages."""
        known = set() if self.server_prompt == "auto" else set(self.unused_by_messages())
        unused = set(self.unused_by_messages(settings)) - known - self._warned
        if unused:
            self._warned |= unused
            why = (
                "the server writes the prompt by its own template; LMDeploy also takes "
                'server_prompt="ids"'
                if self.backend_kind == "server"
                else "the backend gets the conversation; prompts are built here if model= names a "
                "checkpoint of this machine"
            )
            names = ", ".join(sorted(unused))
            warnings.warn(f"ChatInternVL: no effect: {names} ({why})", stacklevel=2)

    def _renderer(
        self,
        settings: CallSettings,
        form: ResponseFormat | None = None,
        deadline: Deadline | None = None,
    ) -> Renderer:
        checkpoint, tokenizer, template = find_prompts(self, self._engines)
        return Renderer(
            **self._context(settings, form, deadline or Deadline()),
            checkpoint=checkpoint,
            tokenizer=tokenizer,
            template=template,
            tiles=settings.tile_limits(checkpoint.tiles),
            reasoning=settings.reasoning,
        )

    def _turn_renderer(
        self,
        served: Served,
        settings: CallSettings,
        deadline: Deadline,
        form: ResponseFormat | None,
    ) -> TurnRenderer:
        """Renderer of requests without a tokenizer, for a server that builds prompts itself."""
        return TurnRenderer(
            **self._context(settings, form, deadline),
            template_system=system_of(self, served),
            generation={} if served.prompts is None else served.prompts[0].generation,
        )

    def _context(
        self, settings: CallSettings, form: ResponseFormat | None, deadline: Deadline
    ) -> dict[str, Any]:
        return context_of(
            settings, form, policy=self.media_policy, media=self._engines.media, deadline=deadline
        )

    def _backend(self, renderer: Renderer) -> Backend:
        prompts = renderer.checkpoint, renderer.tokenizer, renderer.template
        return open_backend(self, self._engines, prompts)
