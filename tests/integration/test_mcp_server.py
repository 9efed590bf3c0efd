"""The tools over the Model Context Protocol, asked by its own client in another process."""

import sys

import pytest
from golden import PHOTOS, checkpoint_folder
from mcp import ClientSession, StdioServerParameters, stdio_client

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


@pytest.mark.enable_socket
async def test_tools_over_stdio():
    program = ["-c", PROGRAM, str(checkpoint_folder("qwen2")), str(PHOTOS)]
    server = StdioServerParameters(command=sys.executable, args=program)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"describe_image", "read_text", "ground", "ask_video"}
        assert set(tools["ground"].input_schema["properties"]) == {"image", "phrase", "region"}

        found = await session.call_tool("ground", {"image": "chelsea.png", "phrase": "cat"})
        text, picture = found.content
        assert not found.is_error
        assert text.text.startswith("cat: region 1, 2, 300, 400")
        assert (picture.type, picture.mime_type) == ("image", "image/png")
        assert found.structured_content["boxes"][0]["pixels"] == [0, 1, 135, 120]

        refused = await session.call_tool("read_text", {"image": "/etc/passwd"})
        assert refused.is_error
        assert "only files in" in refused.content[0].text
        wrong = await session.call_tool("ground", {"image": "chelsea.png"})
        assert wrong.is_error
        unknown = await session.call_tool("paint", {})
        assert unknown.is_error
        assert "There is no tool 'paint'" in unknown.content[0].text
