"""Tool results are rendered in the order of the calls that they answer."""

import itertools
import warnings

import pytest
from golden import checkpoint_folder
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, trim_messages

from langchain_internvl import ChatInternVL
from langchain_internvl.messages.conversation import Text, ToolCall, Turn
from langchain_internvl.prompting.tool_results import NO_RESULT, order_tool_results

ASK = HumanMessage("Weather?")
CALLS = AIMessage("", tool_calls=[
    {"name": "weather", "args": {"city": city}, "id": id_}
    for id_, city in (("a", "Paris"), ("b", "Oslo"), ("c", "Rome"))
])  # fmt: skip
RESULTS = {id_: ToolMessage(f"it is {id_}", tool_call_id=id_) for id_ in "abc"}


@pytest.mark.parametrize("name", ["internlm2", "qwen2"])
def test_any_order_of_arrival_gives_one_prompt(name):
    llm = ChatInternVL(model=str(checkpoint_folder(name)))
    prompts = {
        llm.render([ASK, CALLS, *(RESULTS[id_] for id_ in order)])
        for order in itertools.permutations("abc")
    }
    (prompt,) = prompts
    assert prompt.index("it is a") < prompt.index("it is b") < prompt.index("it is c")


def called(*ids):
    return Turn("assistant", (), tuple(ToolCall("look", "{}", id_) for id_ in ids))


def result(id_, text):
    return Turn("tool", (Text(text),), tool_call_id=id_)


def texts(turns):
    return ["".join(part.text for part in turn.parts) for turn in turns if turn.role == "tool"]


def test_a_call_without_result_keeps_its_place():
    with pytest.warns(UserWarning, match="call 'a' of 'look' has no result"):
        ordered = order_tool_results([called("a", "b"), result("b", "two")])
    assert texts(ordered) == [NO_RESULT, "two"]


def test_several_results_of_one_call_are_one():
    with pytest.warns(UserWarning, match="call 'a' of 'look' has 2 results"):
        ordered = order_tool_results(
            [called("a", "b"), result("a", "one"), result("b", "two"), result("a", "again")]
        )
    assert texts(ordered) == ["one\nagain", "two"]


def test_a_result_of_no_call_stands_last():
    with pytest.warns(UserWarning, match="the result for 'x' answers no call"):
        ordered = order_tool_results([called("a"), result("x", "other"), result("a", "one")])
    assert texts(ordered) == ["one", "other"]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([called(None, None), result("x", "one"), result("y", "two")], ["one", "two"]),
        ([called("a", "b"), result(None, "one"), result(None, "two")], ["one", "two"]),
        ([called("a", "b"), result("b", "two"), result(None, "one")], ["one", "two"]),
        ([called("a", "a"), result("a", "one"), result("a", "two")], ["one", "two"]),
        ([Turn("user"), result("a", "trimmed")], ["trimmed"]),
        ([called("a"), result("a", "1"), called("a"), result("a", "2")], ["1", "2"]),
        ([called("a", "b"), result("b", "2"), Turn("user"), result("a", "1")], ["1", "2"]),
        ([called("a"), Turn("user")], []),
    ],
)
def test_well_formed_rounds_do_not_warn(turns, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(order_tool_results(turns)) == expected


def test_conversations_with_calls_can_be_trimmed():
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")))
    messages = [ASK, CALLS, *reversed(RESULTS.values()), AIMessage("Done."), HumanMessage("Ok")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = llm.get_num_tokens_from_messages(messages[2:])
        kept = trim_messages(messages, max_tokens=limit, token_counter=llm, strategy="last")
    assert kept[-1] == messages[-1]


def test_ids_that_are_numbers_are_texts():
    message, results = CALLS.model_copy(deep=True), []
    for number, call in enumerate(message.tool_calls):
        call["id"] = number
        results.append(ToolMessage(f"of {number}", tool_call_id="x"))
        results[-1].tool_call_id = number  # LangChain checks it in the constructor alone
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")))
    text = llm.render([ASK, message, *reversed(results)])
    assert text.index("of 0") < text.index("of 1")
