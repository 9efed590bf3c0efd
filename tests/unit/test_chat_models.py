"""ChatInternVL against a backend that says what it is told to."""

import copy
import json
import pickle
import shutil
from uuid import uuid4

import httpx
import numpy as np
import pytest
from golden import GOLDEN, SCAN, VIDEO, checkpoint_folder
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableParallel
from langchain_core.runnables.history import RunnableWithMessageHistory
from patience import PATIENCE
from PIL import Image
from pydantic import ValidationError
from support import FixedBackend

from langchain_internvl import ChatInternVL, MediaPolicy, image_block, pdf_block, video_block
from langchain_internvl.backends.base import Delta, Sampling, TokenLogprob
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import (
    CheckpointNotFoundError,
    MediaError,
    MediaTooLargeError,
    MessageError,
    RequestError,
    UnsupportedMediaError,
)
from langchain_internvl.media.media_store import MediaStore
from langchain_internvl.media.video_process import read_clip
from langchain_internvl.settings.call import CallSettings

MODEL = str(checkpoint_folder("internlm2"))
IMAGE = GOLDEN / "images/rgb_1344x896.png"


@pytest.fixture
def backend():
    return FixedBackend()


@pytest.fixture
def llm(backend):
    return ChatInternVL(model=MODEL, backend=backend)


def ask(*content):
    return [HumanMessage(list(content))]


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


def test_tiles_of_the_model_of_the_call_and_of_the_block(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=1)
    plain, own = image_block(IMAGE), image_block(IMAGE, max_tiles=6)
    llm.invoke(ask(plain, own))
    llm.invoke(ask(plain, own), max_tiles=2)
    shapes = [[len(tiles) for tiles in request.tiles] for request in backend.requests]
    assert shapes == [[1, 7], [3, 7]]


def test_frames_of_the_model_of_the_call_and_of_the_block(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, num_frames=3)
    plain, own = video_block(VIDEO), video_block(VIDEO, num_frames=5, bound=(1, 2))
    llm.invoke(ask(plain, own))
    llm.invoke(ask(plain, own), num_frames=2, max_tiles_per_frame=6)
    shapes = [[len(tiles) for tiles in request.tiles] for request in backend.requests]
    assert shapes == [[1] * 8, [3] * 7]
    assert "Frame3: <image>\nFrame1: <image>" in llm.render(ask(plain, own, "x"))
    messages = ask(plain, "What happens?")
    assert llm.get_num_tokens_from_messages(messages) == len(llm.prompt_ids(messages))


def test_videos_are_decoded_once(llm, monkeypatch):
    read = []

    def count(*arguments):
        read.append(arguments)
        return read_clip(*arguments)

    monkeypatch.setattr("langchain_internvl.media.reader.read_clip", count)
    messages = ask({"type": "video", "path": str(VIDEO), "num_frames": 2}, "x")
    llm.get_num_tokens_from_messages(messages)
    llm.invoke([*messages, llm.invoke(messages), HumanMessage("again")])
    assert len(read) == 1


def test_a_broken_video_fails_alone_and_by_name(llm):
    broken = ask({"type": "video", "base64": "AAAA", "mime_type": "video/mp4"})
    replies = llm.batch(["a", broken, "b"], return_exceptions=True)
    assert [type(reply) for reply in replies] == [AIMessage, MediaError, AIMessage]
    assert "message 1 (human), block 1: is no video" in str(replies[1])


def test_pages_of_a_pdf_are_images(llm, backend):
    question = {"type": "text", "text": "x"}
    for block in (
        pdf_block(SCAN), pdf_block(SCAN.read_bytes()), {"type": "file", "path": str(SCAN)},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf_block(SCAN)["base64"]}},
    ):  # fmt: skip
        llm.invoke(ask(block, question), max_tiles=6)
    assert {request.prompt_ids == backend.requests[0].prompt_ids for request in backend.requests}
    assert [len(tiles) for tiles in backend.requests[0].tiles] == [7]
    assert "<image>\nx" in llm.render(ask(pdf_block(SCAN), question))
    two = ask(pdf_block(SCAN), image_block(IMAGE), question)
    assert "Image-1: <image>\nImage-2: <image>\nx" in llm.render(two)
    with pytest.raises(MediaError, match="is no PDF"):
        pdf_block(IMAGE)
    with pytest.raises(MediaError, match=r"block 1: is no PDF"):
        llm.invoke(ask({"type": "file", "base64": "AAAA", "mime_type": "application/pdf"}))


