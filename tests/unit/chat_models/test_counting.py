"""Prompts and their lengths, without a reply."""

import pytest
from chat_support import IMAGE, ask
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.prompts import ChatPromptTemplate

from langchain_internvl import image_block


def test_counting_reads_sizes_only_and_equals_the_prompt(llm, backend, monkeypatch):
    messages = [SystemMessage("Be terse."), *ask("What?", image_block(IMAGE))]
    llm.invoke(messages)
    monkeypatch.setattr(
        "langchain_internvl.requests.prompt_request.use_rgb",
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
