"""Text formats of tool definitions, tool calls and tool results.

Each family of language models was trained on its own format; a format is a row of data.
Sources: the InternLM2 chat format (`InternLM/InternLM`, chat/chat_format.md) and the chat template
of Qwen2.5 (Hermes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_internvl.messages.conversation import Instruction, Part, Text, ToolCall
from langchain_internvl.prompting.segments import Markup, Segment, Words


@dataclass(frozen=True)
class ToolFormat:
    """A text format of tool definitions, calls and results.

    Attributes:
        tools_header: Header of a separate turn of the definitions, after the system turn; None:
            they are part of the system turn.
        open_tools: Text before the definitions.
        between_tools: Text between two definitions.
        close_tools: Text after the definitions.
        names_type: Whether each definition has `"type": "function"`.
        trigger: Beginning of a call, which occurs nowhere else.
        before_call: Text between the text of a turn and its first call.
        between: Text between two calls, and between two results.
        open_call: Text before a call.
        close_call: Text after a call.
        arguments_key: JSON key of the arguments.
        result_header: Header of a turn of results; None: results are in user turns.
        open_result: Text before a result.
        close_result: Text after a result.
    """

    tools_header: str | None
    open_tools: str
    between_tools: str
    close_tools: str
    names_type: bool
    trigger: str
    before_call: str
    between: str
    open_call: str
    close_call: str
    arguments_key: str
    result_header: str | None
    open_result: str
    close_result: str

    def write_tools(self, tools: Sequence[Mapping[str, Any]], close: str) -> list[Part]:
        """The tool definitions at the end of the system turn.

        Args:
            tools: Functions, each with name, description and parameters.
            close: Text that ends a system turn.
        """
        header = "" if self.tools_header is None else close + self.tools_header
        parts: list[Part] = [Instruction(header + self.open_tools)]
        for index, tool in enumerate(tools):
            definition = {name: value for name, value in tool.items() if name != "strict"}
            shown = {"type": "function", "function": definition} if self.names_type else definition
            lead = self.between_tools if index else ""
            parts.append(Text(lead + json.dumps(shown, ensure_ascii=False)))
        return [*parts, Instruction(self.close_tools)]

    def frame(self, name: str) -> tuple[str, str]:
        """The text before and after the arguments of a call."""
        quoted = json.dumps(name, ensure_ascii=False)
        return (
            f'{self.open_call}{{"name": {quoted}, "{self.arguments_key}": ',
            "}" + self.close_call,
        )

    def write_calls(self, calls: Sequence[ToolCall], *, after_words: bool) -> list[Segment]:
        """The calls at the end of an assistant turn."""
        segments: list[Segment] = []
        for index, call in enumerate(calls):
            lead = self.between if index else self.before_call if after_words else ""
            begin, end = self.frame(call.name)
            body = begin.removeprefix(self.open_call) + (call.arguments or "{}") + "}"
            segments += [
                Markup(lead + self.open_call), Words(body), Markup(end.removeprefix("}")),
            ]  # fmt: skip
        return segments


HERMES = ToolFormat(
    tools_header=None,
    open_tools=(
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    ),
    between_tools="\n",
    close_tools=(
        "\n</tools>\n\nFor each function call, return a json object with function name and "
        "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    ),
    names_type=True,
    trigger="<tool_call>",
    before_call="\n",
    between="\n",
    open_call="<tool_call>\n",
    close_call="\n</tool_call>",
    arguments_key="arguments",
    result_header=None,
    open_result="<tool_response>\n",
    close_result="\n</tool_response>",
)

INTERNLM2 = ToolFormat(
    tools_header="<|im_start|>system name=<|plugin|>\n",
    open_tools="[",
    between_tools=", ",
    close_tools="]",
    names_type=False,
    trigger="<|action_start|>",
    before_call="",
    between="",
    open_call="<|action_start|><|plugin|>\n",
    close_call="<|action_end|>",
    arguments_key="parameters",
    result_header="<|im_start|>environment name=<|plugin|>\n",
    open_result="",
    close_result="",
)

TOOL_FORMATS = (HERMES, INTERNLM2)

_BY_LANGUAGE_MODEL: Mapping[str, ToolFormat] = {"internlm2": INTERNLM2}


def get_tool_format(language_model: str) -> ToolFormat:
    """The tool format of a language model, by its `model_type`."""
    return _BY_LANGUAGE_MODEL.get(language_model, HERMES)