def test_some_pages_of_a_pdf(llm, backend, tmp_path):
    colours = ("red", "green", "blue", "white")
    pages = [Image.new("RGB", (28, 28), colour) for colour in colours]
    pages[0].save(tmp_path / "a.pdf", "PDF", save_all=True, append_images=pages[1:])
    question = {"type": "text", "text": "x"}
    policy = MediaPolicy(max_pages=2)
    small = llm.model_copy(update={"media_policy": policy})
    with pytest.raises(MediaTooLargeError, match=r"4 pages are over .*; select some with pages="):
        small.invoke(ask(pdf_block(tmp_path / "a.pdf"), question))
    for given in ("2-3", [1, 2], range(1, 3), slice(1, -1), "2, 3"):
        block = pdf_block(tmp_path / "a.pdf", pages=given)
        json.dumps(block)
        small.invoke(ask(block, question), max_tiles=1)
        shown = [np.asarray(tiles[0])[200, 200] for tiles in backend.requests[-1].tiles]
        assert [int(colour.argmax()) for colour in shown] == [1, 2]
    with pytest.raises(RequestError, match="it has 4 pages"):
        llm.invoke(ask(pdf_block(tmp_path / "a.pdf", pages=[4]), question))
    for wrong in ("0", [], [[1, 2]], [None], {"a": 1}, 1.5):
        with pytest.raises(RequestError, match="pages"):
            pdf_block(tmp_path / "a.pdf", pages=wrong)
        with pytest.raises(MessageError, match="block 1: pages="):
            llm.invoke(ask({**pdf_block(tmp_path / "a.pdf"), "pages": wrong}, question))


def test_detail(llm, backend):
    url = "data:image/png;base64," + image_block(IMAGE)["base64"]
    for detail in ({"detail": "low"}, {"detail": "auto"}, {}):
        llm.invoke(ask({"type": "image_url", "image_url": {"url": url, **detail}}), max_tiles=1)
    assert [len(request.tiles[0]) for request in backend.requests] == [7, 1, 1]


def test_counting_reads_sizes_only_and_equals_the_prompt(llm, backend, monkeypatch):
    messages = [SystemMessage("Be terse."), *ask("What?", image_block(IMAGE))]
    llm.invoke(messages)
    monkeypatch.setattr(
        "langchain_internvl.requests.prompt_request.load_rgb",
        lambda *a, **k: pytest.fail("decoded"),
    )
    assert llm.get_num_tokens_from_messages(messages) == len(backend.requests[0].prompt_ids)
    assert llm.prompt_ids(messages) == list(backend.requests[0].prompt_ids)
    assert llm.get_num_tokens("Hello <|im_end|>") == len(llm.get_token_ids("Hello <|im_end|>"))


def test_counting_tools_equals_the_prompt(llm, backend):
    def look(place: str) -> str:
        """Look somewhere."""

    messages = ask("What?", image_block(IMAGE))
    llm.bind_tools([look]).invoke(messages)
    count = llm.get_num_tokens_from_messages(messages, tools=[look])
    assert count == len(backend.requests[0].prompt_ids)
    assert count > llm.get_num_tokens_from_messages(messages)
    assert llm.prompt_ids(messages, tools=[look]) == list(backend.requests[0].prompt_ids)


def test_messages_can_be_trimmed_by_exact_counts(llm):
    messages = [HumanMessage("one " * 50), AIMessage("two"), HumanMessage("three")]
    limit = llm.get_num_tokens_from_messages(messages[1:])
    kept = trim_messages(messages, max_tokens=limit, token_counter=llm, strategy="last")
    assert kept == messages[1:]


def test_render_takes_what_invoke_takes(llm):
    prompt = ChatPromptTemplate.from_messages([("system", "S"), ("human", "{q}")])
    value = prompt.invoke({"q": "Q"})
    assert llm.render(value) == llm.render([("system", "S"), ("human", "Q")])
    assert llm.render("Q", default_system="S") == llm.render(value)
    assert (
        llm.render("Q", default_system=None)
        == "<|im_start|>user\nQ<|im_end|><|im_start|>assistant\n"
    )


def test_exif_is_followed_on_request(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=12)
    photo = image_block(GOLDEN / "images/exif_rot6.jpg")
    llm.invoke(ask(photo))
    llm.invoke(ask(photo), exif_transpose=True)
    lying, upright = (request.tiles[0][-1] for request in backend.requests)
    assert not np.array_equal(lying, upright)


