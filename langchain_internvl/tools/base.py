"""Base class of the vision tools, each a script that runs with or without an event loop."""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config, run_in_executor
from langchain_core.tools import BaseTool, InjectedToolArg, ToolException
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from langchain_internvl.errors import (
    EngineBusyError,
    InternVLError,
    MediaFetchError,
    MediaTooLargeError,
    RequestTimeoutError,
    did_you_mean,
)
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.messages.media_blocks import image_block
from langchain_internvl.tools.inner_runs import inner_config
from langchain_internvl.tools.pages import MOST_PAGES, Opening


class Arguments(BaseModel):
    """Arguments of every tool: the agent's runtime, which the model does not see."""

    runtime: Annotated[Any, InjectedToolArg] = Field(default=None)

    @field_validator("region", mode="before", check_fields=False)
    @classmethod
    def _as_text(cls, region: Any) -> Any:
        """A region as text; models write a list or an object, whatever the schema says."""
        if region is None or isinstance(region, str):
            return region
        return json.dumps(region, default=str)


@dataclass(frozen=True)
class Ask:
    """A model call of a tool.

    Attributes:
        blocks: Content blocks of the human message, media first.
        settings: Settings of this call.
    """

    blocks: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages of the call."""
        return [HumanMessage(list(self.blocks))]


@dataclass(frozen=True)
class Outcome:
    """Result of a tool.

    Attributes:
        text: Text for the agent.
        artifact: Typed result for programs.
        picture: Function that makes the image beside the text; called if images are returned.
    """

    text: str
    artifact: BaseModel
    picture: Callable[[], Image.Image] | None = None


Script = Generator[Ask, AIMessage, Outcome]
"""A generator that yields model calls, is sent their replies, and returns the outcome."""


def _explain(error: Any) -> str:
    """The validation errors of an agent's arguments as text."""
    wrong = "; ".join(
        f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors()
    )
    return f"The arguments are wrong. {wrong}."


class InternVLTool(BaseTool):
    """A tool that reads an image or a video with a vision model.

    Attributes:
        llm: The vision model: a `ChatInternVL`.
        media_policy: Media that an agent may read. Default: public http(s) URLs and handles of
            the conversation; for files pass `MediaPolicy(roots=[...])`.
        return_images: Also return an image: the requested region, or the boxes drawn. Default
            false.
        pdf_password: Password of encrypted PDFs; None: none. Neither the agent nor its traces see
            it, and PDFs from URLs are only opened with it, not fetched with it.
        most_pages: Most pages of a PDF or TIFF that are looked at where the agent names none;
            None: all. Default 10. (`ground` takes one page: with 1, the first.)
        handle_tool_error: Return errors to the agent as text instead of raising them. Default
            true.
        handle_validation_error: The same for invalid arguments. Default: a readable text.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # the input may have the password

    llm: BaseChatModel
    media_policy: MediaPolicy = Field(default_factory=MediaPolicy)
    return_images: bool = False
    pdf_password: SecretStr | str | None = Field(default=None, exclude=True, repr=False)
    most_pages: int | None = Field(default=MOST_PAGES, ge=1)
    args_schema: Any
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    handle_validation_error: Any = Field(default=_explain, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _warn_of_typos(cls, values: Any) -> Any:
        warn_of_unknown(cls, values)
        return values

    @field_validator("pdf_password", mode="before")
    @classmethod
    def _hide(cls, password: Any) -> Any:
        return hidden(password)

    @property
    def opening(self) -> Opening:
        """How this tool opens the images that an agent names."""
        password = self.pdf_password
        if isinstance(password, SecretStr):
            password = password.get_secret_value()
        return Opening(self.media_policy, password, self.most_pages)

    @abstractmethod
    def script(self, state: Any, given: Any) -> Script:
        """The model calls and the outcome of the tool.

        Args:
            state: The agent's state, or None.
            given: The agent's arguments, as `args_schema`.
        """

    def _run(
        self,
        *,
        config: RunnableConfig,
        run_manager: CallbackManagerForToolRun | None = None,
        runtime: Any = None,
        **arguments: Any,
    ) -> tuple[Any, BaseModel]:
        config = _under(config, run_manager)
        script = self.script(getattr(runtime, "state", None), self.args_schema(**arguments))
        step = _advance(script, None)
        while isinstance(step, Ask):
            try:
                reply = self.llm.invoke(step.messages, config, **step.settings)
            except (InternVLError, ImportError) as error:
                raise _tool_error(error) from error
            step = _advance(script, reply)
        return self._content(step), step.artifact

    async def _arun(
        self,
        *,
        config: RunnableConfig,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
        runtime: Any = None,
        **arguments: Any,
    ) -> tuple[Any, BaseModel]:
        config = _under(config, run_manager)
        script = self.script(getattr(runtime, "state", None), self.args_schema(**arguments))
        # In a thread: the script reads media and draws images, which would block the loop.
        step = await run_in_executor(None, _advance, script, None)
        while isinstance(step, Ask):
            try:
                reply = await self.llm.ainvoke(step.messages, config, **step.settings)
            except (InternVLError, ImportError) as error:
                raise _tool_error(error) from error
            step = await run_in_executor(None, _advance, script, reply)
        return await run_in_executor(None, self._content, step), step.artifact

    def _content(self, outcome: Outcome) -> str | list[dict[str, Any]]:
        if outcome.picture is None or not self.return_images:
            return outcome.text
        return [{"type": "text", "text": outcome.text}, image_block(outcome.picture())]


def hidden(password: Any) -> Any:
    """A password as a `SecretStr`, which no representation shows; other values unchanged."""
    return SecretStr(password) if isinstance(password, str) else password


def warn_of_unknown(kind: type[BaseModel], values: Any) -> None:
    """Warn of arguments that a tool or toolkit does not have."""
    known = kind.model_fields.keys()
    for name in values.keys() - known if isinstance(values, Mapping) else ():
        hint = did_you_mean(name, known)
        warnings.warn(f"{kind.__name__} has no argument {name!r}{hint}", stacklevel=5)


def _under(
    config: RunnableConfig,
    run_manager: CallbackManagerForToolRun | AsyncCallbackManagerForToolRun | None,
) -> RunnableConfig:
    """The config of child runs of the tool, with the tags of its model calls."""
    callbacks = run_manager.get_child() if run_manager else None
    return inner_config(patch_config(config, callbacks=callbacks), "internvl_tool")


def _advance(script: Script, reply: AIMessage | None) -> Ask | Outcome:
    """The next model call, or the outcome."""
    try:
        return script.send(reply)  # type: ignore[arg-type]
    except StopIteration as ended:
        outcome: Outcome = ended.value
        return outcome
    except (InternVLError, ImportError, OSError) as error:
        raise _tool_error(error) from error


def _tool_error(error: Exception) -> ToolException:
    """An error as a `ToolException`, with its remedy for the agent."""
    for kind, hint in _HINTS.items():
        if isinstance(error, kind):
            return ToolException(f"{error}. {hint}")
    return ToolException(f"{error}.")


_HINTS: dict[type[Exception], str] = {
    ImportError: "Nothing but an installation helps; go on without this tool.",
    MediaTooLargeError: "Use a smaller one.",
    MediaFetchError: "Use another address, or a picture of this conversation (image:1).",
    EngineBusyError: "Try again later.",
    RequestTimeoutError: "Try again, with a smaller part (region, or start and end).",
}
