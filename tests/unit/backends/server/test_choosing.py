"""Which backend a model has, and how a server is asked."""

import json
import os
import threading
import time

import pytest
from fault_server import FaultServer, chunk, ids, lines, send, words
from golden import PHOTOS, checkpoint_folder
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage
from patience import PATIENCE
from pydantic import ValidationError

from langchain_internvl import ChatInternVL, factory, image_block
from langchain_internvl.backends.server.addresses import check_address
from langchain_internvl.errors import (
    BrokenReplyError,
    RequestError,
    RequestTimeoutError,
    ServerAccessError,
    ServerUnavailableError,
)

FOLDER = str(checkpoint_folder("qwen2"))
LMDEPLOY = ({"id": "vl", "owned_by": "lmdeploy"},)
OTHER = ({"id": "vl", "owned_by": "sglang"},)
BOTH = lines(*ids(779, 440), *words("never"))


def make(url, **settings):
    return ChatInternVL(**{"model": FOLDER, "served_model": "vl", "base_url": url, "max_tokens": 2,
                           "temperature": 0, "max_retries": 0, **settings})  # fmt: skip


@pytest.fixture
def asked():
    """What a server is asked by a model with some settings."""

    def get(answer, models, **settings):
        server = FaultServer(answer, models=models)
        with server.running() as url:
            llm = make(url, **settings)
            try:
                llm.invoke("Hello")
            finally:
                llm.close()
        return server.asked[-1]

    return get


def test_lmdeploy_is_asked_by_ids(asked):
    body = asked(lines(*ids(779, 440)), LMDEPLOY)
    local = ChatInternVL(model=FOLDER)
    assert body["messages"] == []
    assert body["input_ids"] == local.prompt_ids("Hello")
    assert body["return_token_ids"] is True
    assert (body["top_k"], body["max_tokens"]) == (1, 2)


@pytest.mark.parametrize(
    ("models", "settings"),
    [
        (OTHER, {}),
        (LMDEPLOY, {"server_prompt": "messages"}),
        (LMDEPLOY, {"model": "vl", "served_model": None}),
        (lambda handler: send(handler, 404, b"{}"), {}),
    ],
    ids=["another server", "as asked for", "no tokenizer", "no list of models"],
)
def test_others_are_asked_by_messages(models, settings, asked):
    body = asked(lines(*words("Hello")), models, **settings)
    assert body["messages"][-1] == {"role": "user", "content": "Hello"}
    assert not {"input_ids", "image_data", "return_token_ids", "ignore_eos"} & body.keys()


def test_ids_as_asked_for_need_the_tokenizer(asked):
    with pytest.raises(RequestError, match="need the tokenizer: name the checkpoint as model="):
        asked(BOTH, LMDEPLOY, model="vl", server_prompt="ids")


def test_a_server_that_sends_no_ids_says_so(asked):
    with pytest.raises(BrokenReplyError, match='server_prompt="messages"'):
        asked(lines(*words("Hello")), LMDEPLOY, server_prompt="ids")


@pytest.mark.parametrize("told", [7, ["x"], [1.5], "12"])
def test_ids_that_are_none(told, asked):
    with pytest.raises(BrokenReplyError, match="output_ids"):
        asked(lines(chunk({}, output_ids=told)), LMDEPLOY)


def test_a_key_that_is_not_accepted_is_no_reason_for_messages(asked):
    with pytest.raises(ServerAccessError, match="api_key="):
        asked(BOTH, lambda handler: send(handler, 401, b'{"message": "no", "code": 401}'))


def test_a_server_that_is_not_there_is_looked_for_again():
    llm = make("http://127.0.0.1:9/v1")
    for _ in range(2):
        with pytest.raises(ServerUnavailableError):
            llm.invoke("Hello")


def test_images_are_sent_as_their_tiles():
    server = FaultServer(lines(*ids(779, 440)), models=LMDEPLOY)
    message = [HumanMessage([image_block(PHOTOS / "chelsea.png", max_tiles=3)])]
    with server.running() as url:
        llm = make(url)
        llm.invoke(message)
        expanded = llm.prompt_ids(message)
        assert llm.get_num_tokens_from_messages(message) == len(expanded)
        llm.close()
    body = server.asked[-1]
    images = body["image_data"]
    assert all(image["max_dynamic_patch"] == 1 for image in images)
    assert all(image["url"].startswith("data:image/png;base64,") for image in images)
    assert body["input_ids"].count(1005) == len(images)
    assert expanded.count(1005) == 256 * len(images)


