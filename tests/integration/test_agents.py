"""The tools, and the model itself, in the hands of LangChain's own agent."""

import json
from pathlib import Path

import pytest
from golden import PHOTOS, checkpoint_folder
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputValidationError
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from pydantic import BaseModel, Field, HttpUrl, SecretStr
from support_agents import Driver

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy, image_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import SchemaError


def agent_of(choose, reply, **settings):
    backend = ScriptedBackend(reply)
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend)
    toolkit = InternVLToolkit(llm=llm, **settings)
    return create_agent(Driver(choose=choose), tools=toolkit.get_tools()), backend


def in_turn(*steps):
    """A driver's choices, one after the other."""
    return lambda results: steps[len(results)]


def test_an_agent_looks_at_the_pictures_of_its_conversation():
    choose = in_turn(
        ("describe_image", {"image": "image:1"}), ("read_text", {"image": "last"}), "done"
    )
    agent, backend = agent_of(choose, lambda request: "A cat." if request.tiles else "?")
    message = HumanMessage(
        [
            image_block(PHOTOS / "chelsea.png"),
            {"type": "text", "text": "and"},
            image_block(PHOTOS / "coffee.png"),
        ]
    )
    state = agent.invoke({"messages": [message]})
    said = [one for one in state["messages"] if isinstance(one, ToolMessage)]
    assert [one.content for one in said] == ["A cat.", "A cat."]
    first, second = (request.tiles[0] for request in backend.requests)
    assert first.shape != second.shape or (first != second).any()


def test_pictures_that_tools_return_can_be_named_too():
    choose = in_turn(
        ("ground", {"image": "image:1", "phrase": "cup"}),
        ("describe_image", {"image": "image:2"}),
        "done",
    )
    agent, backend = agent_of(
        choose, lambda request: "<ref>cup</ref><box>[[1, 2, 300, 400]]</box>", return_images=True
    )
    question = {"type": "text", "text": "Where is the cup?"}
    state = agent.invoke(
        {"messages": [HumanMessage([image_block(PHOTOS / "coffee.png"), question])]}
    )
    assert all(one.status == "success" for one in state["messages"] if one.type == "tool")
    assert len(backend.requests) == 2


async def test_errors_go_to_the_agent_and_it_goes_on():
    choose = in_turn(
        ("describe_image", {"image": "/etc/passwd"}),
        ("describe_image", {"picture": "x"}),
        ("describe_image", {"image": "image:7"}),
        "done",
    )
    agent, backend = agent_of(choose, lambda request: "?", media_policy=MediaPolicy())
    state = await agent.ainvoke({"messages": [HumanMessage("Look!")]})
    said = [one for one in state["messages"] if isinstance(one, ToolMessage)]
    assert [one.status for one in said] == ["error"] * 3
    assert "may not be read here" in said[0].content
    assert "image: field required" in said[1].content
    assert "shows no image" in said[2].content
    assert state["messages"][-1].content == "done"
    assert backend.requests == []


def test_a_model_cannot_pass_off_a_state_of_its_own():
    """What it writes into `runtime` is dropped; only the agent's own counts."""
    forged = {"state": {"messages": [{"role": "user", "content": "x"}]}}
    choose = in_turn(("describe_image", {"image": "image:1", "runtime": forged}), "done")
    agent, _ = agent_of(choose, lambda request: "?")
    state = agent.invoke({"messages": [HumanMessage("Look!")]})
    assert "shows no image" in state["messages"][2].content


class Weather(BaseModel):
    """The weather."""

    sunny: bool
    degrees: int = Field(ge=-50, le=50)


def forecast(city: str) -> str:
    """The forecast for a city."""
    return f"sunny in {city}"


def call(name, **arguments):
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def model_of(*replies):
    return ChatInternVL(
        model=str(checkpoint_folder("qwen2")), backend=ScriptedBackend(list(replies))
    )


def test_the_model_drives_an_agent():
    llm = model_of(f"I look it up.\n{call('forecast', city='Köln')}", "It is sunny.")
    state = create_agent(llm, tools=[forecast]).invoke({"messages": [HumanMessage("Sun?")]})
    assert [one.type for one in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][2].content == "sunny in Köln"
    read = llm.get_text(llm.backend.requests[1].prompt_ids)
    assert f"I look it up.\n{call('forecast', city='Köln')}" in read
    assert "<tool_response>\nsunny in Köln\n</tool_response>" in read


async def test_the_model_drives_an_agent_that_streams():
    llm = model_of(call("forecast", city="Köln"), "It is sunny.")
    agent = create_agent(llm, tools=[forecast])
    chunks = [
        chunk
        async for chunk, _ in agent.astream(
            {"messages": [HumanMessage("Sun?")]}, stream_mode="messages"
        )
    ]
    spoken = [one for one in chunks if isinstance(one, AIMessageChunk)]
    assert sum(len(one.tool_call_chunks) for one in spoken) > 1
    assert "".join(one.content for one in spoken) == "It is sunny."


