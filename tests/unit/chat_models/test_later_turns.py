"""Prompts of later turns extend those of earlier ones, with the ids that were generated."""

import asyncio
import os
import pickle
from multiprocessing import get_context

import pytest
from chat_support import IMAGE, MODEL, ask
from golden import TINY, checkpoint_folder
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from patience import PATIENCE
from support import RecordingBackend

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.prompting import reply_ids
from langchain_internvl.prompting.reply_ids import replies_of


def tokenizer_of(llm):
    return llm._renderer(llm).tokenizer


def spelled(llm, text):
    """The ids of a text letter by letter, which no tokenizer makes of a word."""
    ids = [one for letter in text for one in tokenizer_of(llm).encode_text(letter)]
    assert ids != tokenizer_of(llm).encode_text(text)
    return ids


def speaker(text, ids):
    """A backend that generates these ids."""
    deltas = [Delta(one) for one in ids[:-1]]
    return ScriptedBackend(lambda _request: [*deltas, Delta(ids[-1], text, "stop")])


@pytest.fixture(params=TINY)
def told(request):
    """A chat model whose reply "Hello" is not tokenised as its tokenizer does it, and the ids."""
    folder = str(checkpoint_folder(request.param))
    ids = spelled(ChatInternVL(model=folder), "Hello")
    return ChatInternVL(model=folder, backend=speaker("Hello", ids)), ids


def extends(longer, shorter):
    return longer[: len(shorter)] == shorter


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "batch", "generate"])
def test_a_later_prompt_repeats_the_generated_ids(told, how):
    llm, ids = told
    first = [SystemMessage("Be terse."), *ask(image_block(IMAGE, max_tiles=1), "What?")]
    reply = {
        "invoke": lambda: llm.invoke(first),
        "stream": lambda: _sum(llm.stream(first)),
        "ainvoke": lambda: asyncio.run(llm.ainvoke(first)),
        "batch": lambda: llm.batch([first])[0],
        "generate": lambda: llm.generate([first]).generations[0][0].message,
    }[how]()
    begun = [*llm.prompt_ids(first), *ids]
    later = [*first, reply, HumanMessage("And now?")]
    assert extends(llm.prompt_ids(later), begun)
    llm.invoke(later)
    assert extends(llm.backend.requests[-1].prompt_ids, begun)
    assert llm.get_num_tokens_from_messages(later) == len(llm.prompt_ids(later))
    assert llm.render(later) == llm.render([*first, AIMessage("Hello"), HumanMessage("And now?")])
    # Nothing but the reply has other ids.
    plain = llm.prompt_ids([*first, AIMessage("Hello"), HumanMessage("And now?")])
    rest = len(llm.prompt_ids(later)) - len(begun)
    assert llm.prompt_ids(later)[-rest:] == plain[-rest:]


def _sum(chunks):
    first, *others = chunks
    return sum(others, first)


def test_changed_messages_are_tokenised_as_text(told):
    llm, _ = told
    reply = llm.invoke("x")
    plain = llm.prompt_ids([HumanMessage("x"), AIMessage("Hello"), HumanMessage("y")])
    kept = llm.prompt_ids([HumanMessage("x"), reply, HumanMessage("y")])
    assert kept != plain
    for same in (reply.model_copy(), pickle.loads(pickle.dumps(reply)),
                 AIMessage([{"type": "text", "text": "Hello"}], id=reply.id)):  # fmt: skip
        assert llm.prompt_ids([HumanMessage("x"), same, HumanMessage("y")]) == kept
    for text in ("Hello!", "hello", " Hello", "Hello\n", "Hell"):
        other = AIMessage(text, id=reply.id)
        expected = llm.prompt_ids([HumanMessage("x"), AIMessage(text), HumanMessage("y")])
        assert llm.prompt_ids([HumanMessage("x"), other, HumanMessage("y")]) == expected
    for unknown in (AIMessage("Hello"), AIMessage("Hello", id="a"), AIMessage("Hello", id="")):
        assert llm.prompt_ids([HumanMessage("x"), unknown, HumanMessage("y")]) == plain
    # The text of another role, or of another tokenizer, has nothing to do with the ids.
    as_user = [HumanMessage("Hello", id=reply.id), HumanMessage("y")]
    assert llm.prompt_ids(as_user) == llm.prompt_ids([HumanMessage("Hello"), HumanMessage("y")])


def test_ids_of_one_tokenizer_are_not_used_with_another():
    one, other = (ChatInternVL(model=checkpoint_folder(name)) for name in ("qwen2", "internlm2"))
    ids = spelled(one, "Hello")
    reply = one.model_copy(update={"backend": speaker("Hello", ids)}).invoke("x")
    messages = [HumanMessage("x"), reply, HumanMessage("y")]
    plain = [HumanMessage("x"), AIMessage("Hello"), HumanMessage("y")]
    assert one.prompt_ids(messages) != one.prompt_ids(plain)
    assert other.prompt_ids(messages) == other.prompt_ids(plain)


