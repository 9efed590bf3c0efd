"""The tools over the Model Context Protocol, asked by its own client in another process."""

import sys

import pytest
from golden import PHOTOS, checkpoint_folder
from mcp import ClientSession, StdioServerParameters, stdio_client

from langchain_internvl.tools.ground import Place

PROGRAM = """
import sys
from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.tools.mcp_server import serve

model, root = sys.argv[1:]
backend = ScriptedBackend(lambda request: "<ref>cat</ref><box>[[1, 2, 300, 400]]</box>")
toolkit = InternVLToolkit(
    llm=ChatInternVL(model=model, backend=backend),
    media_policy=MediaPolicy(roots=[root]),
    return_images=True,
)
serve(toolkit.get_tools())
"""


def as_sent(answer):
    """An answer as the protocol spells it: mcp 1.x and 2.x name the fields differently."""
    return answer.model_dump(by_alias=True, mode="json")


@pytest.mark.enable_socket
async def test_tools_over_stdio():
    program = ["-c", PROGRAM, str(checkpoint_folder("qwen2")), str(PHOTOS)]
    server = StdioServerParameters(command=sys.executable, args=program)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"describe_image", "read_text", "ground", "ask_video"}
        ground = as_sent(tools["ground"])
        assert set(ground["inputSchema"]["properties"]) == {"image", "phrase", "region"}
        assert ground["annotations"]["readOnlyHint"] is True

        asked = {"image": "chelsea.png", "phrase": "cat"}
        found = as_sent(await session.call_tool("ground", asked))
        text, picture = found["content"]
        assert not found["isError"]
        assert text["text"].startswith("cat: region 1, 2, 300, 400")
        assert (picture["type"], picture["mimeType"]) == ("image", "image/png")
        assert found["structuredContent"]["boxes"][0]["pixels"] == [0, 1, 135, 120]

        refused = as_sent(await session.call_tool("read_text", {"image": "/etc/passwd"}))
        assert refused["isError"]
        assert "only files in" in refused["content"][0]["text"]
        wrong = as_sent(await session.call_tool("ground", {"image": "chelsea.png"}))
        assert wrong["isError"]
        unknown = as_sent(await session.call_tool("paint", {}))
        assert unknown["isError"]
        assert "There is no tool 'paint'" in unknown["content"][0]["text"]


@pytest.mark.enable_socket
async def test_langchains_adapters_get_the_tools_back():
    """A round trip: our tools, over MCP, as tools of LangChain again (with mcp 1.x only)."""
    clients = pytest.importorskip("langchain_mcp_adapters.client")
    arguments = ["-c", PROGRAM, str(checkpoint_folder("qwen2")), str(PHOTOS)]
    server = {"command": sys.executable, "args": arguments, "transport": "stdio"}
    tools = {
        tool.name: tool for tool in await clients.MultiServerMCPClient({"eyes": server}).get_tools()
    }
    assert set(tools) == {"describe_image", "read_text", "ground", "ask_video"}
    call = {"type": "tool_call", "id": "1", "name": "ground"}
    message = await tools["ground"].ainvoke(
        {**call, "args": {"image": "chelsea.png", "phrase": "cat"}}
    )
    assert message.text.startswith("cat: region 1, 2, 300, 400")
    assert [block["type"] for block in message.content_blocks] == ["text", "image"]
    place = Place.model_validate(message.artifact["structured_content"])
    assert place.boxes[0].thousandths == (1, 2, 300, 400)
