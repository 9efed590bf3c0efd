"""How tool calls and their results are written into a prompt.

Each family of language models was trained on a format of its own; a format is a row of data.
Sources: the InternLM2 chat format (`InternLM/InternLM`, chat/chat_format.md) and the chat template
of Qwen2.5 (Hermes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_internvl.conversation import ToolCall
from langchain_internvl.segments import Markup, Segment, Words


@dataclass(frozen=True)
class ToolFormat:
    """A format of tool calls and results.

    Attributes:
        before_call: Between the words of a turn and its first call.
        between: Between two calls, and between two results.
        open_call: Before a call.
        close_call: After a call.
        arguments_key: JSON key of the arguments.
        result_header: Header of a turn of results; None: they are said by the user.
        open_result: Before a result.
        close_result: After a result.
    """

    before_call: str
    between: str
    open_call: str
    close_call: str
    arguments_key: str
    result_header: str | None
    open_result: str
    close_result: str

    def write_calls(self, calls: Sequence[ToolCall], *, after_words: bool) -> list[Segment]:
        """The calls at the end of an assistant turn."""
        segments: list[Segment] = []
        for index, call in enumerate(calls):
            lead = self.between if index else self.before_call if after_words else ""
            name = json.dumps(call.name, ensure_ascii=False)
            body = f'{{"name": {name}, "{self.arguments_key}": {call.arguments or "{}"}}}'
            segments += [
                Markup(lead + self.open_call), Words(body), Markup(self.close_call),
            ]  # fmt: skip
        return segments


HERMES = ToolFormat(
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
    before_call="",
    between="",
    open_call="<|action_start|><|plugin|>\n",
    close_call="<|action_end|>",
    arguments_key="parameters",
    result_header="<|im_start|>environment name=<|plugin|>\n",
    open_result="",
    close_result="",
)

_BY_LANGUAGE_MODEL: Mapping[str, ToolFormat] = {"internlm2": INTERNLM2}


def get_tool_format(language_model: str) -> ToolFormat:
    """The format that a language model (its `model_type`) was trained on."""
    return _BY_LANGUAGE_MODEL.get(language_model, HERMES)
