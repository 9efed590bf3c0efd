"""Requests in the dialect of each kind of server, held against the fields of their sources.

`tests/data/server_fields.json` has the fields of a chat request that each server's source declares.
"""

import base64
import io
import json
import warnings

import pytest
from fault_server import FaultServer, chunk, lines, send, words
from golden import DATA, PHOTOS, VIDEO
from langchain_core.messages import HumanMessage
from PIL import Image

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.server.kinds import KINDS, OTHER, kind_of, tile_fields
from langchain_internvl.errors import RequestError

RECORDED = json.loads((DATA / "server_fields.json").read_text())
GOOD = lines(*words("Hel", "lo"))
MODELS = {
    kind.name: ({"id": "vl", "object": "model", "created": 1, "owned_by": kind.owner},)
    for kind in KINDS
}
MODELS["mlx-vlm"] = ({"id": "vl", "object": "model", "created": 1, "loaded": True},)
MODELS[OTHER.name] = ({"id": "vl", "object": "model", "created": 1, "owned_by": "somebody"},)

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {}},
    },
}
CAT = image_block(PHOTOS / "chelsea.png")


def asked(name, messages, answer=GOOD, **settings):
    """What a kind of server is asked, and the reply."""
    server = FaultServer(answer, models=MODELS[name])
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, server_prompt="messages", max_retries=0)
        reply = llm.invoke(messages, **settings)
        llm.close()
    return server.asked[-1], reply


def urls(body):
    content = body["messages"][-1]["content"]
    return [block["image_url"] for block in content if block["type"] == "image_url"]


def size(url):
    return Image.open(io.BytesIO(base64.b64decode(url["url"].split(",")[1]))).size


@pytest.mark.parametrize("name", MODELS)
def test_sampling_and_seeds(name):
    body, _ = asked(name, "x", temperature=0.5, top_p=0.9, repetition_penalty=1.2, seed=-1)
    sampling = {"temperature": 0.5, "top_p": 0.9}
    expected = {
        "LMDeploy": {"repetition_penalty": 1.2, "seed": 2**64 - 1},
        "llama.cpp": {"repeat_penalty": 1.2, "seed": 2**32 - 2, "top_k": 0, "min_p": 0.0},
        "mlx-vlm": {"repetition_penalty": 1.2, "seed": 2**32 - 1},
    }.get(name, {"repetition_penalty": 1.2, "seed": 2**63 - 1})
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "repeat_penalty",
             "seed")  # fmt: skip
    assert {one: body[one] for one in names if one in body} == {**sampling, **expected}
    assert asked(name, "x", temperature=0.5, top_k=7)[0]["top_k"] == 7


@pytest.mark.parametrize("name", MODELS)
def test_tiles_of_every_image_by_the_servers_own_means(name):
    coffee = image_block(PHOTOS / "coffee.png", max_tiles=1)
    body, _ = asked(name, [HumanMessage([CAT, coffee])], max_tiles=20, min_tiles=15)
    first, second = urls(body)
    columns, rows = (side // 448 for side in size(first))
    assert 15 <= columns * rows <= 20
    assert size(second) == (448, 448)
    many = columns * rows
    limits = {"LMDeploy": (many, 1), "SGLang": (many, many)}.get(name, (None, None))
    assert (first.get("max_dynamic_patch"), second.get("max_dynamic_patch")) == limits
    processor = {"max_dynamic_patch": many} if name == "vLLM" else None
    assert body.get("mm_processor_kwargs") == processor


def test_vllm_gets_its_field_only_where_it_is_needed():
    """It refuses the field unless it was started with --trust-request-mm-kwargs."""
    video = video_block(VIDEO, num_frames=2)
    for messages in ([HumanMessage([CAT])], [HumanMessage([video])]):
        assert "mm_processor_kwargs" not in asked("vLLM", messages, max_tiles=12)[0]
    refused = "Per-request mm_processor_kwargs are disabled by default. Start the server with ..."
    server = FaultServer(lambda handler: send(handler, 400, json.dumps({"error": {
        "message": refused, "type": "BadRequestError", "code": 400}}).encode()),
        models=MODELS["vLLM"])  # fmt: skip
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, max_retries=0)
        with pytest.raises(RequestError, match=r"--trust-request-mm-kwargs, or .*max_tiles.* 12"):
            llm.invoke([HumanMessage([CAT])], max_tiles=20, min_tiles=15)
        llm.close()


