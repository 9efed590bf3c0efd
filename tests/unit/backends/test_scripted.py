"""The backend for tests of users."""

import copy

import pytest
from golden import checkpoint_folder

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Backend, Delta, EngineStats, Request
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import BackendError, EngineBusyError

MODEL = str(checkpoint_folder("qwen2"))


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
    "wrong", ["A cat.", [None], [KeyError], [["a", "b"]], [[]], [[Delta(1, "endless")]]]
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