# Errors.


def test_unknown_arguments_of_a_call_are_refused(llm):
    with pytest.raises(RequestError, match=r"takes no functions; it takes .*tools"):
        llm.invoke("x", functions=[])


def test_a_bad_image_fails_alone_in_a_batch(llm):
    bad = HumanMessage([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}])
    replies = llm.batch(["a", [bad], "b"], return_exceptions=True)
    assert [type(reply) for reply in replies] == [AIMessage, type(replies[1]), AIMessage]
    assert isinstance(replies[1], MediaError)
    assert "message 1 (human), block 1" in str(replies[1])


def test_errors_name_their_place(llm):
    with pytest.raises(MessageError, match=r"message 2 \(human\), block 1.*audio"):
        llm.invoke(
            [
                HumanMessage("x"),
                HumanMessage([{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}]),
            ]
        )
    with pytest.raises(MediaError, match="no such file"):
        llm.invoke(ask({"type": "image", "path": "/no/such.png"}))


def test_media_policy(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, media_policy=MediaPolicy(max_pixels=100))
    with pytest.raises(MediaError, match="max_pixels"):
        llm.invoke(ask(image_block(IMAGE)))
    with pytest.raises(MediaError, match="not a public address"):
        llm.invoke(ask({"type": "image", "url": "http://127.0.0.1:9/a.png"}))