@pytest.mark.parametrize(
    ("grids", "limit", "cut"),
    [
        ([(4, 3), (4, 3)], 12, None),
        ([(1, 1)], 1, None),
        ([(1, 1), (4, 3)], 12, "9 instead of 1"),
        ([(2, 1), (1, 2), (8, 1)], 8, "8 instead of 2"),
        ([(1, 1), None], None, "9 instead of 1"),  # SGLang's own limit is 12
        ([(5, 4), None], None, "fewer instead of 20"),
    ],
)
def test_sglang_has_one_limit_and_prefers_larger_grids(grids, limit, cut):
    """`InternVLProcessor.dynamic_preprocess`: equal aspect ratios are decided by the area alone."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fields, of_request = tile_fields(kind_of("sglang"), grids)
    assert fields == [{} if limit is None else {"max_dynamic_patch": limit}] * len(grids)
    assert of_request == {}
    assert bool(caught) is (cut is not None)
    assert all(cut in str(warning.message) for warning in caught)


@pytest.mark.parametrize("name", MODELS)
def test_images_that_are_left_to_the_server_have_no_limit(name):
    """Neither do others where one limit would hold for all."""
    video = video_block(VIDEO, num_frames=2)
    body, _ = asked(name, [HumanMessage([CAT, video])])
    photo, *frames = urls(body)
    assert "mm_processor_kwargs" not in body
    assert "max_dynamic_patch" not in photo
    assert [size(one) for one in frames] == [(448, 448)] * 2
    limits = [1, 1] if name == "LMDeploy" else [None, None]
    assert [one.get("max_dynamic_patch") for one in frames] == limits


@pytest.mark.parametrize("name", MODELS)
def test_markup_stays_in_replies(name):
    marked = "<ref>cat</ref><box>[[1, 2, 3, 4]]</box>"
    body, reply = asked(name, "x", lines(*words(marked)))
    assert reply.content == marked
    keeps = {"LMDeploy", "SGLang", "vLLM"}
    assert body.get("skip_special_tokens") is (False if name in keeps else None)
    if name in keeps:  # which a server may take for part of the reply then
        _, reply = asked(name, "x", lines(*words("A cat.", "<|im_", "end|>")))
        assert reply.content == "A cat."


@pytest.mark.parametrize("name", MODELS)
def test_arguments_of_the_template(name):
    thinks = {"enable_thinking": True}
    if name == "mlx-vlm":
        with pytest.raises(RequestError, match="mlx-vlm has no chat_template_kwargs"):
            asked(name, "x", chat_template_kwargs=thinks)
        return
    assert asked(name, "x", chat_template_kwargs=thinks)[0]["chat_template_kwargs"] == thinks
    assert "chat_template_kwargs" not in asked(name, "x")[0]


IGNORED = {"llama.cpp": {"model"}, "mlx-vlm": {"parallel_tool_calls"}}
"""What a server ignores: llama.cpp has one model; of mlx-vlm's calls one is read then."""


@pytest.mark.parametrize("name", RECORDED)
def test_all_fields_are_in_the_servers_source(name):
    fields = set(RECORDED[name]["fields"]) | IGNORED.get(name, set())
    call = {"index": 0, "function": {"name": "look", "arguments": "{}"}}
    called = lines(chunk({"tool_calls": [call, {**call, "index": 1}]}), chunk({}, "tool_calls"))
    schema = {"type": "json_schema",
              "json_schema": {"schema": {"type": "object"}}}  # fmt: skip
    everything = [
        asked(name, [HumanMessage([CAT])], max_tiles=2, temperature=1, top_k=3, top_p=0.5, seed=1,
              repetition_penalty=1.1, top_logprobs=2)[0],
        asked(name, "x", lines(*words("{}")), response_format=schema)[0],
    ]  # fmt: skip
    body, reply = asked(name, "x", called, tools=[TOOL], tool_choice="any",
                        parallel_tool_calls=False)  # fmt: skip
    assert [one["name"] for one in reply.tool_calls] == ["look"]
    assert body["tool_choice"] == "required"
    for one in (*everything, body):
        assert one.keys() <= fields
    assert everything[1]["response_format"]["json_schema"]["schema"]["type"] == "object"
    image_fields = RECORDED[name].get("image_url")
    if image_fields:
        assert urls(everything[0])[0].keys() <= set(image_fields)


def test_kinds_are_known_by_their_owner():
    assert [kind_of(kind.owner) for kind in KINDS] == list(KINDS)
    assert kind_of("") is OTHER
    assert {kind.name for kind in KINDS} == RECORDED.keys()
    for kind in KINDS:
        known = set(RECORDED[kind.name]["fields"])
        assert ("chat_template_kwargs" in known) is kind.takes_template_kwargs
        assert ("skip_special_tokens" in known) is kind.skips_special_tokens
        assert kind.repetition_penalty in known
        assert kind.sampling.keys() <= known
    assert tile_fields(OTHER, []) == ([], {})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        *((status, b"{}", "application/json") for status in (401, 404, 500, 503)),
        (200, b"<html></html>", "text/html"),  # one page for every address
        (200, b"no such page", "text/plain"),
        (200, b"data: {}\n\n", "text/event-stream"),
        (200, b'"models"', "application/json"),
        (200, b"[]", "application/json"),
        (200, b'{"data": [null]}', "application/json"),
    ],
)
def test_a_server_that_lists_no_models_is_any_server(status, body, kind):
    server = FaultServer(
        GOOD, models=lambda handler: send(handler, status, body, content_type=kind)
    )
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, max_retries=0)
        assert llm.invoke("x").content == "Hello"
        llm.close()
    assert "skip_special_tokens" not in server.asked[-1]


def test_the_kind_is_that_of_the_model_itself():
    models = ({"id": "a", "owned_by": "vllm"}, {"id": "vl", "owned_by": "llamacpp"})
    server = FaultServer(GOOD, models=models)
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url)
        llm.invoke("x", temperature=1)
        llm.close()
    assert server.asked[-1]["min_p"] == 0
