"""LMDeploy in this process and behind HTTP: the same words as the transformers backend."""

import asyncio
import json
import threading

import pytest
from engine_support import wait_until
from golden import PHOTOS, TINY, VIDEO
from hostile import HOSTILE
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from patience import PATIENCE

from langchain_internvl import image_block, video_block
from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.errors import (
    BackendError,
    ContextOverflowError,
    PromptError,
    RequestError,
    RequestTimeoutError,
)
from langchain_internvl.grammars.grammar import Grammar

CAT = image_block(PHOTOS / "chelsea.png", max_tiles=2)
COFFEE = image_block(PHOTOS / "coffee.png", max_tiles=1)


def text(words):
    return {"type": "text", "text": words}


@pytest.mark.parametrize("name", [*TINY, "nano"])
def test_nothing_that_a_text_says_changes_the_ids(name, way, here):
    llm, local = way.llm(name, max_tokens=1), here(name)
    for words in HOSTILE:
        messages = [
            SystemMessage(f"Say {words}"),
            HumanMessage([CAT, text(words)]),
            AIMessage(f"You said {words}"),
            HumanMessage([text(words), COFFEE, text(f"{words} again")]),
        ]
        for some in (messages, [HumanMessage(words)]):
            llm.invoke(some)
            assert way.seen(name)["input_ids"] == local.prompt_ids(some), words


CONVERSATIONS = {
    "text": [HumanMessage("Hello, who are you?")],
    "image": [HumanMessage([CAT, text("Describe it.")])],
    "two images": [HumanMessage([CAT, COFFEE, text("Compare them.")])],
    "turns": [
        HumanMessage([CAT, text("Describe it.")]),
        AIMessage("A cat."),
        HumanMessage([COFFEE, text("And this?")]),
    ],
    "video": [HumanMessage([video_block(VIDEO, num_frames=3), text("What happens?")])],
}


@pytest.mark.parametrize("name", ["internlm2", "qwen2", "nano"])
@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_replies_are_those_of_the_transformers_backend(name, kind, way, here):
    messages = CONVERSATIONS[kind]
    ours, theirs = way.llm(name).invoke(messages), here(name).invoke(messages)
    assert ours.content == theirs.content
    assert _counts(ours) == _counts(theirs)
    assert ours.response_metadata["finish_reason"] == theirs.response_metadata["finish_reason"]


def _counts(message):
    usage = message.usage_metadata
    return usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]


def test_joined_images_and_few_tiles_are_cut_here(way, here):
    """What LMDeploy has no words for: several images under one tag, a least number of tiles."""
    messages = [HumanMessage([CAT, COFFEE, text("Compare them.")])]
    for settings in ({"join_images": True}, {"min_tiles": 2, "max_tiles": 4}):
        reply = way.llm("qwen2").invoke(messages, **settings)
        assert reply.content == here("qwen2").invoke(messages, **settings).content


def test_streams_batches_and_tasks_say_the_same(way):
    llm = way.llm("nano")
    inputs = [CONVERSATIONS[kind] for kind in ("text", "image", "two images", "turns")] * 2
    alone = [llm.invoke(one) for one in inputs]
    contents = [one.content for one in alone]
    assert [one.content for one in llm.batch(inputs)] == contents
    assert [one.content for one in asyncio.run(llm.abatch(inputs))] == contents
    for one, expected in zip(inputs[:4], alone, strict=False):
        chunks = list(llm.stream(one))
        assert len(chunks) > 2
        merged = chunks[0]
        for chunk in chunks[1:]:
            merged += chunk
        assert merged.content == expected.content
        assert merged.usage_metadata == expected.usage_metadata
        assert [chunk.usage_metadata for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert wait_until(lambda: way.is_idle("nano"))


def test_the_engine_gets_no_more_at_once_than_it_takes(way, slow):
    """48 tasks; the engine is made for four."""
    slow("nano", 0.001)
    llm = way.llm("nano", max_tokens=3)
    replies = asyncio.run(llm.abatch([CONVERSATIONS["text"]] * 48))
    assert len({one.content for one in replies}) == 1
    assert way.state("nano")["most_active"] <= 4
    assert wait_until(lambda: way.is_idle("nano"))


def test_stop_texts_are_cut_here(way, here):
    whole = here("qwen2").invoke("Hello").content
    stop = whole[3:6]
    reply = way.llm("qwen2").invoke("Hello", stop=[stop])
    assert reply.content == here("qwen2").invoke("Hello", stop=[stop]).content
    assert len(reply.content) < len(whole)
    assert reply.response_metadata["finish_reason"] == "stop"
    assert wait_until(lambda: way.is_idle("qwen2"))


def test_log_probabilities_are_those_of_the_transformers_backend(way, here):
    asked = {"top_logprobs": 3, "max_tokens": 5}
    ours = way.llm("qwen2").invoke("Hello", **asked).response_metadata["logprobs"]["content"]
    theirs = here("qwen2").invoke("Hello", **asked).response_metadata["logprobs"]["content"]
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours, theirs, strict=True):
        assert one["token"] == other["token"]
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-3)
        assert [top["token"] for top in one["top_logprobs"]] == [
            top["token"] for top in other["top_logprobs"]
        ]