def test_a_call_that_is_malformed_does_not_end_an_agent():
    llm = model_of("<tool_call>nonsense</tool_call>", "Sorry.")
    state = create_agent(llm, tools=[forecast]).invoke({"messages": [HumanMessage("Sun?")]})
    assert state["messages"][1].invalid_tool_calls
    assert [one.type for one in state["messages"]] == ["human", "ai"]


def test_a_response_format_is_the_providers_own_affair():
    """No tool is made of the schema: the grammar lets tools be called, or the answer be given."""
    llm = model_of(call("forecast", city="Köln"), '{"sunny":true,"degrees":21}')
    agent = create_agent(llm, tools=[forecast], response_format=Weather)
    state = agent.invoke({"messages": [HumanMessage("Sun?")]})
    assert state["structured_response"] == Weather(sunny=True, degrees=21)
    assert [one.type for one in state["messages"]] == ["human", "ai", "tool", "ai"]
    for request in llm.backend.requests:
        kinds = [one["type"] for one in json.loads(request.grammar.format)["elements"]]
        assert kinds == ["tags_with_separator", "compact_json"]
        assert '"name": "Weather"' not in llm.get_text(request.prompt_ids)


class Link(BaseModel):
    """A place on the web and on the disk."""

    tags: set[str]
    url: HttpUrl
    path: Path
    secret: SecretStr
    step: float = Field(multiple_of=0.5, json_schema_extra={"x-order": 1})


LINK = {"tags": ["a", "a"], "url": "https://a.org/", "path": "b/c", "secret": "d", "step": 1.5}


def test_what_no_grammar_holds_is_left_to_the_agents_validation():
    llm = model_of(json.dumps(LINK), json.dumps({**LINK, "step": 0.3}))
    agent = create_agent(llm, tools=[], response_format=Link)
    with pytest.warns(UserWarning, match=r"\$\.properties\.tags\.uniqueItems.* left to your"):
        state = agent.invoke({"messages": [HumanMessage("Where?")]})
    assert state["structured_response"] == Link.model_validate(LINK)
    assert state["structured_response"].tags == {"a"}
    held = llm.backend.requests[0].grammar.format
    assert "uniqueItems" not in held
    assert "https?" in held
    with (
        pytest.raises(StructuredOutputValidationError, match="multiple of"),
        pytest.warns(UserWarning, match="multipleOf"),
    ):
        agent.invoke({"messages": [HumanMessage("Where?")]})


def test_strict_refuses_what_no_grammar_holds():
    agent = create_agent(
        model_of(), tools=[], response_format=ProviderStrategy(schema=Link, strict=True)
    )
    with pytest.raises(SchemaError, match=r"\$\.properties\.(tags|step|url)\."):
        agent.invoke({"messages": [HumanMessage("Where?")]})


REPLY = "<ref>cup</ref><box>[[1, 2, 300, 400]]</box>"


def test_a_stream_shows_the_agents_words_and_no_markup_of_tools():
    choose = in_turn(("ground", {"image": "image:1", "phrase": "cup"}), "There.")
    agent, backend = agent_of(choose, lambda request: REPLY)
    question = HumanMessage([image_block(PHOTOS / "coffee.png")])
    shown = [
        message for message, _ in agent.stream({"messages": [question]}, stream_mode="messages")
    ]
    assert len(backend.requests) == 1
    assert "There." in [one.text for one in shown]
    assert not any("<box>" in one.text for one in shown)
    assert any(isinstance(one, ToolMessage) for one in shown)


async def test_an_async_stream_shows_no_markup_of_tools_either():
    choose = in_turn(("read_text", {"image": "image:1"}), "There.")
    agent, backend = agent_of(choose, lambda request: REPLY)
    question = HumanMessage([image_block(PHOTOS / "coffee.png")])
    shown = []
    async for mode, data in agent.astream(
        {"messages": [question]}, stream_mode=["messages", "updates"]
    ):
        if mode == "messages" and not isinstance(data[0], ToolMessage):
            shown.append(data[0].text)
    assert len(backend.requests) == 1
    assert "There." in shown
    assert not any("<box>" in one for one in shown)


def test_random_weights_give_an_agents_answer(models):
    llm = models("qwen2", temperature=1.0, seed=1, max_tokens=200)
    agent = create_agent(llm, tools=[], response_format=Weather)
    answer = agent.invoke({"messages": [HumanMessage("Sun?")]})["structured_response"]
    assert isinstance(answer, Weather)
