"""`reasoning=` on its way to prompts, grammars and servers."""

import json

import pytest
from checkpoints import original_config, random_model, to_original, write_original
from fault_server import FaultServer, lines, words
from golden import checkpoint_folder
from pydantic import ValidationError
from support import FixedBackend

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta
from langchain_internvl.errors import RequestError

NO_THOUGHT = "<think>\n</think>\n"


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """A checkpoint as InternVL3.5 has them, with random weights."""
    config = original_config("qwen3")
    tensors = to_original(random_model(config).state_dict())
    return write_original(tmp_path_factory.mktemp("qwen3"), config, tensors)


def chat(folder, **settings):
    return ChatInternVL(model=str(folder), **settings)


@pytest.mark.parametrize("reasoning", ["auto", True])
def test_only_false_begins_the_reply(thinking, reasoning):
    llm = chat(thinking, reasoning=reasoning)
    assert llm.render("x").endswith("<|im_start|>assistant\n")
    off = chat(thinking, reasoning=False)
    assert off.render("x") == chat(thinking).render("x") + NO_THOUGHT
    assert llm.render("x", reasoning=False).endswith("assistant\n" + NO_THOUGHT)
    assert len(off.prompt_ids("x")) > len(off.prompt_ids("x", reasoning="auto"))
    assert off.get_num_tokens_from_messages([("human", "x")]) == len(off.prompt_ids("x"))


def test_the_thought_is_not_part_of_earlier_turns(thinking):
    llm = chat(thinking, reasoning=False)
    text = llm.render([("human", "x"), ("ai", "Yes."), ("human", "y")])
    assert text.count("<think>") == 1
    assert "<|im_start|>assistant\nYes.<|im_end|>" in text


@pytest.mark.parametrize("name", ["internlm2", "phi3", "llama", "qwen2"])
def test_models_that_never_think_unasked_need_nothing(name):
    llm = chat(checkpoint_folder(name))
    assert llm.render("x", reasoning=False) == llm.render("x")


def test_records_and_tool_calls_begin_after_the_empty_thought(thinking):
    """The grammar has no place for thoughts, and the reply none."""
    schema = {"type": "object", "properties": {"old": {"type": "boolean"}}, "required": ["old"],
              "additionalProperties": False}  # fmt: skip
    llm = chat(thinking, reasoning=False, temperature=0)
    form = {"type": "json_schema", "json_schema": {"name": "Cat", "schema": schema}}
    reply = llm.invoke("x", response_format=form)
    assert json.loads(reply.content)["old"] in {True, False}
    assert "reasoning_content" not in reply.additional_kwargs
    called = llm.bind_tools([{"title": "cat", **schema}], tool_choice="any").invoke("x")
    assert [call["name"] for call in called.tool_calls] == ["cat"]
    assert called.tool_calls[0]["args"]["old"] in {True, False}
    llm.close()


def test_choices_go_along_with_false_and_auto(thinking):
    llm = chat(thinking, temperature=0)
    for reasoning in (False, "auto"):
        assert llm.invoke("x", choices=["a", "b"], reasoning=reasoning).content in {"a", "b"}
    with pytest.raises(RequestError, match="no room for thoughts"):
        llm.invoke("x", choices=["a", "b"], reasoning=True)
    llm.close()


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_levels_are_for_models_that_have_them(thinking, level):
    with pytest.raises(RequestError, match=f"reasoning='{level}'.* no levels .*True, False"):
        chat(thinking).invoke("x", reasoning=level)


@pytest.mark.parametrize("value", ["none", 2, None, "HIGH"])
def test_other_values_are_refused(value):
    with pytest.raises(ValidationError):
        ChatInternVL(model="nano", reasoning=value)


def test_it_is_part_of_the_cache_key_and_the_profile():
    def key(**settings):
        return ChatInternVL(model="nano", **settings)._get_llm_string()

    assert len({key(), key(reasoning=True), key(reasoning=False)}) == 3
    assert ChatInternVL(model="nano", reasoning=True).profile["reasoning_output"]
    for reasoning in ("auto", False):
        assert not ChatInternVL(model="nano", reasoning=reasoning).profile["reasoning_output"]
    server = ChatInternVL(model="x", base_url="http://127.0.0.1:9/v1", reasoning="low")
    assert server.profile["reasoning_output"]
    assert server.profile["reasoning_effort_levels"] == ["low", "medium", "high"]


@pytest.mark.parametrize(
    ("reasoning", "sent"),
    [
        ("auto", {}),
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("low", {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}),
    ],
)
def test_what_a_server_is_sent(reasoning, sent):
    server = FaultServer(lines(*words("Hi")), models=({"id": "vl", "owned_by": "vllm"},))
    with server.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, max_retries=0, reasoning=reasoning)
        llm.invoke("x")
        llm.close()
    body = server.asked[-1]
    names = ("chat_template_kwargs", "reasoning_effort")
    assert {name: body[name] for name in names if name in body} == sent


def test_a_reply_that_thinks_nevertheless_is_still_split():
    llm = ChatInternVL(
        model=str(checkpoint_folder("qwen2")), reasoning=False,
        backend=FixedBackend(Delta(1, "<think>Hm</think>"), Delta(2, "Yes.", "stop")),
    )  # fmt: skip
    reply = llm.invoke("x")
    assert reply.content == "Yes."
    assert reply.additional_kwargs["reasoning_content"] == "Hm"
