"""Replies of gpt-oss through the chat model: its tokens, its channels, where it stops."""

import json

import pytest
from checkpoints import original_config
from golden import checkpoint_folder
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from support import FixedBackend
from transformers import AutoTokenizer, PreTrainedConfig

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.token_reply import TokenReply
from langchain_internvl.prompting.segments import Markup, Prompt
from langchain_internvl.prompting.tokenization import load_tokenizer

MARKS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
REPLY = (
    "<|channel|>analysis<|message|>Hm, grey.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>A cat.<|return|>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("gpt-oss")
    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint_folder("qwen2"), config=PreTrainedConfig(), local_files_only=True
    )
    tokenizer.add_special_tokens({"extra_special_tokens": MARKS})
    tokenizer.save_pretrained(made)
    config = original_config("gpt_oss", template="internvl3_5_gpt_oss")
    config["llm_config"] |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    (made / "config.json").write_text(json.dumps(config), "utf-8")
    return made


class TokenBackend(FixedBackend):
    """Says a text, marks and all, as tokens, up to where the request stops."""

    def __init__(self, folder, text):
        super().__init__()
        self.tokenizer = load_tokenizer(folder)
        self.ids = self.tokenizer.encode(Prompt((Markup(text),), ()), [])
        self.requests = []

    def stream(self, request):
        self.requests.append(request)
        reply = TokenReply(request, self.tokenizer.token_bytes, request.stop_ids)
        yield from reply.push(self.ids)


def chat(folder, text=REPLY, **settings):
    backend = TokenBackend(folder, text)
    return ChatInternVL(model=str(folder), backend=backend, **settings), backend


def test_channels_become_reasoning_and_text(folder):
    llm, backend = chat(folder)
    reply = llm.invoke("x")
    assert reply.content_blocks == [
        {"type": "reasoning", "reasoning": "Hm, grey."},
        {"type": "text", "text": "A cat."},
    ]
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.usage_metadata["output_tokens"] == len(backend.ids)
    assert 0 < reply.usage_metadata["output_token_details"]["reasoning"] < len(backend.ids)
    chunks = list(llm.stream("x"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.content_blocks == reply.content_blocks
    (stop_id,) = backend.requests[0].stop_ids
    assert stop_id == load_tokenizer(folder).stop_id("<|return|>")


def test_thoughts_and_marks_stay_out_of_later_turns(folder):
    llm, _ = chat(folder)
    reply = llm.invoke("x")
    plain = llm.render([HumanMessage("x"), AIMessage("A cat."), HumanMessage("y")])
    assert plain.endswith(
        "<|start|>user<|message|>x<|end|>"
        "<|start|>assistant<|channel|>final<|message|>A cat.<|end|>"
        "<|start|>user<|message|>y<|end|><|start|>assistant"
    )
    raw = AIMessage(REPLY.removesuffix("<|return|>"))  # as the original's history has it
    for said in (reply, raw):
        assert llm.render([HumanMessage("x"), said, HumanMessage("y")]) == plain


def test_no_thoughts_where_they_are_forbidden_or_a_grammar_rules(folder):
    final = "<|start|>assistant<|channel|>final<|message|>"
    llm, backend = chat(folder, "A cat.<|return|>", reasoning=False)
    assert llm.render("x").endswith(final)
    assert llm.invoke("x").content_blocks == [{"type": "text", "text": "A cat."}]

    schema = {"title": "T", "type": "object", "properties": {"a": {"type": "integer"}}}
    llm, backend = chat(folder, '{"a":1}<|return|>')
    assert llm.with_structured_output(schema).invoke("x") == {"a": 1}
    tokenizer = load_tokenizer(folder)
    opening = tokenizer.encode(Prompt((Markup(final),), ()), [])
    assert list(backend.requests[-1].prompt_ids[-len(opening) :]) == opening


def test_tools_are_called_as_elsewhere(folder):
    def look(where: str) -> str:
        """Look somewhere."""
        return where

    call = '<tool_call>\n{"name": "look", "arguments": {"where":"up"}}\n</tool_call><|return|>'
    llm, _ = chat(folder, call)
    (made,) = llm.bind_tools([look]).invoke("x").tool_calls
    assert (made["name"], made["args"]) == ("look", {"where": "up"})


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_reasoning_effort_is_set_in_the_system_message(level, folder):
    """In harmony's form, with the channel of thoughts among the valid ones."""
    llm, _ = chat(folder, reasoning=level)
    assert llm.render("x") == (
        "<|start|>system<|message|>You are InternVL, a large language model trained by Shanghai AI "
        "Laboratory.\nKnowledge cutoff: 2024-06\nCurrent date: 2025-08-06\n\n"
        f"Reasoning: {level}\n\n# Valid channels: analysis, commentary, final. Channel must be "
        "included for every message.<|end|><|start|>user<|message|>x<|end|><|start|>assistant"
    )
    own = llm.render([SystemMessage("Be brief."), HumanMessage("x")])
    assert f"Reasoning: {level}\n" in own
    assert "every message.\n\nBe brief.<|end|>" in own
    assert llm.invoke("x").content_blocks[0] == {"type": "reasoning", "reasoning": "Hm, grey."}
    assert llm.profile["reasoning_effort_levels"] == ["low", "medium", "high"]


def test_without_an_effort_the_templates_own_system_text_stays(folder):
    llm, _ = chat(folder)
    assert "Reasoning: low\n\n# Valid channels: final." in llm.render("x")
    assert "reasoning_effort_levels" not in ChatInternVL(model="nano").profile