def test_construction_loads_nothing_and_checks_arguments():
    ChatInternVL(model="/no/such/folder")
    with pytest.raises(CheckpointNotFoundError):
        ChatInternVL(model="/no/such/folder").invoke("x")
    with pytest.raises(ValidationError, match="never runs code"):
        ChatInternVL(trust_remote_code=True)
    with pytest.raises(ValidationError, match="backend is"):
        ChatInternVL(backend="vllm")
    with pytest.raises(ValidationError, match="internvl2_5"):
        ChatInternVL(chat_template="vicuna")
    for wrong in ({"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_k": 0.5}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            ChatInternVL(**wrong)


def test_typing_errors_are_warned_of():
    with pytest.warns(UserWarning, match=r"'max_token'; did you mean 'max_tokens'\?"):
        ChatInternVL(max_token=5)


def test_a_warning_points_at_the_line_that_is_wrong():
    with pytest.warns(UserWarning, match="max_token") as warned:
        ChatInternVL(max_token=5)
    assert warned[0].filename == __file__


def test_the_model_by_path_or_by_its_other_name(recwarn):
    assert ChatInternVL(model=checkpoint_folder("qwen2")).model == str(checkpoint_folder("qwen2"))
    assert ChatInternVL(model_name="a/b").model == "a/b"
    assert ChatInternVL(model="c/d", model_name="a/b").model == "c/d"
    assert not recwarn.list


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


def test_fields_are_described():
    own = ChatInternVL.model_fields.keys() - BaseChatModel.model_fields.keys()
    assert not [name for name in own if not ChatInternVL.model_fields[name].description]


def test_standard_arguments_of_other_providers_are_fine(recwarn):
    ChatInternVL(max_retries=2, streaming=True, timeout=60, stop=[])
    assert not recwarn.list


# LangChain.


def test_identifying_params_tell_models_apart():
    base = ChatInternVL(model=MODEL)._identifying_params
    for change in (
        {"model": "other"}, {"revision": "v1"}, {"dtype": "float32"}, {"temperature": 0.5},
        {"top_p": 0.5}, {"max_tiles": 3}, {"number_images": False}, {"default_system": "x"},
        {"chat_template": "Hermes-2"}, {"backend": FixedBackend()}, {"exif_transpose": True},
        {"media_policy": MediaPolicy(max_bytes=1)},
    ):  # fmt: skip
        assert ChatInternVL(**{"model": MODEL, **change})._identifying_params != base, change


def test_cache_tells_images_and_settings_apart(backend, tmp_path):
    llm = ChatInternVL(model=MODEL, backend=backend, cache=InMemoryCache())
    file = tmp_path / "a.png"

    def calls(**settings):
        llm.invoke(ask({"type": "image", "path": str(file)}, "x"), **settings)
        return len(backend.requests)

    Image.new("RGB", (8, 8), "red").save(file)
    assert [calls(), calls()] == [1, 1]
    Image.new("RGB", (8, 8), "blue").save(file)
    assert [calls(), calls()] == [2, 2]
    assert [calls(max_tokens=3), calls(max_tokens=3)] == [3, 3]
    picture = Image.new("RGB", (8, 8), "green")
    for _ in range(2):
        llm.invoke(ask({"type": "image", "image": picture}, "x"))
    assert len(backend.requests) == 4


def test_cache_tells_backends_apart():
    cache = InMemoryCache()

    class Quiet(FixedBackend):
        def __repr__(self):
            return "Quiet"

    def says(words):
        backend = Quiet(Delta(1, words, "stop"))
        return ChatInternVL(model=MODEL, backend=backend, cache=cache)

    one, other = says("one"), says("other")
    assert [llm.invoke("x").content for llm in (one, other, one)] == ["one", "other", "one"]
    assert one.model_copy().invoke("x").content == "one"
    assert [len(llm.backend.requests) for llm in (one, other)] == [1, 1]
    swapped = one.model_copy(update={"backend": other.backend})
    assert swapped.invoke("x").content == "other"


def test_cache_tells_policies_apart(backend, monkeypatch):
    """What LangChain itself leaves out of a cache's key."""
    llm = ChatInternVL(model=MODEL, backend=backend)
    strings = {
        llm.model_copy(update=change)._get_llm_string(stop=["a"])
        for change in ({}, {"max_tiles": 3}, {"media_policy": MediaPolicy(max_bytes=1)})
    }
    assert len(strings) == 3


def test_serialisation():
    policy = MediaPolicy(max_bytes=1000)
    llm = ChatInternVL(model=MODEL, temperature=0.5, max_tiles=3, media_policy=policy, stop=["x"])
    again = load(
        json.loads(json.dumps(dumpd(llm))),
        valid_namespaces=["langchain_internvl"],
        allowed_objects=[ChatInternVL, MediaPolicy],
    )
    assert again._identifying_params == llm._identifying_params
    assert again.media_policy == policy


def test_copies_share_what_is_loaded(llm):
    llm = ChatInternVL(model=MODEL)
    tokenizer = llm._renderer(llm).tokenizer
    for copied in (llm.model_copy(), copy.copy(llm), copy.deepcopy(llm), llm.bind(seed=1).bound):
        assert copied._renderer(copied).tokenizer is tokenizer


def test_copies_are_validated():
    llm = ChatInternVL(model=MODEL)
    assert llm.model_copy(update={"api_key": " k "}).api_key.get_secret_value() == "k"
    assert llm.model_copy(update={"model": checkpoint_folder("qwen2")}).model.endswith("qwen2")
    assert llm.model_copy(update={"stop": "x"}, deep=True).stop == ["x"]
    client = httpx.AsyncClient()
    served = ChatInternVL(model="a", base_url="http://h/v1", http_client=client)
    for copied in (
        copy.deepcopy(served), served.model_copy(deep=True),
        served.model_copy(update={"api_key": "k"}, deep=True),
    ):  # fmt: skip
        assert copied.http_client is client
    for wrong in ({"engine_options": {"max_row": 3}}, {"base_url": "h"}, {"served_model": "a"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            llm.model_copy(update=wrong)


def test_a_copy_with_another_engine_needs_no_settings_of_the_first():
    llm = ChatInternVL(model=MODEL, dtype="float32", engine_options={"max_rows": 2})
    backend = ScriptedBackend(lambda _request: "Hello")
    for copied in (
        llm.model_copy(update={"backend": backend}),
        llm.model_copy(update={"backend": backend}).model_copy(update={"seed": 1}),
    ):
        assert copied.invoke("x").content == "Hello"
        assert copied.dtype == "float32"
    with pytest.raises(ValueError, match="dtype: a backend object"):
        llm.model_copy(update={"backend": backend, "dtype": "float16"})


def test_pickling_keeps_settings_and_loads_anew():
    llm = ChatInternVL(model=MODEL, max_tiles=3)
    llm.prompt_ids("x")
    again = pickle.loads(pickle.dumps(llm))
    assert again.max_tiles == 3
    assert again.prompt_ids("x") == llm.prompt_ids("x")


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


def test_errors_are_traced(llm):
    tracer = Tracer()
    with pytest.raises(MessageError):
        llm.invoke(ask({"type": "hologram"}), {"callbacks": [tracer], "run_id": uuid4()})
    assert [type(error) for error in tracer.failed] == [MessageError]


def test_profile():
    profile = ChatInternVL(max_tokens=7, context_window=4096).profile
    assert all(profile[f"{kind}_inputs"] for kind in ("text", "image", "video", "pdf"))
    assert not profile["audio_inputs"]
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4096, 7)
    assert profile["open_weights"]
    assert profile["attachment"]
    assert profile["mid_conversation_system_messages"]
    assert not ChatInternVL(base_url="http://h/v1").profile["mid_conversation_system_messages"]
    assert "max_input_tokens" not in ChatInternVL().profile
    assert ChatInternVL(profile={"text_inputs": False}).profile == {"text_inputs": False}


@pytest.mark.parametrize("settings", [{}, {"base_url": "http://h/v1"}, {"backend": FixedBackend()}])
def test_the_context_window_comes_from_the_files(settings, tmp_path, monkeypatch):
    window = ChatInternVL(model=MODEL, **settings).profile["max_input_tokens"]
    assert window == ChatInternVL(model=MODEL)._renderer(CallSettings()).tokenizer.model_max_length
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    stored = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**stored, "model_max_length": 77}))
    llm = ChatInternVL(model=folder, **settings)
    assert llm.profile["max_input_tokens"] == 77
    assert llm.model_copy(update={"context_window": 55}).profile["max_input_tokens"] == 55
    assert llm.model_copy(update={"max_tokens": 5}).profile["max_output_tokens"] == 5
    own = ChatInternVL(model=folder, profile={"max_input_tokens": 9}, **settings)
    assert own.model_copy(update={"max_tokens": 5}).profile == {"max_input_tokens": 9}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**stored, "model_max_length": 10**30})
    )
    config = json.loads((folder / "config.json").read_text())["llm_config"]
    rope = config.get("rope_scaling") or {"factor": 1}
    longest = int(config["max_position_embeddings"] * rope["factor"])
    assert ChatInternVL(model=folder, **settings).profile["max_input_tokens"] == longest
    (folder / "config.json").write_text("{")
    assert "max_input_tokens" not in ChatInternVL(model=folder, **settings).profile
    # A checkpoint of the hub, as its cache holds it.
    cache = tmp_path / "hub/models--OpenGVLab--InternVL2-8B"
    shutil.copytree(MODEL, cache / "snapshots/abc")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert ChatInternVL(**settings).profile["max_input_tokens"] == window
    assert "max_input_tokens" not in ChatInternVL(revision="v9", **settings).profile


