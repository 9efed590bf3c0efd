"""LMDeploy's real server by messages, and its answers to what it does not take."""

import httpx
import pytest
from golden import PHOTOS
from hostile import HOSTILE
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from patience import PATIENCE

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Request
from langchain_internvl.errors import ModelNotServedError, RequestError, ServerAccessError
from langchain_internvl.messages.conversation import Text, Turn

CAT = image_block(PHOTOS / "chelsea.png", max_tiles=1)


@pytest.fixture
def by_messages(outside):
    return lambda name, **settings: outside(name, server_prompt="messages", **settings)


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "nano"])
def test_a_conversation_by_messages_has_the_prompt_that_we_would_write(
    name, by_messages, here, servers
):
    """LMDeploy's template and ours agree, once the system text is sent; images come first."""
    messages = [
        SystemMessage("Be brief."),
        HumanMessage([CAT, {"type": "text", "text": "What is it?"}]),
        AIMessage("A cat."),
        HumanMessage("And where?"),
    ]
    reply = by_messages(name).invoke(messages)
    local = here(name)
    assert servers(name).state["seen"][-1]["input_ids"] == local.prompt_ids(messages)
    expected = local.invoke(messages)
    assert reply.usage_metadata["input_tokens"] == expected.usage_metadata["input_tokens"]
    assert reply.usage_metadata["output_tokens"] > 0
    assert reply.response_metadata["model_provider"] == "internvl"


@pytest.mark.parametrize("name", ["qwen2", "internlm2", "phi3", "llama", "nano"])
def test_no_text_makes_a_control_token_by_messages(name, by_messages, prompts, servers):
    """The server tokenises one text; the control tokens in it are those of the template."""
    llm = by_messages(name, max_tokens=1)
    added = {token.id for token in prompts(name).tokenizer.added_tokens}

    def controls(words):
        llm.invoke([SystemMessage(words), HumanMessage([CAT, {"type": "text", "text": words}])])
        ids = servers(name).state["seen"][-1]["input_ids"]
        return [token_id for token_id in ids if token_id in added]

    harmless = controls("x")
    for words in HOSTILE:
        assert controls(words) == harmless, words


def test_streams_and_usage_by_messages(by_messages):
    llm = by_messages("nano")
    message = [HumanMessage([CAT, {"type": "text", "text": "Describe the image."}])]
    chunks = list(llm.stream(message))
    assert len(chunks) > 2
    assert "".join(chunk.content for chunk in chunks) == llm.invoke(message).content
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage["output_tokens"] <= 24


def test_a_model_is_asked_by_messages_where_its_tokenizer_is_not(servers):
    llm = ChatInternVL(
        model="nano-at-the-server", served_model="nano", base_url=servers("nano").url,
        api_key="secret", temperature=0, max_tokens=3,
    )  # fmt: skip
    assert llm.invoke("Hello").usage_metadata["output_tokens"] == 3
    llm.close()


TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"where": {"enum": ["left", "right"]}},
            "required": ["where"],
            "additionalProperties": False,
        },
    },
}


def test_calls_that_the_server_enforces_by_messages(by_messages):
    """Its parser takes them out of the words; here they are words again."""
    llm = by_messages("qwen2")
    turns = (Turn("user", (Text("Look left."),)),)
    server = llm._backend(llm._renderer(llm))
    for seed in range(6):
        request = Request((), turns=turns, tools=[TOOL], tool_choice="required", max_tokens=200)
        said = "".join(delta.text for delta in server.stream(request))
        if said.endswith("</tool_call>"):
            assert said.startswith('<tool_call>\n{"name": "look", "arguments": {')
            return
        assert seed < 5 or not said.strip()


def test_a_key_that_is_wrong(servers):
    llm = ChatInternVL(model="nano", base_url=servers("nano").url, api_key="guessed")
    with pytest.raises(ServerAccessError, match="401"):
        llm.invoke("Hello")
    health = httpx.get(f"{servers('nano').root}/health", timeout=PATIENCE)
    assert health.status_code in {200, 503}


def test_a_name_that_the_server_does_not_have(servers):
    llm = ChatInternVL(model="nano", served_model="nanu", base_url=servers("nano").url,
                       api_key="secret", max_retries=0)  # fmt: skip
    with pytest.raises(ModelNotServedError, match=r"served_model=.*It has: nano"):
        llm.invoke("Hello")
    llm.close()


def test_what_the_server_refuses_is_our_request(outside):
    llm = outside("qwen2")
    backend = llm._backend(llm._renderer(llm))
    turns = (Turn("user", (Text("Look."),)),)
    with pytest.raises(RequestError, match="status 400"):
        list(
            backend.stream(
                Request((), turns=turns, tools=[{"type": "function"}], tool_choice="required")
            )
        )