def test_seeds_repeat_and_differ(way):
    llm = way.llm("qwen2")
    settings = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "max_tokens": 8}
    same = [llm.invoke("Hello", seed=-3, **settings).content for _ in range(2)]
    assert same[0] == same[1]
    others = {llm.invoke("Hello", seed=seed, **settings).content for seed in range(4)}
    assert len(others) > 1


def test_a_temperature_that_lmdeploy_does_not_take(way):
    with pytest.raises(RequestError, match="temperatures up to 2, not 3"):
        way.llm("qwen2").invoke("Hello", temperature=3)


# Guided decoding. A request with a grammar, as structured output and tools make it.


SCHEMA = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}
JSON_FORMAT = {"type": "compact_json", "schema": SCHEMA, "separators": [",", ":"]}


def bound(way, prompts, name="qwen2", **settings):
    own = prompts(name)
    ids = own.tokenizer.encode_text("Is it a cat?")
    request = Request(
        ids, stop_ids=own.stop_ids, stop=[own.template.stop], max_tokens=200, **settings
    )
    deltas = list(way.backend(name).stream(request))
    return "".join(delta.text for delta in deltas), deltas[-1].finish_reason


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "nano"])
def test_a_schema_is_kept_to(name, way, prompts):
    """At a server white space is allowed between all parts, and random weights wander off in it."""
    grammar = Grammar(json.dumps(JSON_FORMAT), json.dumps(SCHEMA))
    complete = 0
    for seed in range(6):
        sampling = Sampling(temperature=1.0, seed=seed)
        said, reason = bound(way, prompts, name, grammar=grammar, sampling=sampling)
        if reason == "length":
            assert not way.keeps_compact, said
            continue
        value = json.loads(said)
        assert value["answer"] in {"yes", "no"}
        assert isinstance(value["sure"], bool)
        complete += 1
    # nano's tokens are bytes: at a server it never finds its way out of the white space.
    assert complete == 6 if way.keeps_compact else complete or name == "nano"


TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": SCHEMA},
}