def test_summaries_by_a_fraction_of_the_window():
    backend = ScriptedBackend(lambda request: "A summary.")
    llm = ChatInternVL(model=MODEL, backend=backend)
    middleware = SummarizationMiddleware(
        llm, trigger=("fraction", 0.5), keep=("messages", 1),
        token_counter=llm.get_num_tokens_from_messages, trim_tokens_to_summarize=None,
    )  # fmt: skip
    agent = create_agent(llm, middleware=[middleware])
    short = [HumanMessage("one"), AIMessage("two"), HumanMessage("three")]
    assert len(agent.invoke({"messages": short})["messages"]) == 4
    long = [HumanMessage("one " * 6000), AIMessage("two"), HumanMessage("three")]
    assert llm.get_num_tokens_from_messages(long) > llm.profile["max_input_tokens"] / 2
    kept = agent.invoke({"messages": long})["messages"]
    assert [message.text for message in kept[1:]] == ["three", "A summary."]
    assert "A summary." in kept[0].text


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


# What LangChain makes anew from traces.


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke"])
async def test_a_history_that_langchain_keeps_has_its_media(how, backend):
    """The history stores what the model's run recorded, which holds media by reference."""
    histories = {}

    def history(session_id):
        return histories.setdefault(session_id, InMemoryChatMessageHistory())

    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=1, num_frames=2)
    chain = RunnableWithMessageHistory(llm, history)
    config = {"configurable": {"session_id": "a"}}
    path = {"type": "video", "path": str(VIDEO)}
    shown = [image_block(IMAGE), video_block(VIDEO), video_block([IMAGE]), pdf_block(SCAN), path]
    for message in (HumanMessage([*shown, {"type": "text", "text": "x"}]), HumanMessage("again")):
        if how == "ainvoke":
            await chain.ainvoke([message], config)
        elif how == "stream":
            list(chain.stream([message], config))
        else:
            chain.invoke([message], config)
    first, second = backend.requests
    assert len(first.tiles) == len(second.tiles) == 1 + 2 + 1 + 1 + 2
    assert all(map(np.array_equal, first.tiles, second.tiles))
    assert len(json.dumps(dumpd(histories["a"].messages))) < 20_000


