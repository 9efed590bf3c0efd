"""Sorts tool results into the order of their tool calls.

Tool results have no ids in the prompt: the model matches the n-th result with the n-th call. The
results of parallel calls may arrive in any order, so they are sorted before rendering.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from langchain_internvl.messages.conversation import Text, Turn

NO_RESULT = "(no result)"
"""Result text of a call without a result, if other calls of the same message have one."""


def order_tool_results(turns: Sequence[Turn]) -> list[Turn]:
    """Sort the results that follow each assistant turn by the calls that they answer.

    The rule, for the turns between an assistant turn with calls and the next assistant turn:

    - A result is matched with a call by its id. Results or calls without an id are matched in
      order of arrival.
    - Several results of one call become one result, their texts on separate lines.
    - A call without a result gets the text `(no result)`, so that later results keep their place.
      Nothing is added if no call of the turn has a result.
    - A result that answers none of the calls stays behind the others.

    The last three cases warn. None of them raises, since parts of a conversation (as
    `trim_messages` counts them) must be renderable too.
    """
    ordered: list[Turn] = []
    start = 0
    while start < len(turns):
        turn = turns[start]
        end = start + 1
        while end < len(turns) and turns[end].role != "assistant":
            end += 1
        following = turns[start + 1 : end]
        ordered.append(turn)
        has_results = any(one.role == "tool" for one in following)
        if turn.role == "assistant" and turn.tool_calls and has_results:
            following = _sorted(turn, following)
        ordered += following
        start = end
    return ordered


def _sorted(caller: Turn, following: Sequence[Turn]) -> list[Turn]:
    calls = caller.tool_calls
    answers: list[list[Turn]] = [[] for _ in calls]
    places: dict[str, list[int]] = {}
    for place, call in enumerate(calls):
        if call.id:
            places.setdefault(call.id, []).append(place)
    unmatched: list[Turn] = []
    for turn in following:
        found = places.get(turn.tool_call_id or "") if turn.role == "tool" else None
        if found is None:
            unmatched.append(turn)
            continue
        # Calls that share one id are answered in order; further results belong to the last one.
        answers[next((one for one in found if not answers[one]), found[-1])].append(turn)
    rest: list[Turn] = []
    for turn in unmatched:
        free = _place_without_id(turn, caller, answers)
        if free is None:
            rest.append(turn)
        else:
            answers[free].append(turn)
    _warn(caller, answers, rest)
    results = [
        _merged(found) if found else Turn("tool", (Text(NO_RESULT),), tool_call_id=call.id)
        for call, found in zip(calls, answers, strict=True)
    ]
    return [*results, *rest]


def _place_without_id(turn: Turn, caller: Turn, answers: Sequence[list[Turn]]) -> int | None:
    """The first unanswered call for a result, where one of the two has no id."""
    if turn.role != "tool":
        return None
    for place, call in enumerate(caller.tool_calls):
        if not answers[place] and not (call.id and turn.tool_call_id):
            return place
    return None


def _merged(results: Sequence[Turn]) -> Turn:
    if len(results) == 1:
        return results[0]
    first, *others = results
    parts = chain.from_iterable((Text("\n"), *other.parts) for other in others)
    return replace(first, parts=(*first.parts, *parts))


def _warn(caller: Turn, answers: Sequence[list[Turn]], rest: Sequence[Turn]) -> None:
    problems = []
    for call, found in zip(caller.tool_calls, answers, strict=True):
        if not found:
            problems.append(f"call {call.id!r} of {call.name!r} has no result")
        elif len(found) > 1:
            problems.append(f"call {call.id!r} of {call.name!r} has {len(found)} results")
    problems += [
        f"the result for {turn.tool_call_id!r} answers no call of the message before it"
        for turn in rest
        if turn.role == "tool"
    ]
    if problems:
        warnings.warn(
            f"{'; '.join(problems)}. Give one ToolMessage for each tool call, with its "
            "tool_call_id",
            stacklevel=2,
        )
