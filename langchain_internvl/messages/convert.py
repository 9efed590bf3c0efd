"""Converts LangChain messages to a conversation.

Only this module and `blocks.py` depend on the format of LangChain's messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, ToolMessage

from langchain_internvl.errors import InternVLError, MessageError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.messages.blocks import read_block, to_json
from langchain_internvl.messages.conversation import (
    Part,
    Role,
    Text,
    TextFile,
    ToolCall,
    Turn,
    lacks_line_end,
)
from langchain_internvl.messages.text_files import read_text_file
from langchain_internvl.reply_text.channels import without_thoughts

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "ai": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def to_turns(messages: Sequence[BaseMessage], policy: MediaPolicy | None = None) -> list[Turn]:
    """Convert LangChain messages to turns.

    Every message becomes one turn; consecutive messages of one role are not merged.

    Args:
        messages: The messages.
        policy: Limits on text files, which are read here; None: the defaults of `MediaPolicy`.

    Raises:
        MessageError: There are no messages, or one is malformed or has unsupported content.
        MediaError: Data of a block is malformed.
    """
    if not messages:
        raise MessageError("there are no messages to answer")
    policy = policy or MediaPolicy()
    return [_turn(message, number, policy) for number, message in enumerate(messages, 1)]


def _turn(message: BaseMessage, number: int, policy: MediaPolicy) -> Turn:
    try:
        return _read_turn(message, number, policy)
    except InternVLError:
        raise
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        # Fields that were assigned after LangChain had validated the message.
        raise MessageError(
            f"message {number}: malformed: {type(error).__name__}: {error}"
        ) from error


def _read_turn(message: BaseMessage, number: int, policy: MediaPolicy) -> Turn:
    role = _role(message, number)
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for place, block in enumerate(blocks_of(message, number), 1):
        where = place_of(message, number, place)
        for read in read_block(block, where):
            item = read_text_file(read, policy) if isinstance(read, TextFile) else read
            if isinstance(item, Text) and role == "assistant":
                parts.append(replace(item, text=without_thoughts(item.text)))
            elif not isinstance(item, ToolCall):
                parts.append(item)
            elif role == "assistant":
                calls.append(item)
            else:
                raise MessageError(f"{where}: only AI messages call tools")
    if isinstance(message, AIMessage):
        calls = _merge_calls(message, calls, f"message {number}")
        parts += _nameless_calls(message, after_text=any(part != Text("") for part in parts))
    answered = _identifier(message.tool_call_id) if isinstance(message, ToolMessage) else None
    return Turn(role, tuple(_apart(parts)), tuple(calls), answered, _identifier(message.id))


def _apart(parts: Iterable[Part]) -> list[Part]:
    """The parts without empty texts, and with line ends beside texts that stand alone.

    Texts of a message are joined: a question became a part of the last line of a file.
    """
    apart: list[Part] = []
    for part in parts:
        if part == Text(""):
            continue
        before = apart[-1] if apart else None
        if isinstance(part, Text) and lacks_line_end(before, part):
            apart.append(Text("\n"))
        apart.append(part)
    return apart


def _role(message: BaseMessage, number: int) -> Role:
    name = message.role if isinstance(message, ChatMessage) else message.type
    role = _ROLES.get(name.removesuffix("MessageChunk").lower())
    if role is None:
        raise MessageError(
            f"message {number}: role {name!r} is unknown; InternVL takes system, human, ai and tool"
        )
    return role


def blocks_of(message: BaseMessage, number: int) -> list[Any]:
    """The content blocks of a message; a string is a single block.

    Raises:
        MessageError: The content is neither a string nor a list.
    """
    content: Any = message.content
    if isinstance(content, str):
        return [content]
    if not isinstance(content, (list, tuple)):
        raise MessageError(
            f"message {number} ({message.type}): content is a string or a list of blocks, not an "
            f"object of type {type(content).__name__}"
        )
    return list(content)


def place_of(message: BaseMessage, number: int, place: int) -> str:
    """Position of a block, for error messages."""
    return f"message {number} ({message.type}), block {place}"


def _identifier(value: Any) -> str | None:
    """The id of a call, which LangChain validates only when a message is constructed."""
    return None if value is None else str(value)


def _nameless_calls(message: AIMessage, *, after_text: bool) -> list[Part]:
    """Invalid tool calls without a tool name, as text."""
    texts = [one["args"] for one in message.invalid_tool_calls if not one["name"]]
    joined = "\n".join(text for text in texts if text)
    return [Text("\n" * after_text + joined)] if joined else []


def _merge_calls(message: AIMessage, calls: Sequence[ToolCall], where: str) -> list[ToolCall]:
    """All tool calls of a message: `.tool_calls`, and those that occur in content blocks only."""
    for name in ("tool_calls", "invalid_tool_calls"):
        found: Any = getattr(message, name)
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise MessageError(f"{where}: malformed: {name} is a list of dictionaries")
    try:
        stated = [
            *(
                ToolCall(one["name"], to_json(one["args"]), _identifier(one["id"]))
                for one in message.tool_calls
            ),
            *(
                ToolCall(one["name"], one["args"] or "", _identifier(one["id"]))
                for one in message.invalid_tool_calls
                if one["name"]
            ),
        ]
        legacy = message.additional_kwargs.get("function_call")  # OpenAI's, before tools
        if isinstance(legacy, Mapping) and legacy.get("name"):
            calls = [*calls, ToolCall(str(legacy["name"]), str(legacy.get("arguments") or "{}"))]
    except (RecursionError, TypeError, ValueError) as error:
        raise MessageError(f"{where}: arguments of a tool call are no JSON: {error}") from error
    ids = {call.id for call in stated if call.id is not None}
    names = {call.name for call in stated}
    return stated + [
        call for call in calls if (call.id not in ids if call.id else call.name not in names)
    ]
