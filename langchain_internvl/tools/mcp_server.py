"""The vision tools as a server of the Model Context Protocol, for agents of any make."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from langchain_internvl._optional import require
from langchain_internvl._version import __version__

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server


def make_server(tools: Sequence[BaseTool]) -> Server[Any]:
    """A server of tools, which sends their text, pictures and artifacts.

    Args:
        tools: The tools, as `InternVLToolkit.get_tools()` makes them.

    Raises:
        ImportError: The extra `mcp` is not installed.
    """
    require("mcp", extra="mcp")
    import mcp_types as types
    from mcp.server.lowlevel import Server

    by_name = {tool.name: tool for tool in tools}
    listed = [
        types.Tool(
            name=tool.name,
            description=tool.description,
            input_schema=_schema(tool),
            annotations=types.ToolAnnotations(read_only_hint=True),
        )
        for tool in tools
    ]

    async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        tool = by_name.get(asked.name)
        if tool is None:
            text = f"There is no tool {asked.name!r}; there are {', '.join(by_name)}."
            return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
        call = {"type": "tool_call", "id": "1", "name": tool.name, "args": asked.arguments or {}}
        message = await tool.ainvoke(call)
        content: list[Any] = []
        for block in message.content_blocks:
            if block["type"] == "image":
                data, mime_type = block["base64"], block["mime_type"]
                content.append(types.ImageContent(data=data, mime_type=mime_type))
            elif block["type"] == "text":
                content.append(types.TextContent(text=block["text"]))
        artifact = message.artifact
        return types.CallToolResult(
            content=content,
            structured_content=None if artifact is None else artifact.model_dump(mode="json"),
            is_error=message.status == "error",
        )

    return Server(
        "langchain-internvl",
        version=__version__,
        instructions="Tools that look at pictures and videos.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _schema(tool: BaseTool) -> dict[str, Any]:
    schema: Any = tool.tool_call_schema
    described: dict[str, Any] = schema.model_json_schema()
    return described


def serve(tools: Sequence[BaseTool]) -> None:
    """Serve tools on standard input and output until the client leaves."""
    server = make_server(tools)
    from mcp.server.stdio import stdio_server

    async def run() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(run())