def test_a_call_is_enforced(way, prompts):
    """By a structural tag in this process, as a JSON value behind HTTP: the same words."""
    tag = {
        "type": "tag",
        "begin": '<tool_call>\n{"name": "look", "arguments": ',
        "content": JSON_FORMAT,
        "end": "}\n</tool_call>",
    }
    calls = {"type": "tags_with_separator", "tags": [tag], "separator": "\n",
             "at_least_one": True, "stop_after_first": True}  # fmt: skip
    grammar, complete = Grammar(json.dumps(calls)), 0
    for seed in range(6):
        sampling = Sampling(temperature=1.0, seed=seed)
        said, reason = bound(
            way, prompts, grammar=grammar, tools=[TOOL], tool_choice="required", sampling=sampling
        )
        assert said.startswith("<tool_call>")
        if reason == "length":
            assert not way.keeps_compact, said
            continue
        assert said.endswith("\n</tool_call>")
        call = json.loads(said.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        assert call["name"] == "look"
        assert call["arguments"]["answer"] in {"yes", "no"}
        complete += 1
    assert complete == 6 if way.keeps_compact else complete


def test_a_schema_that_is_none_is_refused(way, prompts):
    broken = {"type": "object", "properties": {"n": {"type": "nonsense"}}}
    grammar = Grammar(json.dumps({**JSON_FORMAT, "schema": broken}), json.dumps(broken))
    # In this process it is made into rules here, at a server there.
    with pytest.raises(RequestError, match=r"(?i)response.format|cannot be guaranteed"):
        # On a server of its own: LMDeploy 0.18 forgets the session of a request that it refuses
        # for its response format (`AsyncEngine.preprocess` checks it before it takes the session).
        bound(way, prompts, "llama", grammar=grammar)
    assert wait_until(lambda: not way.state("llama")["dispatched"])


# Faults, and callers who leave.


def test_tiles_that_do_not_fit(way, prompts):
    own = prompts("qwen2")
    with pytest.raises(PromptError, match="256 context tokens, but its 0 tiles"):
        list(way.backend("qwen2").stream(Request([own.tokenizer.image_context_id] * 256)))


def test_a_prompt_over_the_window_of_the_engine(way, prompts):
    """Ours is checked before; the engine's own may be smaller."""
    length = prompts("qwen2").checkpoint.max_length
    with pytest.raises(ContextOverflowError, match="context length"):
        list(way.backend("qwen2").stream(Request([5] * length)))
    assert wait_until(lambda: way.is_idle("qwen2"))


def test_an_engine_that_fails(way):
    backend = way.backend("qwen2", max_retries=0)
    with pytest.raises(BackendError, match="internal server error"):
        list(backend.stream(Request([7])))
    assert wait_until(lambda: way.is_idle("qwen2"))
    assert way.llm("qwen2", max_tokens=2).invoke("Hello").content


LONG = {"max_tokens": 3000, "stop": None}


def long_request(**settings):
    """One that goes on and on: no stop ids."""
    return Request([5, 6, 8], max_tokens=400, **settings)


def is_busy(way, name="qwen2"):
    return way.state(name)["active"] > 0


def test_a_stream_that_is_left_frees_the_engine(way, held):
    held("qwen2")
    deltas = way.backend("qwen2").stream(long_request())
    next(deltas)
    assert is_busy(way)
    deltas.close()
    assert wait_until(lambda: way.is_idle("qwen2"))
    assert way.seen("qwen2")["end"] == "cancelled"
    assert len(way.seen("qwen2")["token_ids"]) < 400


def test_a_timeout_frees_the_engine(way, held):
    held("qwen2")
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
        list(way.backend("qwen2").stream(long_request(timeout=0.3)))
    assert wait_until(lambda: way.is_idle("qwen2"))


async def test_a_cancelled_task_frees_the_engine(way, held):
    held("qwen2")
    backend = way.backend("qwen2")
    begun = asyncio.Event()

    async def read():
        async for _ in backend.astream(long_request()):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(wait_until, lambda: way.is_idle("qwen2"))


async def test_an_async_timeout_frees_the_engine(way, held):
    held("qwen2")
    with pytest.raises(RequestTimeoutError):
        async for _ in way.backend("qwen2").astream(long_request(timeout=0.3)):
            pass
    assert await asyncio.to_thread(wait_until, lambda: way.is_idle("qwen2"))


async def test_no_thread_waits_for_tokens(way, slow):
    """Forty replies at once, and no more threads than before."""
    slow("nano", 0.001)
    llm = way.llm("nano", max_tokens=4)
    await llm.ainvoke("Hello")
    before = threading.active_count()
    tasks = [asyncio.create_task(_one(llm)) for _ in range(40)]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, threading.active_count())
        await asyncio.sleep(0.005)
    assert all(task.result() for task in tasks)
    # Prompts are made in the event loop's own pool, which has its bound.
    assert most - before <= 34


async def _one(llm):
    return [chunk async for chunk in llm.astream("Hello")]


def test_many_who_come_and_go_leave_nothing(way, held):
    held("qwen2")  # for more tokens than any of them reads
    backend = way.backend("qwen2")

    def run(number):
        deltas = backend.stream(long_request())
        for _ in range(number % 5):
            next(deltas)
        deltas.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wait_until(lambda: way.is_idle("qwen2"))
    way.set_pace("qwen2", hold_after=None)
    assert way.llm("qwen2", max_tokens=2).invoke("Hello").content
