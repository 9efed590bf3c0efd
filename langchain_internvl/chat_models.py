"""`ChatInternVL`, the LangChain chat model. Only this module knows `BaseChatModel`."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, cast
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr, model_validator
from typing_extensions import Self, override

from langchain_internvl.backends.base import Backend, EngineStats, Request, astream
from langchain_internvl.backends.registry import Engines
from langchain_internvl.backends.served import Served
from langchain_internvl.errors import InternVLError, MediaError, MessageError
from langchain_internvl.factory import (
    find_prompts,
    find_served,
    known_context_window,
    open_backend,
    system_of,
)
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.messages.conversation import Turn
from langchain_internvl.messages.convert import to_turns
from langchain_internvl.messages.references import normalise_messages
from langchain_internvl.profile import make_profile
from langchain_internvl.requests.chunks import ChunkMaker, explain_invalid_calls
from langchain_internvl.requests.message_request import (
    TurnRenderer,
    check_for_server,
    refuse_thoughts,
)
from langchain_internvl.requests.prompt_request import Renderer, call_stream, make_request
from langchain_internvl.settings.call import CallSettings
from langchain_internvl.settings.model import ENGINE_SETTINGS, ModelSettings
from langchain_internvl.tool_calling.response_format import (
    RESPONSE_SETTINGS,
    ResponseFormat,
    read_response_format,
)
from langchain_internvl.tool_calling.structured_output import (
    Method,
    ValueParser,
    ask_for,
    read_with,
    trace_of,
)
from langchain_internvl.tool_calling.tool_definitions import to_openai_tool


class ChatInternVL(ModelSettings, BaseChatModel):
    """InternVL as a LangChain chat model: on this machine, or at a server (`base_url`).

    Loads `OpenGVLab/InternVL2`, 2.5, 3 and 3.5 in their original format and `-hf` checkpoints,
    with current transformers and without remote code. Nothing is loaded before it is needed: the
    tokenizer with the first prompt, the weights with the first reply.

    All arguments that `CallSettings` lists (sampling, tiles, prompts) may also be given to
    `invoke`, `stream`, `batch` or `bind`, for that call.

    Example:
        ```python
        from langchain_core.messages import HumanMessage
        from langchain_internvl import ChatInternVL, image_block

        llm = ChatInternVL(model="OpenGVLab/InternVL2-8B", temperature=0)
        question = {"type": "text", "text": "What is in the picture?"}
        print(llm.invoke([HumanMessage([image_block("photo.jpg"), question])]).content)
        ```
    """

    _engines: Engines = PrivateAttr(default_factory=Engines)
    _warned: set[str] = PrivateAttr(default_factory=set)
    # Tells backend objects apart in caches, as an address may be used again.
    _backend_key: str = PrivateAttr(default_factory=lambda: uuid4().hex)

    @model_validator(mode="before")
    @classmethod
    def _read_names(cls, values: Any) -> Any:
        """LangChain passes arguments that not every model has, so unknown ones only warn."""
        if not isinstance(values, Mapping):
            return values
        known = cls.model_fields.keys()
        for name in values.keys() - known - {"model_name"}:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            warnings.warn(f"ChatInternVL has no argument {name!r}{hint}", stacklevel=4)
        read = dict(values)
        if "model_name" in read:  # other chat models of LangChain call it so
            read = {"model": read["model_name"], **read}
        address = os.environ.get("INTERNVL_BASE_URL")
        if address and not {"base_url", "backend"} & read.keys():
            read["base_url"] = address
        return read

    @override
    def __copy__(self) -> Self:
        """A copy that is closed, and gets other settings, without effect on this one."""
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
        """A copy, which shares what is loaded; see `pydantic.BaseModel.model_copy`.

        Args:
            update: Other values of arguments; they are validated as by the constructor.
            deep: Copy the values of arguments too.

        Raises:
            ValidationError: A value is wrong.
        """
        known = type(self).model_fields
        changed = {name: one for name, one in (update or {}).items() if name in known}
        if changed:
            given = {name: getattr(self, name) for name in self.model_fields_set & known.keys()}
            if self.profile == self._resolve_model_profile():  # it follows the settings
                del given["profile"]
                changed.setdefault("profile", None)
            backend = changed.get("backend", self.backend)
            if not isinstance(backend, str) or {"backend", "base_url"} & changed.keys():
                # What the engine of the original was made with says nothing about another.
                given = {name: one for name, one in given.items() if name not in ENGINE_SETTINGS}
            checked = type(self)(**{**given, **changed})
            update = {**(update or {}), **{name: getattr(checked, name) for name in changed}}
        copied = super().model_copy(deep=deep)
        return copied if update is None else super(ChatInternVL, copied).model_copy(update=update)

    # What the model is, for LangChain.

    @property
    @override
    def _llm_type(self) -> str:
        return "internvl"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that changes a reply, so that caches tell models apart."""
        own = type(self).model_fields.keys() - BaseChatModel.model_fields.keys()
        own -= {
            "api_key",
            "default_headers",
            "http_client",
            "engine_options",
            "max_retries",
            "streaming",
            "timeout",
        }
        params = {name: getattr(self, name) for name in sorted(own)}
        params["media_policy"] = self.media_policy.model_dump()
        if not isinstance(self.backend, str):
            params["backend"] = f"{self.backend!r} {id(self.backend)} {self._backend_key}"
        return params

    @override
    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """The cache's name for this model: LangChain's own leaves out what it cannot serialise."""
        own = json.dumps(self._identifying_params, sort_keys=True, default=str)
        return f"{super()._get_llm_string(stop, **kwargs)}---{own}"

    @override
    def _resolve_model_profile(self) -> ModelProfile:
        return make_profile(
            reasoning=self.thinks,
            max_tokens=self.max_tokens,
            context_window=known_context_window(self),
            writes_prompt=self.backend_kind != "server",
        )

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "INTERNVL_API_KEY"}

    @classmethod
    @override
    def get_lc_namespace(cls) -> list[str]:
        return ["langchain_internvl", "chat_models"]

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=stop or self.stop, **kwargs)

    # Prompts, without the weights.

    def render(self, messages: LanguageModelInput, *, expand: bool = False, **kwargs: Any) -> str:
        """The exact prompt of messages, as text.

        Args:
            messages: As for `invoke`.
            expand: Write every context token of every image; False: `<image>` for each image.
            **kwargs: Settings of this call, tools too.
        """
        renderer = self._renderer(*self._read_call(kwargs))
        return renderer.to_text(renderer.prompt(self._turns(messages)), expand=expand)

    def prompt_ids(self, messages: LanguageModelInput, **kwargs: Any) -> list[int]:
        """The exact token ids of messages, images included.

        Args:
            messages: As for `invoke`.
            **kwargs: Settings of this call, tools too.
        """
        renderer = self._renderer(*self._read_call(kwargs))
        return renderer.to_ids(renderer.prompt(self._turns(messages)))

    @override
    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """The exact number of prompt tokens of messages, images and tools included."""
        # trim_messages asks for the length of nothing too.
        return len(self.prompt_ids(messages, tools=tools)) if messages else 0

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text, as it would be read in the middle of a message.

        Those of `custom_get_token_ids`, if it is given.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._renderer(self).tokenizer.encode_text(text)

    def get_text(self, token_ids: Sequence[int]) -> str:
        """What ids say, without special tokens: of a prompt or a reply, as tests look at them."""
        table = self._renderer(self).tokenizer.token_bytes
        return b"".join(table.get(one, b"") for one in token_ids).decode("utf-8", "replace")

    # Tools and values.

    @override
    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give the model tools to call.

        The arguments of a call fit the tool's schema: nothing else can be written.

        Args:
            tools: Tools, functions, classes or schemas.
            tool_choice: "auto" (also None): words or calls; "any" or "required": calls and
                nothing else; the name of a tool: a call of it; "none": words only.
            parallel_tool_calls: Whether a reply may call several times. None: only if it need not
                call at all.
            strict: True raises for a keyword of a schema that cannot be guaranteed; else such
                keywords are left to the tool's own validation.
            **kwargs: Settings of the calls.

        Raises:
            RequestError: The arguments do not fit together.
            SchemaError: A schema is malformed, or cannot be guaranteed and `strict` is True.
        """
        settings = {
            "tools": [to_openai_tool(tool, strict=strict) for tool in tools],
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
        }
        return self._bind({**kwargs, **{k: v for k, v in settings.items() if v is not None}})

    @override
    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Let replies be values of a schema: nothing else can be written.

        Args:
            schema: A JSON schema (replies are dictionaries), or a Python type (replies are its
                values): a pydantic model, a dataclass, a TypedDict, an Enum, a Literal, a Union,
                `list[...]`, `int`, `date` and all else that pydantic reads.
            method: "json_schema" tells the model the schema, "json_mode" leaves that to your
                prompt, "function_calling" tells it as a tool and forces a call of it.
            include_raw: Give a dictionary of `raw` (the message), `parsed` and `parsing_error`.
            strict: False: keywords that cannot be guaranteed are left out, else they raise.
            **kwargs: Settings of the calls.

        Raises:
            RequestError: There is no such method or schema.
            SchemaError: A keyword of the schema cannot be guaranteed, and says where it stands;
                or values of the type cannot be written in JSON.
        """
        settings = ask_for(schema, method, strict=strict)
        traced = trace_of(schema, method, strict=strict)
        llm = self._bind({**kwargs, **settings}).bind(ls_structured_output_format=traced)
        parser = ValueParser(wanted=schema, is_call=method == "function_calling")
        return read_with(llm, parser, include_raw=include_raw)

    def _bind(self, settings: dict[str, Any]) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind settings, of which what is wrong is told now."""
        self._read_call(settings)
        return self.bind(**settings)

    # Replies.

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

    @override
    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer several conversations; see `BaseChatModel.generate`."""
        return super().generate([self._normalise(one) for one in messages], *args, **kwargs)

    @override
    async def agenerate(
        self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Answer several conversations; see `BaseChatModel.agenerate`."""
        normal = [await run_in_executor(None, self._normalise, one) for one in messages]
        return await super().agenerate(normal, *args, **kwargs)

    @override
    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        prompt = await run_in_executor(None, self._convert_input, input)  # may read files
        return await super().ainvoke(prompt, config, **kwargs)

    @override
    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        prompt = await run_in_executor(None, self._convert_input, input)  # may read files
        chunks = cast("AsyncGenerator[AIMessageChunk]", super().astream(prompt, config, **kwargs))
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = self._stream(messages, stop, run_manager, **kwargs)
        return explain_invalid_calls(generate_from_stream(chunks))

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        settings, form = self._read_call(kwargs, stop)
        deadline = Deadline(settings.timeout)
        backend, request, chunks = self._prepare(messages, settings, deadline, form)
        with closing(backend.stream(request)) as deltas:  # ends it when nobody reads on
            for delta in deltas:
                yield from chunks.add(delta)
                if chunks.is_done:
                    break

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = [chunk async for chunk in self._astream(messages, stop, run_manager, **kwargs)]
        return explain_invalid_calls(generate_from_stream(iter(chunks)))

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        settings, form = self._read_call(kwargs, stop)
        deadline = Deadline(settings.timeout)
        # Media are read and cut up in another thread; from there on no thread waits for tokens.
        try:
            backend, request, chunks = await run_in_executor(
                None, self._prepare, messages, settings, deadline, form
            )
        except asyncio.CancelledError:
            deadline.cancel()  # nobody waits for what is being decoded
            raise
        async with aclosing(astream(backend, request)) as deltas:
            async for delta in deltas:
                for chunk in chunks.add(delta):
                    yield chunk
                if chunks.is_done:
                    break

    @property
    def engine_stats(self) -> EngineStats:
        """What the engine is doing; all zero before the first reply."""
        if isinstance(self.backend, str):
            return self._engines.stats
        stats = getattr(self.backend, "stats", None)
        return stats if isinstance(stats, EngineStats) else EngineStats()

    def close(self) -> None:
        """Free the model, unless another instance uses it too; the next reply loads it again."""
        self._engines.close()

    # What a call is made with.

    def _normalise(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        return normalise_messages(messages, self.media_policy)

    def _turns(self, messages: LanguageModelInput) -> list[Turn]:
        return to_turns(self._convert_input(messages).to_messages())

    def _read_call(
        self, overrides: Mapping[str, Any], stop: list[str] | None = None
    ) -> tuple[CallSettings, ResponseFormat]:
        """The settings of a call, and what its reply may be."""
        settings = {
            name: one
            for name, one in overrides.items()
            # `stream` of a call is LangChain's: it chooses between `_generate` and `_stream`.
            if name not in RESPONSE_SETTINGS and name != "stream"
        }
        form = {name: one for name, one in overrides.items() if name in RESPONSE_SETTINGS}
        return self.for_call(
            settings if stop is None else {**settings, "stop": stop}
        ), read_response_format(form)

    def _prepare(
        self,
        messages: list[BaseMessage],
        settings: CallSettings,
        deadline: Deadline,
        form: ResponseFormat | None = None,
    ) -> tuple[Backend, Request, ChunkMaker]:
        """All that there is to do before the engine is asked."""
        served = find_served(self, self._engines, deadline)
        try:
            if served is not None and served.takes_turns:
                turn_renderer = self._turn_renderer(served, settings, deadline, form)
                turns = to_turns(messages)
                if self.backend_kind == "server":
                    self._warn_of_unused(settings)
                    check_for_server(turn_renderer.form, turn_renderer.options, turns)
                request = turn_renderer.make_request(settings, turns)
                calls = turn_renderer.call_stream(settings)
                chunks = ChunkMaker(self.model, 0, {}, calls, request.choices)
                return served.backend, request, chunks
            if served is not None and form is not None:
                refuse_thoughts(form, thinks=settings.thinks)
            renderer = self._renderer(settings, form, deadline)
            request = make_request(settings, renderer, to_turns(messages))
        except MediaError as error:
            if deadline.is_over:
                raise deadline.error() from error
            raise
        token_bytes = renderer.tokenizer.token_bytes
        calls = call_stream(settings, renderer)
        chunks = ChunkMaker(
            self.model, len(request.prompt_ids), token_bytes, calls, request.choices
        )
        return self._backend(renderer), request, chunks

    def _warn_of_unused(self, settings: CallSettings) -> None:
        """Warn, once for each, of settings without effect at a server prompted by messages."""
        known = set() if self.server_prompt == "auto" else set(self.unused_by_messages())
        unused = set(self.unused_by_messages(settings)) - known - self._warned
        if unused:
            self._warned |= unused
            warnings.warn(
                f"ChatInternVL: no effect: {', '.join(sorted(unused))} (the server writes the "
                'prompt by its own template; LMDeploy also takes server_prompt="ids")',
                stacklevel=2,
            )

    def _renderer(
        self,
        settings: CallSettings,
        form: ResponseFormat | None = None,
        deadline: Deadline | None = None,
    ) -> Renderer:
        checkpoint, tokenizer, template = find_prompts(self, self._engines)
        return Renderer(
            checkpoint=checkpoint,
            tokenizer=tokenizer,
            template=template,
            options=settings.prompt_options(),
            tiles=settings.tile_limits(checkpoint.tiles),
            policy=self.media_policy,
            media=self._engines.media,
            deadline=deadline or Deadline(),
            num_frames=settings.num_frames,
            exif_transpose=settings.exif_transpose,
            scale_16bit=settings.scale_16bit,
            form=form or ResponseFormat(),
            reasoning=settings.reasoning,
        )

    def _turn_renderer(
        self,
        served: Served,
        settings: CallSettings,
        deadline: Deadline,
        form: ResponseFormat | None,
    ) -> TurnRenderer:
        """Makes requests without a tokenizer, for a server that writes its prompts itself."""
        return TurnRenderer(
            template_system=system_of(self, served),
            generation={} if served.prompts is None else served.prompts[0].generation,
            options=settings.prompt_options(),
            policy=self.media_policy,
            media=self._engines.media,
            deadline=deadline,
            num_frames=settings.num_frames,
            exif_transpose=settings.exif_transpose,
            scale_16bit=settings.scale_16bit,
            form=form or ResponseFormat(),
        )

    def _backend(self, renderer: Renderer) -> Backend:
        prompts = renderer.checkpoint, renderer.tokenizer, renderer.template
        return open_backend(self, self._engines, prompts)
