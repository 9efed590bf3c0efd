"""The vision tools as a server of the Model Context Protocol (MCP).

Messages use the protocol's own field names (`inputSchema`, `isError`), which the types of mcp 1.x
and 2.x both parse; only the registration of handlers differs between the two.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from langchain_internvl._optional import require
from langchain_internvl._version import __version__

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

_NAME = "langchain-internvl"
_INSTRUCTIONS = "Tools that look at images, PDFs and videos."


def takes_handlers_as_arguments() -> bool:
    """Whether `Server` takes its handlers as arguments, as mcp 2.0 does.

    In 1.x they are entries of `Server.request_handlers`, by the type of the request, and the types
    are in `mcp.types`, not `mcp_types`.
    """
    return int(version("mcp").split(".", maxsplit=1)[0]) >= 2


def make_server(tools: Sequence[BaseTool]) -> Server[Any]:
    """An MCP server of tools, which returns their text, images and artifacts.

    Args:
        tools: The tools, from `InternVLToolkit.get_tools()`.

    Raises:
        ImportError: The extra `mcp` is not installed.
    """
    require("mcp", extra="mcp")
    from mcp.server.lowlevel import Server

    make: Any = Server
    by_name = {tool.name: tool for tool in tools}
    is_new = takes_handlers_as_arguments()
    types: Any = importlib.import_module("mcp_types" if is_new else "mcp.types")
    listed = types.ListToolsResult.model_validate({"tools": [_description(one) for one in tools]})
    about = {"version": __version__, "instructions": _INSTRUCTIONS}

    async def call(name: str, arguments: Mapping[str, Any] | None) -> Any:
        return types.CallToolResult.model_validate(await _call(by_name, name, arguments or {}))

    if is_new:

        async def list_tools(_: Any, __: Any) -> Any:
            return listed

        async def call_tool(_: Any, asked: Any) -> Any:
            return await call(asked.name, asked.arguments)

        made: Server[Any] = make(_NAME, on_list_tools=list_tools, on_call_tool=call_tool, **about)
        return made

    async def answer_list(_: Any) -> Any:
        return types.ServerResult(listed)

    async def answer_call(request: Any) -> Any:
        return types.ServerResult(await call(request.params.name, request.params.arguments))

    server = make(_NAME, **about)
    server.request_handlers[types.ListToolsRequest] = answer_list
    server.request_handlers[types.CallToolRequest] = answer_call
    older: Server[Any] = server
    return older


def _description(tool: BaseTool) -> dict[str, Any]:
    schema: Any = tool.tool_call_schema
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": schema.model_json_schema(),
        "annotations": {"readOnlyHint": True},
    }


async def _call(
    tools: Mapping[str, BaseTool], name: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The result of a tool call in the protocol's format."""
    tool = tools.get(name)
    if tool is None:
        text = f"There is no tool {name!r}; there are {', '.join(tools)}."
        return {"content": [{"type": "text", "text": text}], "isError": True}
    call = {"type": "tool_call", "id": "1", "name": tool.name, "args": dict(arguments)}
    message = await tool.ainvoke(call)
    content: list[dict[str, Any]] = []
    for block in message.content_blocks:
        if block["type"] == "image":
            image = {"data": block["base64"], "mimeType": block["mime_type"]}
            content.append({"type": "image", **image})
        elif block["type"] == "text":
            content.append({"type": "text", "text": block["text"]})
    result: dict[str, Any] = {"content": content, "isError": message.status == "error"}
    if message.artifact is not None:
        result["structuredContent"] = message.artifact.model_dump(mode="json")
    return result


def serve(tools: Sequence[BaseTool]) -> None:
    """Serve tools on standard input and output until the client disconnects.

    Raises:
        BrokenPipeError: The client reads no more.
        OSError: Standard input cannot be read.
        KeyboardInterrupt: The server was interrupted.
    """
    server = make_server(tools)
    from mcp.server.stdio import stdio_server

    async def run() -> None:
        with _standard_input() as descriptor:
            lines: Any = _Lines(descriptor)
            async with stdio_server(stdin=lines) as (read, write):
                await server.run(read, write, server.create_initialization_options())

    try:
        asyncio.run(run())
    except Exception as error:  # noqa: BLE001 - raised again
        raise _single(error) from None


@contextmanager
def _standard_input() -> Iterator[int]:
    """A descriptor of standard input, in whose place there is nothing to read meanwhile.

    Programs that a tool starts would take messages of the client; on Windows they, and libraries
    that look at standard input when they are loaded, would wait for its next message.
    """
    own = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        yield own
    finally:
        os.dup2(own, 0)  # it stays open: a thread may be reading it


class _Lines:
    """The lines of a file, as an asynchronous iterator in place of anyio's file.

    anyio reads a file in threads and waits for them, also when it is cancelled: a server that is
    interrupted would wait for the next message of its client.

    Args:
        descriptor: Descriptor of the file, of which `sys.stdin` has another: Python ends with a
            fatal error if it cannot lock that, and a read locks it.
    """

    def __init__(self, descriptor: int) -> None:
        self._lines: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        # A daemon, since nothing ends a read.
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        file = os.fdopen(descriptor, "rb", closefd=False)
        with suppress(RuntimeError):  # the loop has ended
            try:
                for line in file:
                    self._put(line)
            except OSError as error:
                self._put(error)
            else:
                self._put(b"")

    def _put(self, line: bytes | OSError) -> None:
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        line = await self._lines.get()
        if isinstance(line, OSError):
            raise line
        if not line:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")


def _single(error: Exception) -> Exception:
    """The only error of a group, as task groups raise it, of any depth; else the error itself."""
    inner: Sequence[Exception] = getattr(error, "exceptions", ())
    return _single(inner[0]) if len(inner) == 1 else error
