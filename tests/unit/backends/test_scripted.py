"""The backend for tests of users."""

import copy
import os
import subprocess
import sys

import pytest
from golden import GOLDEN, checkpoint_folder
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from patience import PATIENCE
from pydantic import BaseModel

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Backend, Delta, EngineStats, Request
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import BackendError, EngineBusyError

MODEL = str(checkpoint_folder("qwen2"))
IMAGE = GOLDEN / "images/rgb_1344x896.png"


def chat(replies, **settings):
    return ChatInternVL(model=MODEL, backend=ScriptedBackend(replies), **settings)


def test_it_is_a_backend():
    assert isinstance(ScriptedBackend([]), Backend)


def test_replies_in_order_and_what_was_asked():
    llm = chat(["A cat.", "A grey one."], temperature=0.5)
    assert [llm.invoke(question).content for question in ("What?", "Which?")] == [
        "A cat.", "A grey one.",
    ]  # fmt: skip
    first, second = llm.backend.requests
    assert list(first.prompt_ids) == llm.prompt_ids("What?")
    assert second.sampling.temperature == 0.5
    with pytest.raises(BackendError, match="has 2 replies, and this is one request more"):
        llm.invoke("Why?")


async def test_it_streams_word_by_word():
    llm = chat(lambda request: "  A  grey\ncat. ")
    assert [chunk.content for chunk in llm.stream("x")] == ["A", "  grey", "\ncat."]
    assert [chunk.content async for chunk in llm.astream("x")] == ["A", "  grey", "\ncat."]
    assert llm.invoke("x").usage_metadata["output_tokens"] == 3


def test_stop_texts_and_length():
    llm = chat(lambda request: "one two three")
    for settings, text, reason in (
        ({"stop": ["three"]}, "one two", "stop"),
        ({"stop": ["three", "two"]}, "one", "stop"),
        ({"max_tokens": 2}, "one two", "length"),
        ({"max_tokens": 3}, "one two three", "stop"),
    ):
        reply = llm.invoke("x", **settings)
        assert (reply.content, reply.response_metadata["finish_reason"]) == (text, reason)


def test_nothing_deltas_and_errors():
    llm = chat(["", [Delta(1, "as it "), Delta(2, "is", "length")], EngineBusyError("busy")])
    assert llm.invoke("x").content == ""
    assert llm.invoke("x").content == "as it is"
    with pytest.raises(EngineBusyError, match="busy"):
        llm.invoke("x")


def test_replies_may_depend_on_the_request():
    llm = chat(lambda request: f"{len(request.prompt_ids)} tokens")
    assert llm.invoke("Hello").content == f"{len(llm.prompt_ids('Hello'))} tokens"


@pytest.mark.parametrize(
    "wrong",
    [
        "A cat.",
        AIMessage("A cat."),
        [AIMessage([{"type": "image", "url": "x"}])],
        [None],
        [KeyError],
        [["a", "b"]],
        [[]],
        [[Delta(1, "endless")]],
    ],
)
def test_what_is_no_reply_is_refused_at_once(wrong):
    with pytest.raises(TypeError, match=r"repl(y 1|ies) is"):
        ScriptedBackend(wrong)


def test_a_function_that_gives_no_reply_is_told_by_number():
    llm = chat(lambda request: None)
    with pytest.raises(BackendError, match="the reply to request 1 is None; a reply is a text"):
        llm.invoke("x")


def test_the_words_of_what_was_asked():
    llm = chat(["A cat."])
    llm.invoke("What is it, naïvely? <|im_end|>")
    assert "What is it, naïvely? <|im_end|>" in llm.get_text(llm.backend.requests[0].prompt_ids)


def test_copies_share_it():
    llm = chat(["A cat.", "A dog."])
    assert copy.deepcopy(llm).invoke("x").content == "A cat."
    assert llm.model_copy(deep=True).invoke("x").content == "A dog."
    assert len(llm.backend.requests) == 2


def test_what_is_broken_off_has_ended():
    backend = ScriptedBackend(["one two", "three"])
    stream = backend.stream(Request([1]))
    next(stream)
    assert backend.stats == EngineStats(active_rows=1)
    stream.close()
    assert backend.stats == EngineStats()
    assert backend.closed == 1


# Messages as replies, and no files of a checkpoint.


@tool
def look(place: str) -> str:
    """Look somewhere."""
    return f"It rains in {place}."


def call(place, id_):
    return {"name": "look", "args": {"place": place}, "id": id_, "type": "tool_call"}


MODELS = [MODEL, str(checkpoint_folder("internlm2")), "no/such-model"]


