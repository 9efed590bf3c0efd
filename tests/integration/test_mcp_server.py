"""The tools over the Model Context Protocol, asked by its own client in another process."""

import json
import signal
import subprocess
import sys

import pytest
from golden import PHOTOS, checkpoint_folder
from mcp import ClientSession, StdioServerParameters, stdio_client
from patience import PATIENCE

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

STARTS_A_PROGRAM = """
import subprocess, sys
from langchain_core.tools import tool
from langchain_internvl.tools.mcp_server import serve

@tool
def start() -> str:
    "Starts a program that says what its standard input is."
    program = "import os; print(os.path.samestat(os.fstat(0), os.stat(os.devnull)))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout

serve([start])
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


@pytest.fixture
def server():
    """A server that has answered, and waits for the next message of its client."""
    interrupts = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = subprocess.Popen(
        [sys.executable, "-c", f"{interrupts}\n{STARTS_A_PROGRAM}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client}
    with program:
        _send(program, id=0, method="initialize", params=params)
        assert json.loads(program.stdout.readline())["result"]["serverInfo"]
        _send(program, method="notifications/initialized")
        yield program
        program.kill()


def _send(program, **message):
    program.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    program.stdin.flush()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT")
def test_an_interrupted_server_does_not_wait_for_its_client(server):
    server.send_signal(signal.SIGINT)
    assert server.wait(PATIENCE) != 0
    assert server.stderr.read().rstrip().endswith(b"KeyboardInterrupt")


def test_a_server_ends_with_its_client(server):
    server.stdin.close()
    assert server.wait(PATIENCE) == 0


def test_a_client_that_reads_no_more_is_a_broken_pipe(server):
    """Not a group of errors; mcp 1.x leaves it out."""
    server.stdout.close()
    _send(server, id=1, method="tools/list")
    if server.wait(PATIENCE):
        assert b"BrokenPipeError" in server.stderr.read().splitlines()[-1]


def test_a_program_that_a_tool_starts_reads_no_message_of_the_client(server):
    """It would take one, or wait for it."""
    _send(server, id=1, method="tools/call", params={"name": "start", "arguments": {}})
    answer = json.loads(server.stdout.readline())
    assert answer["result"]["content"] == [{"type": "text", "text": "True\n"}]


def test_a_server_ends_if_its_input_cannot_be_read(tmp_path):
    with (tmp_path / "written").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", STARTS_A_PROGRAM],
            stdin=file, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith(b"OSError: [Errno ")


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