def test_white_space_that_was_stripped_is_in_the_ids():
    llm = ChatInternVL(model=MODEL)
    ids = tokenizer_of(llm).encode_text(" \n Hello \n")
    said = llm.model_copy(update={"backend": speaker("Hello", ids)})
    reply = said.invoke("x")
    assert reply.content == "Hello"
    begun = [*llm.prompt_ids("x"), *ids]
    assert extends(llm.prompt_ids([HumanMessage("x"), reply, HumanMessage("y")]), begun)


def test_thoughts_stay_out_of_later_prompts():
    llm = ChatInternVL(model=checkpoint_folder("qwen2"))
    ids = tokenizer_of(llm).encode_text("<think>Hm.</think>Hello")
    reply = llm.model_copy(update={"backend": speaker("<think>Hm.</think>Hello", ids)}).invoke("x")
    assert reply.content == "Hello"
    text = llm.render([HumanMessage("x"), reply, HumanMessage("y")])
    assert "Hm." not in text
    plain = [HumanMessage("x"), AIMessage("Hello"), HumanMessage("y")]
    assert llm.prompt_ids([HumanMessage("x"), reply, HumanMessage("y")]) == llm.prompt_ids(plain)


def test_the_store_is_bounded(monkeypatch):
    monkeypatch.setattr(reply_ids, "MOST_REPLIES", 3)
    monkeypatch.setattr(reply_ids, "MOST_TOKENS", 20)
    llm = ChatInternVL(model=MODEL)
    ids = spelled(llm, "Hello")
    replies = reply_ids.ReplyIds(tokenizer_of(llm))
    for number in range(5):
        replies.keep(str(number), ids)
    found = [replies.find(str(number), "Hello") is not None for number in range(5)]
    assert found == [False, False, True, True, True]
    replies.keep("long", ids * 3)  # 15 of 20 tokens
    assert [replies.find(one, "Hello") is not None for one in ("2", "3", "4")] == [
        False, False, True,
    ]  # fmt: skip
    assert replies.find("long", "Hello" * 3).ids == tuple(ids * 3)
    replies.keep("long", ids)
    assert replies.find("long", "Hello").ids == tuple(ids)
    assert replies_of(tokenizer_of(llm)) is replies_of(tokenizer_of(llm))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore")
def test_a_forked_process_waits_for_no_lock_of_a_lost_thread():
    tokenizer = tokenizer_of(ChatInternVL(model=MODEL))
    replies = replies_of(tokenizer)
    child = get_context("fork").Process(
        target=lambda: replies_of(tokenizer).find("id", "text"), daemon=True
    )
    with reply_ids._STORES._lock, replies._lock:  # held by no thread of the child
        child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0


@pytest.mark.parametrize("tools", [False, True])
def test_the_cache_covers_the_prompt_and_the_reply(tools, tmp_path):
    """Sampled tokens of a model with random weights are hardly ever those of a tokenizer."""
    llm = ChatInternVL(model=checkpoint_folder("qwen2"), dtype="float32", max_tokens=12)
    if tools:
        weather = {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}},
            "required": ["city"]}}  # fmt: skip
        asked = llm.bind_tools([weather], tool_choice="any", max_tokens=60)
    else:
        asked = llm
    messages = [SystemMessage("Be terse."), *ask(image_block(IMAGE, max_tiles=1), "What?")]
    begun, covered = None, 0
    try:
        for turn in range(6):
            reply = asked.invoke(messages, temperature=1.0, seed=turn, logprobs=True)
            usage = reply.usage_metadata
            if begun is not None:
                # All but the last token, whose keys and values nothing has needed yet.
                assert usage["input_token_details"]["cache_read"] >= begun - 1
                covered += 1
            # Random weights write control tokens, too, which a message does not show.
            *tokens, _ = reply.response_metadata["logprobs"]["content"]
            is_hidden = any(not token["bytes"] for token in tokens)
            begun = None if is_hidden else usage["input_tokens"] + usage["output_tokens"]
            messages = [*messages, reply, *_answers(reply), HumanMessage(f"And {turn}?")]
    finally:
        llm.close()
    assert covered


def _answers(reply):
    return [
        {"role": "tool", "content": "rain", "tool_call_id": call["id"]} for call in reply.tool_calls
    ]


def test_greedy_replies_are_those_of_a_cold_run():
    """A recorded conversation and one without known ids, where the ids are the tokenizer's."""
    llm = ChatInternVL(model=checkpoint_folder("qwen2"), dtype="float32", temperature=0,
                       max_tokens=8)  # fmt: skip
    first = ask("What is this?")
    reply = llm.invoke(first)
    later = llm.invoke([*first, reply, HumanMessage("Why?")])
    backend = RecordingBackend(llm._backend(llm._renderer(llm)))
    cold = llm.model_copy(update={"backend": backend})
    llm.clear_caches()
    assert cold.invoke([*first, reply, HumanMessage("Why?")]).content == later.content
    llm.close()
