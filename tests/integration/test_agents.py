"""The tools in the hands of LangChain's own agent."""

from golden import PHOTOS, checkpoint_folder
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from support_agents import Driver

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy, image_block
from langchain_internvl.backends.scripted import ScriptedBackend


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