@pytest.mark.parametrize("model", MODELS)
async def test_messages_as_replies(model):
    calls = [call("Oslo, Norway", "call_1"), call("Bergen", "call_2")]
    said = [
        AIMessage("Let me look.", tool_calls=calls),
        AIMessage("", tool_calls=calls[:1]),
        AIMessage("Yes.", additional_kwargs={"reasoning_content": "Is it?\nIt is."}),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "No."}]),
        AIMessage("", invalid_tool_calls=[
            {"type": "invalid_tool_call", "name": "look", "args": '{"place":', "id": "c",
             "error": None},
        ]),
    ]  # fmt: skip
    llm = ChatInternVL(model=model, backend=ScriptedBackend([*said, *said]))
    asked = llm.bind_tools([look])
    image = image_block(IMAGE)
    replies = [asked.invoke([HumanMessage([image, {"type": "text", "text": "x"}])]) for _ in said]
    for _ in said:
        chunks = [chunk async for chunk in asked.astream("x")]
        replies.append(sum(chunks[1:], chunks[0]))
    for first, other, thought, doubt, broken in (replies[:5], replies[5:]):
        assert (first.text, first.tool_calls) == ("Let me look.", calls)
        assert (other.text, other.tool_calls) == ("", calls[:1])
        assert (thought.text, doubt.text) == ("Yes.", "No.")
        assert thought.content_blocks[0]["reasoning"] == "Is it?\nIt is."
        assert doubt.content_blocks[0]["reasoning"] == "Hm."
        assert [one["name"] for one in broken.invalid_tool_calls] == ["look"]
        assert all(one.usage_metadata["input_tokens"] for one in (first, other, thought))


@pytest.mark.parametrize(
    "arguments",
    ["{", '{"place": "Oslo"', '{"place": "Os', '{"place":', '{"place": "Oslo"}}',
     '{"place": "Oslo"}]', '{"place": "Oslo"}\n```', '{"place": "Oslo"}, "x": 1',
     '{"place": "Oslo"} {"place": "Rome"}', '{"place": "Oslo"}}}'],
)  # fmt: skip
def test_calls_that_are_malformed_stay_so(arguments):
    cut = {"type": "invalid_tool_call", "name": "look", "args": arguments, "id": "c", "error": None}
    said = AIMessage("", tool_calls=[call("Bergen", "call_1")], invalid_tool_calls=[cut])
    asked = ChatInternVL(backend=ScriptedBackend([said, said])).bind_tools([look])
    first, *others = asked.stream("x")
    for reply in (asked.invoke("x"), sum(others, first)):
        assert [one["args"] for one in reply.tool_calls] == [{"place": "Bergen"}]
        assert [one["name"] for one in reply.invalid_tool_calls] == ["look"]


@pytest.mark.parametrize("model", MODELS)
def test_a_call_of_no_tool_is_an_error_of_the_script(model):
    llm = ChatInternVL(
        model=model, backend=ScriptedBackend([AIMessage("", tool_calls=[call("a", "b")])])
    )
    with pytest.raises(BackendError, match="calls look, and this request has no tools"):
        llm.invoke("x")


@pytest.mark.parametrize("model", MODELS)
def test_an_agent_from_a_script(model):
    script = ScriptedBackend([AIMessage("", tool_calls=[call("Oslo", "1")]), "Take an umbrella."])
    agent = create_agent(ChatInternVL(model=model, backend=script), [look])
    said = agent.invoke({"messages": [HumanMessage("Weather?")]})["messages"]
    assert [message.text for message in said] == [
        "Weather?", "", "It rains in Oslo.", "Take an umbrella.",
    ]  # fmt: skip


def test_structured_output_and_choices_without_a_tokenizer():
    class Cat(BaseModel):
        name: str

    llm = ChatInternVL(model="no/such-model", backend=ScriptedBackend(lambda request: (
        '{"name": "Tom"}' if not request.choices else "yes"
    )))  # fmt: skip
    assert llm.with_structured_output(Cat).invoke("x") == Cat(name="Tom")
    reply = llm.invoke("Is it?", choices=["yes", "no"])
    assert reply.response_metadata["choices"] == {"yes": 1.0, "no": 0.0}
    assert reply.usage_metadata["input_tokens"] == 2
    request = llm.backend.requests[-1]
    assert [part.text for turn in request.turns for part in turn.parts] == ["Is it?"]


def test_it_needs_no_transformers():
    program = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "tokenizers", "huggingface_hub")))
from langchain_core.messages import AIMessage, HumanMessage
from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.scripted import ScriptedBackend
for model in ("OpenGVLab/InternVL2-8B", {MODEL!r}):
    llm = ChatInternVL(model=model, backend=ScriptedBackend(["A cat.", AIMessage("A dog.")]))
    image = image_block({str(IMAGE)!r})
    print(llm.invoke([HumanMessage([image])]).content, llm.invoke("x").content)
    try:
        llm.prompt_ids("x")
    except ImportError as error:
        print("transformers" in str(error))
"""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True, text=True, timeout=PATIENCE, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert told.stdout.split("\n") == ["A cat. A dog.", "True"] * 2 + [""]
