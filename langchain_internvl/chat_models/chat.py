"""`ChatInternVL`: what it is for LangChain, and its replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from typing_extensions import Unpack, override

from langchain_internvl.backends.base import astream
from langchain_internvl.chat_models.configurable import ConfigurableMethods
from langchain_internvl.chat_models.prompts import PromptMethods
from langchain_internvl.chat_models.tools import ToolMethods
from langchain_internvl.factory import known_context_window, known_effort_levels
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.profile import make_profile
from langchain_internvl.requests.chunks import explain_invalid_calls, with_content_blocks

if TYPE_CHECKING:
    from langchain_internvl.settings.arguments import ChatArguments


class ChatInternVL(PromptMethods, ToolMethods, ConfigurableMethods):
    """InternVL as a LangChain chat model: on this machine, or at a server (`base_url`).

    Loads `OpenGVLab/InternVL2`, 2.5, 3 and 3.5 in their original format and `-hf` checkpoints,
    with current transformers and without remote code. Nothing is loaded before it is needed: the
    tokenizer with the first prompt, the weights with the first reply.

    Set-up:
        The extra `transformers` (`pip install '.[transformers]'` in a clone) runs models in this
        process, the extra `server` sends requests to a server. The environment variables
        `INTERNVL_API_KEY` and `INTERNVL_BASE_URL` are the defaults of `api_key` and `base_url`.

    Settings:
        `ModelSettings` lists the arguments of a model (`model`, `dtype`, `device_map`, `backend`,
        `base_url`, ...), `CallSettings` the arguments that one call may change too (sampling,
        tiles, prompts): `llm.invoke(messages, temperature=0.2)` or `llm.bind(temperature=0.2)`.

        ```python
        from langchain_internvl import ChatInternVL

        llm = ChatInternVL(model="OpenGVLab/InternVL2-8B", temperature=0, max_tokens=1024)
        ```

    Invoke:
        ```python
        messages = [("system", "Answer in one word."), ("human", "What barks?")]
        print(llm.invoke(messages).text)
        ```

    Stream:
        ```python
        for chunk in llm.stream("Write a haiku."):
            print(chunk.text, end="", flush=True)
        ```

    Async:
        ```python
        import asyncio


        async def ask() -> None:
            print((await llm.ainvoke("Hello")).text)
            async for chunk in llm.astream("Hello"):
                print(chunk.text, end="")
            print(await llm.abatch(["Hello", "Good night"]))


        asyncio.run(ask())
        ```

    Images:
        ```python
        from langchain_core.messages import HumanMessage
        from langchain_internvl import image_block

        question = {"type": "text", "text": "What is in the image?"}
        photo = image_block("cookbook/media/cat.jpg", max_tiles=6)
        print(llm.invoke([HumanMessage([photo, question])]).text)
        ```

    Video:
        ```python
        from langchain_internvl import video_block

        frames = video_block(["cookbook/media/cat.jpg", "cookbook/media/coffee.jpg"])
        print(llm.invoke([HumanMessage([frames, question])]).text)
        ```

        A path to a video file is read by the extra `video` (`num_frames`, `bound`).

    Tools:
        ```python
        from langchain_core.tools import tool


        @tool
        def weather(city: str) -> str:
            '''Say what the weather is like.'''
            return f"It rains in {city}."


        reply = llm.bind_tools([weather]).invoke("What is the weather in Oslo?")
        print(reply.tool_calls)
        ```

    Structured output:
        ```python
        from pydantic import BaseModel


        class Animal(BaseModel):
            name: str
            legs: int


        print(llm.with_structured_output(Animal).invoke([HumanMessage([photo, question])]))
        ```

    Usage metadata:
        ```python
        print(llm.invoke("Hello").usage_metadata)  # exact counts of tokens, images included
        print(llm.get_num_tokens_from_messages([HumanMessage([photo, question])]))
        ```

    Log probabilities:
        ```python
        scored = llm.invoke("Is it a cat?", top_logprobs=2)
        print(scored.response_metadata["logprobs"]["content"][0])
        weighed = llm.invoke("Is it a cat?", choices=["yes", "no"])
        print(weighed.response_metadata["choices"])
        ```
    """

    if TYPE_CHECKING:  # pydantic reads more types than its fields have

        def __init__(self, **arguments: Unpack[ChatArguments]) -> None: ...

    # What the model is, for LangChain.

    @property
    @override
    def _llm_type(self) -> str:
        return "internvl"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        """All settings that change a reply: the identity of the model in caches."""
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
        """Cache key of this model: LangChain's own omits values that it cannot serialise."""
        own = json.dumps(self._identifying_params, sort_keys=True, default=str)
        return f"{super()._get_llm_string(stop, **kwargs)}---{own}"

    @override
    def _resolve_model_profile(self) -> ModelProfile:
        return make_profile(
            reasoning=self.thinks,
            max_tokens=self.max_tokens,
            context_window=known_context_window(self),
            writes_prompt=self.backend_kind != "server",
            effort_levels=known_effort_levels(self),
        )

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @override
    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """The JSON of `dumps`; the media policy is a dictionary, so that `loads` needs no class."""
        written = super().to_json()
        if written["type"] == "constructor" and "media_policy" in written["kwargs"]:
            written["kwargs"]["media_policy"] = self.media_policy.model_dump(mode="json")
        return written

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

    # Replies.

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
        return explain_invalid_calls(generate_from_stream(self._reply(messages, stop, kwargs)))

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self._reply(messages, stop, kwargs)) as chunks:
            yield from map(self._shown, chunks)

    def _reply(
        self, messages: list[BaseMessage], stop: list[str] | None, overrides: Mapping[str, Any]
    ) -> Generator[ChatGenerationChunk, None, None]:
        """The chunks of a reply, with text as content."""
        settings, form = self._read_call(overrides, stop)
        deadline = Deadline(settings.timeout)
        backend, request, chunks = self._prepare(messages, settings, deadline, form)
        with closing(backend.stream(request)) as deltas:  # ends the request if the consumer stops
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
        chunks = [chunk async for chunk in self._areply(messages, stop, kwargs)]
        return explain_invalid_calls(generate_from_stream(iter(chunks)))

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._areply(messages, stop, kwargs)) as chunks:
            async for chunk in chunks:
                yield self._shown(chunk)

    async def _areply(
        self, messages: list[BaseMessage], stop: list[str] | None, overrides: Mapping[str, Any]
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        """The chunks of a reply, with text as content."""
        settings, form = self._read_call(overrides, stop)
        deadline = Deadline(settings.timeout)
        # Media are read and tiled in a worker thread; after that no thread waits for tokens.
        try:
            backend, request, chunks = await run_in_executor(
                None, self._prepare, messages, settings, deadline, form
            )
        except asyncio.CancelledError:
            deadline.cancel()  # stops decoding of media that is no longer needed
            raise
        async with aclosing(astream(backend, request)) as deltas:
            async for delta in deltas:
                for chunk in chunks.add(delta):
                    yield chunk
                if chunks.is_done:
                    break

    def _shown(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """A chunk of a stream in the form that `output_version` names."""
        return with_content_blocks(chunk) if self.output_version == "v1" else chunk
