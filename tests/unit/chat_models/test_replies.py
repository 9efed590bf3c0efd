"""Replies of ChatInternVL, and the requests for them."""

from chat_support import IMAGE, MODEL, ask
from langchain_core.messages import AIMessage
from patience import PATIENCE
from support import FixedBackend

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Delta, Sampling, TokenLogprob


def test_reply(llm, backend):
    reply = llm.invoke("Hello")
    assert isinstance(reply, AIMessage)
    assert reply.content == "Hello there"
    assert reply.response_metadata == {
        "finish_reason": "stop",
        "model_name": MODEL,
        "model_provider": "internvl",
    }
    prompt = len(llm.prompt_ids("Hello"))
    assert reply.usage_metadata == {
        "input_tokens": prompt,
        "output_tokens": 2,
        "total_tokens": prompt + 2,
    }
    assert backend.closed == 1


def test_stream_says_the_metadata_once(llm):
    chunks = list(llm.stream("Hello"))
    assert [chunk.content for chunk in chunks] == ["Hello", " there"]
    assert [chunk.chunk_position for chunk in chunks] == [None, "last"]
    assert [bool(chunk.usage_metadata) for chunk in chunks] == [False, True]
    whole = chunks[0] + chunks[1]
    assert whole.response_metadata["model_name"] == MODEL
    assert whole.usage_metadata["output_tokens"] == 2


def test_a_stream_that_is_not_read_on_ends_in_the_backend(llm, backend):
    stream = llm.stream("Hello")
    next(stream)
    assert backend.closed == 0
    stream.close()
    assert backend.closed == 1


def test_finish_by_length():
    backend = FixedBackend(Delta(1, "Hel"), Delta(2, "lo", "length"))
    reply = ChatInternVL(model=MODEL, backend=backend).invoke("x")
    assert reply.response_metadata["finish_reason"] == "length"


def test_a_reply_without_words():
    backend = FixedBackend(Delta(1, "", "stop"))
    llm = ChatInternVL(model=MODEL, backend=backend)
    assert llm.invoke("x").content == ""
    assert [chunk.content for chunk in llm.stream("x")] == [""]


async def test_async(llm):
    assert (await llm.ainvoke("Hello")).content == "Hello there"
    assert [chunk.content async for chunk in llm.astream("Hello")] == ["Hello", " there"]


def test_log_probabilities_have_openais_shape():
    top = (TokenLogprob(300, -0.5), TokenLogprob(1026, -1.5))
    backend = FixedBackend(Delta(300, "a", None, -0.5, top), Delta(301, "b", "stop", -0.25, ()))
    llm = ChatInternVL(model=MODEL, backend=backend, top_logprobs=2)
    content = llm.invoke("x").response_metadata["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == [-0.5, -0.25]
    first = content[0]
    assert bytes(first["bytes"]).decode() == first["token"]
    assert [entry["logprob"] for entry in first["top_logprobs"]] == [-0.5, -1.5]
    assert first["top_logprobs"][1]["token"] == ""  # a control token says nothing
    assert backend.requests[0].top_logprobs == 2


def test_the_request(llm, backend):
    llm.invoke(ask("What?", image_block(IMAGE, max_tiles=2)), stop=["END"], seed=4, temperature=0.3)
    (request,) = backend.requests
    assert request.sampling == Sampling(temperature=0.3, seed=4)
    assert request.stop == ["<|im_end|>", "END"]
    assert request.stop_ids == {1022}
    assert request.max_tokens == 1024
    assert request.top_logprobs is None
    assert [tiles.shape for tiles in request.tiles] == [(3, 448, 448, 3)]
    assert list(request.prompt_ids).count(1026) == 3 * 256


def test_settings_of_the_model_and_of_the_call(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, max_tokens=5, stop=["A"], timeout=PATIENCE)
    llm.invoke("x")
    llm.bind(max_tokens=6, logprobs=True).invoke("x", stop=["B"])
    llm.invoke("x", stop="C")
    first, second, third = backend.requests
    assert third.stop[1:] == ["C"]
    assert (first.max_tokens, first.stop[1:], first.top_logprobs) == (5, ["A"], None)
    assert (second.max_tokens, second.stop[1:], second.top_logprobs) == (6, ["B"], 0)
    assert PATIENCE / 2 < first.timeout <= PATIENCE
    assert PATIENCE / 2 < second.timeout <= PATIENCE
