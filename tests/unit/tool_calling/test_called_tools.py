"""Tool calls in replies: as they come, cut off, malformed, and of random weights."""

import asyncio
import json

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from tool_call_support import QWEN2, SCHEMA, add, call, names_of_calls, scripted, weather

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta


def test_words_and_calls_as_they_come():
    llm = scripted(f"Let me add. {call('add', a=1, b=2)} and {call('weather', city='Köln')}")
    chunks = list(llm.bind_tools([weather, add]).stream("?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content == "Let me add. and"
    assert [(one["name"], one["args"]) for one in whole.tool_calls] == [
        ("add", {"a": 1, "b": 2}), ("weather", {"city": "Köln"}),
    ]  # fmt: skip
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert [piece["name"] for piece in pieces if piece["name"]] == ["add", "weather"]
    assert sum(piece["id"] is not None for piece in pieces) == 2
    assert {piece["index"] for piece in pieces} == {0, 1}
    assert whole.content_blocks[-1]["type"] == "tool_call"
    assert whole.response_metadata["finish_reason"] == "stop"


def test_async_and_batches():
    llm = scripted(*[call("add", a=n, b=n) for n in range(4)])
    bound = llm.bind_tools([add], tool_choice="any")

    async def several():
        whole = None
        async for chunk in bound.astream("?"):
            whole = chunk if whole is None else whole + chunk
        return [whole, *await bound.abatch(["?", "?", "?"])]

    replies = asyncio.run(several())
    assert [names_of_calls(one) for one in replies] == [["add"]] * 4
    assert sorted(one.tool_calls[0]["args"]["a"] for one in replies) == [0, 1, 2, 3]


def test_characters_in_several_tokens():
    text = call("weather", city="你好 😀")
    spelled = [text[at : at + 1] for at in range(len(text))]
    deltas = [Delta(0, piece) for piece in spelled] + [Delta(0, "", "stop")]
    (one,) = scripted(deltas).bind_tools([weather]).invoke("?").tool_calls
    assert one["args"] == {"city": "你好 😀"}


def test_calls_that_are_cut_off_or_malformed_are_invalid():
    whole = call("weather", city="Köln")
    cut = [Delta(0, whole[:50], None), Delta(0, "", "length")]
    llm = scripted(cut, "<tool_call>nonsense</tool_call> so", call("unknown", x=1))
    bound = llm.bind_tools([weather])
    message = bound.invoke("?")
    assert message.tool_calls == []
    (invalid,) = message.invalid_tool_calls
    assert invalid["name"] == "weather"
    assert "raise max_tokens" in invalid["error"]
    message = bound.invoke("?")
    assert (message.content, message.tool_calls) == ("so", [])
    assert "nonsense" in message.invalid_tool_calls[0]["args"]
    # An agent tells the model itself that there is no such tool.
    assert names_of_calls(bound.invoke("?")) == ["unknown"]


def test_a_call_that_is_cut_off_at_once_is_invalid():
    llm = scripted([Delta(0, "<to", None), Delta(0, "", "length")])
    message = llm.bind_tools([weather], tool_choice="any").invoke("?")
    assert (message.content, message.tool_calls) == ("", [])
    assert "raise max_tokens" in message.invalid_tool_calls[0]["error"]


def test_stop_texts_end_words_and_never_a_call():
    reply = f"One {call('weather', city='END')} two END three {call('add', a=1, b=1)}"
    llm = scripted(reply, reply)
    message = llm.bind_tools([weather, add], stop=["END"]).invoke("?")
    assert (message.content, names_of_calls(message)) == ("One two", ["weather"])
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.usage_metadata["output_tokens"] < 20
    message = llm.bind_tools([weather], tool_choice="any").invoke("?", stop=["END"])
    assert message.tool_calls[0]["args"] == {"city": "END"}


def test_thoughts_are_not_calls():
    thought = f"<think>Shall I {call('add', a=1, b=1)}?</think>\n\n{call('add', a=2, b=2)}"
    llm = scripted(thought)
    message = llm.bind_tools([add]).invoke("?", reasoning=True)
    assert [one["args"] for one in message.tool_calls] == [{"a": 2, "b": 2}]
    assert "Shall I" in message.content_blocks[0]["reasoning"]


def test_without_tools_a_call_is_words():
    assert scripted(call("add", a=1)).invoke("?").content == call("add", a=1)


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "llama", "phi3"])
def test_random_weights_call_what_they_must(models, name):
    llm = models(name, temperature=1.5, seed=5, max_tokens=300)
    message = llm.bind_tools([add, weather], tool_choice="add").invoke("?")
    assert message.content == ""
    (made,) = message.tool_calls
    assert made["name"] == "add"
    assert {type(value) for value in made["args"].values()} == {int}
    assert message.response_metadata["finish_reason"] == "stop"
    odd = {"name": 'so "odd" <|im_end|> é', "parameters": SCHEMA}
    message = llm.bind_tools([odd], tool_choice="any").invoke("?")
    assert names_of_calls(message) == [odd["name"]]
    told = llm.render([HumanMessage("?"), message, ToolMessage("ok", tool_call_id="1")])
    assert json.dumps(odd["name"], ensure_ascii=False) in told


def test_a_function_without_arguments_gets_none(models):
    def now() -> str:
        """The time."""

    llm = models("qwen2", temperature=1.5, seed=5, max_tokens=300)
    bound = llm.bind_tools([now, {"name": "later"}], tool_choice="any")
    for seed in range(4):
        (made,) = bound.invoke("?", seed=seed).tool_calls
        assert made["args"] == {}


def test_a_vocabulary_of_bytes_spells_any_character():
    """Nano's tokens are bytes: every character here lies in two to four of them."""
    said = "Käse 你好 😀"
    llm = ChatInternVL(model="nano", temperature=1.5, seed=1, max_tokens=300)
    schema = {"properties": {"said": {"enum": [said]}}, "required": ["said"]}
    bound = llm.bind_tools([{"name": "say", "parameters": schema}], tool_choice="say")
    pieces = [piece["args"] for chunk in bound.stream("?") for piece in chunk.tool_call_chunks]
    assert json.loads("".join(pieces)) == {"said": said}
    assert len(pieces) > len(said)
    structured = llm.with_structured_output(schema, method="json_mode")
    steps = list(structured.stream("?"))
    assert steps[-1] == {"said": said}
    assert all(said.startswith(step.get("said", "")) for step in steps)


def test_the_profile_says_so():
    profile = ChatInternVL(model=QWEN2).profile
    assert profile["tool_calling"]
    assert profile["structured_output"]
    assert profile["tool_choice"]