@pytest.mark.parametrize("call", ["render", "prompt_ids", "get_num_tokens_from_messages"])
def test_what_needs_a_tokenizer_says_so(call):
    llm = ChatInternVL(model="vl", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(RequestError, match="need the tokenizer"):
        getattr(llm, call)([HumanMessage("x")])


def test_the_key_is_a_secret(monkeypatch):
    llm = ChatInternVL(model="vl", base_url="http://127.0.0.1:9/v1", api_key="hush-hush")
    shown = [repr(llm), str(llm), dumps(llm), json.dumps(llm._identifying_params, default=str),
             llm._get_llm_string(), json.dumps(llm._get_ls_params(), default=str)]  # fmt: skip
    assert not [one for one in shown if "hush-hush" in one]
    assert "INTERNVL_API_KEY" in dumps(llm)
    monkeypatch.setenv("INTERNVL_API_KEY", "from-outside")
    assert ChatInternVL(model="vl").api_key.get_secret_value() == "from-outside"


def test_the_key_is_sent():
    server = FaultServer(lines(*words("x")), models=OTHER)
    with server.running() as url:
        llm = make(url, api_key="hush")
        llm.invoke("Hello")
        llm.close()
    (sent,) = (
        value for name, value in server.headers[-1].items() if name.lower() == "authorization"
    )
    assert sent == "Bearer hush"


@pytest.mark.parametrize("key", [" hush\n", "hush"])
def test_white_space_around_a_key_is_taken_off(key, monkeypatch):
    assert make("http://x/v1", api_key=key).api_key.get_secret_value() == "hush"
    monkeypatch.setenv("INTERNVL_API_KEY", key)
    assert make("http://x/v1").api_key.get_secret_value() == "hush"
    assert make("http://x/v1", api_key=" ").api_key is None


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "hush\u00fc"},
        {"api_key": "hu\nhush"},
        {"api_key": "hush", "dtype": "float16"},
        {"api_key": "hush", "engine_options": {"a": 1}},
        {"api_key": ["hush"]},
        {"base_url": "http://me:hush@host/v1"},
        {"base_url": "http://hush@host:port/v1"},
        {"base_url": "hush"},
        {"default_headers": {"X-A": "hush\n"}},
        {"default_headers": {"X-A": "hüsh hush"}},
        {"default_headers": {"X-A": " hush"}},
        {"default_headers": {"X A": "hush"}},
        {"default_headers": {"": "hush"}},
        {"default_headers": {"é": "hush"}},
        {"base_url": "http://host:hush/v1"},
        {"base_url": "http://host/hush key/v1"},
    ],
)
def test_errors_show_no_secret(settings):
    with pytest.raises(ValidationError) as caught:
        make("http://x/v1", **settings)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "host", "host:80/v1", "ftp://host/v1", "http:///v1", "http://host:port/v1", "http://[x/v1",
     "http://host:99999/v1", "http://host:0/v1", "http://a b/v1", "http://a\x00b/v1"],
)  # fmt: skip
def test_addresses_that_are_none(url):
    with pytest.raises(ValidationError, match="base_url"):
        make(url)
    with pytest.raises(RequestError) as caught:
        check_address(url)
    assert url in {"", "host"} or url not in str(caught.value)


def test_headers_that_are_some():
    headers = {"X-A": "b c", "x_b.1": "", "Authorization": "Basic YTpi"}
    made = make("http://x/v1", default_headers=headers)
    assert {name: one.get_secret_value() for name, one in made.default_headers.items()} == headers


def test_addresses_that_are_some():
    for url in ("http://127.0.0.1:23333/v1", "https://host/v1/", "http://[::1]:80/v1"):
        assert make(f" {url}\n").base_url == url


def test_nothing_of_openais_environment_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-private")
    heads = []

    def listing(handler):
        heads.append(dict(handler.headers))
        send(handler, 200, b'{"data": [{"id": "vl", "owned_by": "x", "object": "model"}]}')

    server = FaultServer(lines(*words("x")), models=listing)
    with server.running() as url:
        llm = make(url)
        llm.invoke("Hello")
        llm.close()
    assert heads
    assert "private" not in repr([heads, server.headers])


WRONG = {
    "backend": ({"backend": "vllm"}, '"transformers", "lmdeploy" or a Backend'),
    "dtype at a server": ({"base_url": "http://x/v1", "dtype": "float16"}, "loaded its model"),
    "options of a server": (
        {"base_url": "http://x/v1", "engine_options": {"max_rows": 3}}, "max_concurrency"
    ),
    "no server": ({"served_model": "x"}, "only a server"),
    "device map": ({"backend": "lmdeploy", "device_map": "cpu"}, "see engine_options"),
    "float32": ({"backend": "lmdeploy", "dtype": "float32"}, "LMDeploy computes in"),
    "engine": ({"backend": "lmdeploy", "engine_options": {"engine": "x"}}, "turbomind"),
    "retries": ({"max_retries": -1}, "greater than or equal"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_do_not_fit(name):
    settings, match = WRONG[name]
    with pytest.raises(ValidationError, match=match):
        ChatInternVL(model="x", **settings)


def test_without_lmdeploy_the_chat_model_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lmdeploy", None)
    with pytest.raises(ImportError, match=r"langchain-internvl\[lmdeploy\]"):
        ChatInternVL(model=FOLDER, backend="lmdeploy").invoke("Hello")


def test_without_openai_the_chat_model_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ImportError, match=r"langchain-internvl\[server\]"):
        make("http://127.0.0.1:9/v1").invoke("Hello")


def test_a_server_that_does_not_list_its_models_in_time(monkeypatch):
    left = threading.Event()

    def hang(handler):
        left.wait(PATIENCE)
        send(handler, 200, b"{}")

    with FaultServer(BOTH, models=hang).running() as url:
        llm = make(url, timeout=0.3)
        with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
            llm.invoke("Hello")
        left.set()
        llm.close()


def test_a_tokenizer_that_takes_the_time_leaves_none_for_the_server(monkeypatch):
    find, heard = factory.find_prompts, []

    def slowly(model, engines):
        found = find(model, engines)
        time.sleep(0.4)
        return found

    monkeypatch.setattr(factory, "find_prompts", slowly)
    with FaultServer(BOTH, models=heard.append).running() as url:
        llm = make(url, timeout=0.3)
        with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
            llm.invoke("Hello")
        llm.close()
    assert heard == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_asks_for_itself():
    server = FaultServer(lines(*words("Hello")), models=OTHER)
    with server.running() as url:
        llm = make(url)
        assert llm.invoke("Hello").content == "Hello"
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                said = llm.invoke("Hello").content
            except BaseException as error:  # noqa: BLE001 - told to the parent
                said = repr(error)
            os.write(writer, said.encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read() == b"Hello"
        os.waitpid(pid, 0)
        assert llm.invoke("Hello").content == "Hello"
        llm.close()
