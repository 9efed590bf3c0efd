"""Every argument has an effect, or a warning or an error says that it has none."""

import re
import warnings
from functools import cache

import httpx
import numpy as np
import pytest
from fault_server import FaultServer, lines, words
from golden import GOLDEN, VIDEO, checkpoint_folder
from langchain_core.messages import HumanMessage
from patience import PATIENCE
from PIL.Image import fromarray

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import RequestError
from langchain_internvl.settings.call import CallSettings
from langchain_internvl.settings.model import ModelSettings

GREY = fromarray(np.repeat(np.array([[0, 90, 300]], np.uint16), 14, axis=1).repeat(28, axis=0))
GREY.info["transparency"] = 0
MODEL = str(checkpoint_folder("qwen2"))

CALL = {
    "temperature": 0.5, "top_p": 0.5, "top_k": 3, "repetition_penalty": 1.5, "seed": 1,
    "max_tokens": 7, "stop": ["lo"], "logprobs": True, "top_logprobs": 2, "timeout": PATIENCE,
    "min_tiles": 4, "max_tiles": 1, "max_tiles_per_frame": 6, "num_frames": 3,
    "number_images": False, "join_images": True, "image_order": "as_given",
    "exif_transpose": True, "default_system": "S", "reasoning": True, "context_window": 20_000,
    "scale_16bit": True, "white_background": True, "chat_template_kwargs": {"a": 1},
}  # fmt: skip
"""A value of each setting of a call that is not its default."""

MODEL_ONLY = {
    "adapter": "a/b", "api_key": "k", "attn_implementation": "eager",
    "default_headers": {"X-A": "b"}, "device_map": "cpu", "dtype": "float16",
    "engine_options": {"max_concurrency": 3}, "http_client": httpx.AsyncClient(),
    "max_retries": 5, "merge_adapter": False, "quantization": "8bit",
    "served_model": "a", "server_prompt": "messages", "chat_template_kwargs": {"a": 1},
}  # fmt: skip
"""A value of each setting that not every backend uses."""


def messages():
    return [HumanMessage([
        {"type": "text", "text": "First: "},
        image_block(GOLDEN / "images/exif_rot6.jpg"), image_block(GOLDEN / "images/frame_0.png"),
        image_block(GREY), video_block(VIDEO), {"type": "text", "text": "What?"},
    ])]  # fmt: skip


def test_all_settings_are_in_these_tests():
    assert CALL.keys() == CallSettings.model_fields.keys()
    used_by_all = {"model", "backend", "base_url", "chat_template", "media_policy", "revision",
                   "streaming", "trust_remote_code"}  # fmt: skip
    own = ModelSettings.model_fields.keys() - CALL.keys()
    assert MODEL_ONLY.keys() - CALL.keys() | used_by_all == own


def made_by_ids(**settings):
    """What a request by token ids is, and what the reply says."""
    backend = ScriptedBackend(lambda request: "Hello")
    llm = ChatInternVL(model=MODEL, backend=backend)
    given = {"max_tokens": 9000, "num_frames": 2, **settings}
    asked = messages()
    del asked[0].content[-1]  # all text precedes the media
    llm.invoke(asked, **given)
    (made,) = backend.requests
    return (
        list(made.prompt_ids), [tiles.tobytes() for tiles in made.tiles], made.sampling,
        made.max_tokens, list(made.stop), made.top_logprobs, made.timeout is None,
    )  # fmt: skip


@cache
def plain_by_ids():
    return made_by_ids()


@pytest.fixture(scope="module")
def plain_by_messages(server):
    return made_by_messages(server)


@pytest.mark.parametrize("name", CALL)
def test_settings_by_ids(name):
    if name == "chat_template_kwargs":
        with pytest.raises(RequestError, match="a server that writes the prompt"):
            made_by_ids(chat_template_kwargs=CALL[name])
        return
    assert made_by_ids(**{name: CALL[name]}) != plain_by_ids()


@pytest.fixture(scope="module")
def server():
    server = FaultServer(lines(*words("Hel", "lo")), models=({"id": "vl", "owned_by": "vllm"},))
    with server.running() as url:
        yield server, url


def made_by_messages(server, **settings):
    """What a request by messages is, what the reply says, and whether somebody was warned."""
    served, url = server
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        llm = ChatInternVL(model="vl", base_url=url, **settings)
        reply = llm.invoke(messages())
        llm.close()
    return (
        {**served.asked[-1]}, reply.content, llm.timeout,
        [str(one.message) for one in warned if "no effect" in str(one.message)],
    )  # fmt: skip