async def ask_again(chain, how, messages, config):
    if how == "ainvoke":
        await chain.ainvoke(messages, config)
    elif how == "stream":
        list(chain.stream(messages, config))
    elif how == "batch":
        chain.batch([messages], config)
    else:
        chain.invoke(messages, config)


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "batch"])
async def test_a_recorded_history_without_its_media_is_usable(how, backend, monkeypatch, tmp_path):
    """As after a restart, or after 256 MiB of other media."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(VIDEO.read_bytes())
    histories = {}

    def history(session_id):
        return histories.setdefault(session_id, InMemoryChatMessageHistory())

    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=1, num_frames=2)
    chain = RunnableWithMessageHistory(llm, history)
    config = {"configurable": {"session_id": "a"}}
    shown = [
        image_block(IMAGE),
        video_block(VIDEO),
        video_block([IMAGE, IMAGE]),
        pdf_block(SCAN),
        {"type": "video", "path": str(clip)},
        {"type": "text", "text": "first question"},
    ]
    chain.invoke([HumanMessage(shown)], config)
    store = MediaStore()
    for module in ("block_fields", "references"):
        monkeypatch.setattr(f"langchain_internvl.messages.{module}.MEDIA_STORE", store)
    clip.unlink()
    for number in range(2):
        another = {"type": "image", "image": Image.new("RGB", (8, 8), (number, 0, 0))}
        message = HumanMessage([another, f"question {number}"])
        with pytest.warns(UserWarning, match=r"message 1 \(human\), block 1: the image is a ref"):
            await ask_again(chain, how, [message], config)
        # The images that were shown since are there.
        assert len(backend.requests[-1].tiles) == number + 1
    prompt = llm.get_text(backend.requests[-1].prompt_ids)
    assert prompt.count("[An image was here. It is no longer available.]") == 1
    assert prompt.count("[A video was here. It is no longer available.]") == 3
    assert prompt.count("[A PDF was here. It is no longer available.]") == 1
    assert prompt.index("was here") < prompt.index("first question") < prompt.index("question 1")


def test_too_many_frames_in_a_list(backend):
    frames = [{"type": "image", "base64": "AAAA", "mime_type": "image/png"}] * 5
    few = MediaPolicy(max_frames=4)
    llm = ChatInternVL(model=MODEL, backend=backend, media_policy=few)
    with pytest.raises(MediaTooLargeError, match=r"5 frames are over MediaPolicy\.max_frames=4"):
        llm.render(ask({"type": "video", "frames": frames}))
    with pytest.raises(MediaTooLargeError, match="max_frames=4"):
        video_block(np.zeros((5, 4, 4, 3), np.uint8), policy=few)


def test_frames_may_be_blocks_and_one_picture_is_no_video(llm):
    block = video_block([image_block(IMAGE), IMAGE, np.zeros((28, 28, 3), np.uint8)])
    assert llm.render(ask(block)).count("<image>") == 3
    with pytest.raises(UnsupportedMediaError, match=r"an array \[frames, height, width, 3\]"):
        video_block(np.zeros((28, 28, 3), np.uint8))


def test_pages_have_tiles_of_their_own(backend):
    llm = ChatInternVL(model=MODEL, backend=backend)
    for limits, tiles in (({}, 13), ({"max_tiles": 1}, 1), ({"min_tiles": 2, "max_tiles": 2}, 3)):
        llm.invoke(ask(pdf_block(SCAN, **limits)))
        assert len(backend.requests[-1].tiles[0]) == tiles


def test_relative_videos_stay_what_they_were(llm, tmp_path, monkeypatch):
    monkeypatch.chdir(VIDEO.parent)
    messages = llm._convert_input(ask({"type": "video", "path": VIDEO.name})).to_messages()
    monkeypatch.chdir(tmp_path)
    assert llm.render(messages).count("Frame") == 8


async def test_requests_at_once_about_one_lazily_opened_image_all_see_it(llm, backend, tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)).save(path)
    llm.invoke(ask(image_block(path)))
    expected = backend.requests.pop().tiles[0]

    def question():
        return ask({"type": "text", "text": "x"}, {"type": "image", "image": Image.open(path)})

    llm.batch([question()] * 6)
    RunnableParallel({str(number): llm for number in range(6)}).invoke(question())
    await llm.abatch([question()] * 6)
    assert len(backend.requests) == 18
    assert all(np.array_equal(request.tiles[0], expected) for request in backend.requests)
