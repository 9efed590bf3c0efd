"""Reads `tool_choice`: which tools may be called, and whether a call is required."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_internvl.errors import RequestError, did_you_mean

_KINDS: Mapping[str | None, str] = {
    None: "auto", "auto": "auto", "none": "none", "any": "required", "required": "required",
}  # fmt: skip


def read_tool_choice(choice: Any, names: Sequence[str]) -> tuple[Sequence[str], bool]:
    """The tools that may be called, and whether a call is required.

    A string that is a keyword is read as the keyword, even if a tool has that name; a dictionary
    forces such a tool.

    Args:
        choice: A `tool_choice` as OpenAI, Anthropic or Bedrock write it; None: "auto".
        names: Names of the tools.

    Raises:
        RequestError: The value is none of these forms, or names an unknown tool.
    """
    if isinstance(choice, Mapping) and choice.get("type") == _ALLOWED:
        return _allowed_tools(choice, names)
    is_named = False
    if isinstance(choice, Mapping):
        choice, is_named = _read_mapping(choice)
    elif isinstance(choice, bool):
        choice = "any" if choice else "none"
    is_keyword = isinstance(choice, (str, type(None))) and choice in _KINDS and not is_named
    if choice in names and not is_keyword:
        return [choice], True
    if not is_keyword:
        if not names:
            raise RequestError(f"tool_choice is {choice!r}, and there are no tools")
        raise RequestError(
            f'tool_choice is auto, any, required, none, {{"type": "{_ALLOWED}", ...}} or the name '
            f"of a tool ({', '.join(names)}), not {choice!r}"
        )
    if _KINDS[choice] == "required" and not names:
        raise RequestError(f"tool_choice is {choice!r}, and there are no tools to call")
    kind = _KINDS[choice]
    return [] if kind == "none" else names, kind == "required"


def _read_mapping(choice: Mapping[Any, Any]) -> tuple[Any, bool]:
    """The keyword or the name in a dictionary, and whether it is a name.

    OpenAI's and Anthropic's have a `type`, Bedrock's one key instead.

    Raises:
        RequestError: The dictionary is in none of these forms.
    """
    kind = choice.get("type")
    if kind in ("function", "tool"):
        named = choice.get("function", choice)
        if isinstance(named, Mapping):
            return named.get("name", ""), True
    elif kind is not None:
        return kind, False
    for key in ("function", "tool"):
        named = choice.get(key)
        if isinstance(named, Mapping) and "name" in named:
            return named["name"], True
    if "name" in choice:
        return choice["name"], True
    if len(choice) == 1 and next(iter(choice)) in _BEDROCK_KINDS:
        return next(iter(choice)), False
    raise RequestError(
        f'tool_choice is {choice!r}; a dictionary is {{"type": "function", "function": '
        '{"name": ...}}, {"type": "any"} or {"type": "auto"}'
    )


_BEDROCK_KINDS = ("auto", "any")


def forbids_parallel_calls(choice: Any) -> bool:
    """Whether a `tool_choice` permits one call at most, as Anthropic writes it."""
    return isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use") is True


_ALLOWED = "allowed_tools"
"""Type of a `tool_choice` that permits some of the tools.

All of them stay in the prompt, except at servers with messages; see `openai_tools`.
"""


def _allowed_tools(choice: Mapping[str, Any], names: Sequence[str]) -> tuple[Sequence[str], bool]:
    """The tools that an `allowed_tools` permits, and whether a call is required.

    OpenAI's chat completions have its fields in an object of the same name, its responses API has
    them beside `type`.
    """
    inner = choice.get(_ALLOWED, choice)
    fields = inner if isinstance(inner, Mapping) else {}
    mode, given = fields.get("mode"), fields.get("tools")
    if mode not in ("auto", "required"):
        raise RequestError(
            f'tool_choice: the mode of {_ALLOWED} is "auto" or "required", not {mode!r}; '
            "to forbid calls, take tool_choice='none'"
        )
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence) or not given:
        raise RequestError(
            f"tool_choice: the tools of {_ALLOWED} are a list of at least one, not {given!r}"
        )
    allowed = [_allowed_name(one) for one in given]
    for name in allowed:
        if name not in names:
            raise RequestError(
                f"tool_choice: {_ALLOWED} names {name!r}{did_you_mean(name, names)}, and the tools "
                f"are {', '.join(names) or 'none'}"
            )
    return [name for name in names if name in allowed], mode == "required"


def _allowed_name(tool: Any) -> str:
    """The name of an allowed tool, in either of OpenAI's forms."""
    named = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = named.get("name") if isinstance(named, Mapping) else None
    if not isinstance(name, str) or tool.get("type") != "function":
        raise RequestError(
            f'tool_choice: a tool of {_ALLOWED} is {{"type": "function", "function": '
            f'{{"name": ...}}}} or {{"type": "function", "name": ...}}, not {tool!r}'
        )
    return name