@pytest.mark.parametrize("name", CALL)
def test_settings_by_messages(name, server, plain_by_messages):
    if name == "image_order":
        with pytest.raises(RequestError, match="image_order"):
            made_by_messages(server, image_order="as_given")
        return
    value = True if name == "number_images" else CALL[name]
    made = made_by_messages(server, **{name: value})
    assert made != plain_by_messages
    unused = name in {"context_window", "join_images", "number_images"}
    assert [name in one for one in made[3]] == [True] * unused


def test_a_call_warns_too_and_once_for_each_setting(server):
    _, url = server
    llm = ChatInternVL(model="vl", base_url=url)
    with pytest.warns(UserWarning, match=r"no effect: join_images, number_images \(the server"):
        llm.invoke("x", join_images=True, number_images=True)
    with pytest.warns(UserWarning, match=r"no effect: context_window \(the server writes"):
        llm.invoke("x", join_images=True, context_window=5)
    llm.close()


def made_by_turns(**settings):
    """A request to a backend object that gets the conversation, and the warnings."""
    backend = ScriptedBackend(lambda request: "Hello")
    llm = ChatInternVL(model="no/such-model", backend=backend)
    asked = messages()
    del asked[0].content[-1]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        llm.invoke(asked, **{"max_tokens": 9000, "num_frames": 2, **settings})
    (made,) = backend.requests
    parts = [
        part.source.read(llm.media_policy) if hasattr(part, "source") else part
        for turn in made.turns
        for part in turn.parts
    ]
    return (
        parts, made.sampling, made.max_tokens, list(made.stop), made.top_logprobs,
        made.timeout is None, made.reasoning, dict(made.template_kwargs),
        [str(one.message) for one in warned if "no effect" in str(one.message)],
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(CALL.keys() - {"image_order"}))
def test_settings_by_turns(name):
    """(An image that is given after its text stays there: it has one order.)"""
    value = True if name == "number_images" else CALL[name]
    made = made_by_turns(**{name: value})
    assert made != made_by_turns()
    unused = name in {"context_window", "join_images", "number_images"}
    assert [name in one for one in made[-1]] == [True] * unused


def test_keeping_no_adapter_apart_warns():
    with pytest.warns(UserWarning, match="no effect: merge_adapter .there is no adapter"):
        ChatInternVL(model="nano", merge_adapter=False)


USED = {
    "transformers": {"adapter", "attn_implementation", "device_map", "dtype", "engine_options",
                     "merge_adapter", "quantization"},
    "lmdeploy": {"dtype", "engine_options"},
    "server": {"api_key", "chat_template_kwargs", "default_headers", "engine_options",
               "http_client", "max_retries", "served_model", "server_prompt"},
    "object": set(),
}  # fmt: skip


@pytest.mark.parametrize("kind", USED)
@pytest.mark.parametrize("name", MODEL_ONLY)
def test_arguments_of_other_backends(kind, name, recwarn):
    made = {
        "transformers": {"adapter": "a/b"} if name == "merge_adapter" else {},
        "lmdeploy": {"backend": "lmdeploy"},
        "server": {"base_url": "http://h/v1"},
        "object": {"backend": ScriptedBackend([])},
    }[kind]
    value = MODEL_ONLY[name]
    if name == "engine_options" and kind != "server":
        value = {"max_rows": 3}
    if name in USED[kind]:
        ChatInternVL(**made, **{name: value})
        assert not recwarn.list
    elif name in {"api_key", "max_retries"}:
        with pytest.warns(UserWarning, match=f"no effect: {name} ") as warned:
            ChatInternVL(**made, **{name: value})
        assert warned[0].filename == __file__
    else:
        with pytest.raises(ValueError, match=re.escape(f"{name}: ")):
            ChatInternVL(**made, **{name: value})


def test_one_warning_for_all():
    with pytest.warns(UserWarning, match="no effect: api_key, max_retries .*; revision") as warned:
        ChatInternVL(model=MODEL, revision="v1", api_key="k", max_retries=5)
    assert len(warned) == 1


def test_a_key_of_the_environment_is_no_argument(monkeypatch, recwarn):
    monkeypatch.setenv("INTERNVL_API_KEY", "k")
    ChatInternVL(model=MODEL)
    assert not recwarn.list


def test_what_langchain_itself_has():
    backend = ScriptedBackend(lambda request: "Hello there")
    llm = ChatInternVL(backend=backend, output_version="v1", custom_get_token_ids=lambda text: [7])
    assert llm.invoke("x").content == [{"type": "text", "text": "Hello there"}]
    assert llm.get_token_ids("x") == [7]


def test_a_client_that_is_none_is_refused():
    for wrong in (object(), httpx.Client()):
        with pytest.raises(ValueError, match=r"httpx\.AsyncClient, not a"):
            ChatInternVL(base_url="http://h/v1", http_client=wrong)
