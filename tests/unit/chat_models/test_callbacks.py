"""Callbacks and tracers of LangChain."""

import json
from uuid import uuid4

import pytest
from chat_support import IMAGE, MODEL, ask
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.rate_limiters import InMemoryRateLimiter
from PIL import Image

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.errors import MediaError, MessageError


class _Tokens(BaseCallbackHandler):
    def __init__(self):
        self.tokens = []

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)


async def test_streaming_true_streams_inside_invoke(backend):
    for settings, call, expected in (
        ({"streaming": True}, {}, ["Hello", " there"]),
        ({}, {"stream": True}, ["Hello", " there"]),
        ({}, {}, []),
        ({"streaming": True, "disable_streaming": True}, {}, []),
        ({"streaming": True}, {"stream": False}, []),
    ):
        llm = ChatInternVL(model=MODEL, backend=backend, **settings)
        sync, later = _Tokens(), _Tokens()
        assert llm.invoke("x", {"callbacks": [sync]}, **call).content == "Hello there"
        assert (await llm.ainvoke("x", {"callbacks": [later]}, **call)).content == "Hello there"
        assert [one for one in sync.tokens if one] == expected
        assert [one for one in later.tokens if one] == expected
    whole = ChatInternVL(model=MODEL, backend=backend, streaming=False)
    assert [chunk.content for chunk in whole.stream("x")] == ["Hello there"]


class Tracer(BaseCallbackHandler):
    def __init__(self):
        self.started, self.tokens, self.ended, self.failed = [], [], [], []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.started.append((serialized, messages, kwargs))

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ended.append(response)

    def on_llm_error(self, error, **kwargs):
        self.failed.append(error)


@pytest.mark.parametrize("method", ["invoke", "stream", "generate"])
@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "image": Image.new("RGB", (4, 4))},
        {"type": "image", "base64": image_block(IMAGE)["base64"]},
        {"type": "image_data", "image_data": {"data": Image.new("RGB", (4, 4))}},
        {"image": {"format": "png", "source": {"bytes": IMAGE.read_bytes()}}},
        {"type": "video", "video": [IMAGE, IMAGE]},
    ],
)
def test_tracing_takes_every_image_by_reference(llm, backend, method, block):
    tracer = Tracer()
    messages = ask(block, "x")
    if method == "generate":
        llm.generate([messages], callbacks=[tracer])
    elif method == "stream":
        list(llm.stream(messages, {"callbacks": [tracer]}))
        assert tracer.tokens == ["Hello", " there"]
    else:
        llm.invoke(messages, {"callbacks": [tracer]})
    ((serialized, traced, kwargs),) = tracer.started
    assert len(json.dumps([message.model_dump() for message in traced[0]])) < 2000
    assert backend.requests[0].tiles
    assert serialized["name"] == "ChatInternVL"
    assert serialized["id"] == ["langchain_internvl", "chat_models", "ChatInternVL"]
    metadata = kwargs["metadata"]
    assert metadata["ls_provider"] == "internvl"
    assert metadata["ls_model_name"] == MODEL
    assert len(tracer.ended) == 1


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ({"type": "hologram"}, MessageError),
        ({"type": "file", "path": "no/such.txt"}, MediaError),
        ({"type": "file", "base64": "//8=", "mime_type": "text/plain;charset=utf-8"}, MediaError),
    ],
)
def test_errors_are_traced(llm, block, error):
    tracer = Tracer()
    with pytest.raises(error):
        llm.invoke(ask(block), {"callbacks": [tracer], "run_id": uuid4()})
    assert [type(one) for one in tracer.failed] == [error]


def test_rate_limiter(backend):
    class Counting(InMemoryRateLimiter):
        taken = 0

        def acquire(self, *, blocking=True):
            self.taken += 1
            return True

    limiter = Counting()
    llm = ChatInternVL(model=MODEL, backend=backend, rate_limiter=limiter)
    llm.invoke("x")
    list(llm.stream("x"))
    assert limiter.taken == 2


def test_tracing_names_the_stop_texts():
    assert ChatInternVL(stop=["a"])._get_ls_params()["ls_stop"] == ["a"]
    assert ChatInternVL(stop=["a"])._get_ls_params(stop=["b"])["ls_stop"] == ["b"]
