"""The real LangSmith client and OpenTelemetry's SDK send sizes and counts, and no media or keys.

OpenTelemetry's part needs openinference-instrumentation-langchain and opentelemetry-sdk, which
`make packaging` installs.
"""

import base64
import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import langsmith
import numpy as np
import pytest
from fault_server import FaultServer, lines, words
from golden import PHOTOS
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from PIL import Image

from langchain_internvl import ChatInternVL, InternVLToolkit, MediaPolicy, image_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import InternVLError
from langchain_internvl.tracing import MediaFreeExporter, without_media

FILE = PHOTOS / "chelsea.png"
ENCODED = base64.b64encode(FILE.read_bytes()).decode()
KEY = "hush-1234567890abcdef"
INFO = {"version": "0.13", "instance_flags": {}, "batch_ingest_config": {
    "use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520,
    "scale_up_nthreads_limit": 1, "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4}}  # fmt: skip


class Endpoint(BaseHTTPRequestHandler):
    """LangSmith's API as far as its client needs it; keeps all that it is sent."""

    def log_message(self, *_):
        pass

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self):
        body, encoding = self._body(), self.headers.get("Content-Encoding")
        if encoding == "zstd":
            zstandard = pytest.importorskip("zstandard")
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        elif encoding == "gzip":
            body = gzip.decompress(body)
        self.server.got.append(body)
        reply = json.dumps(INFO if self.command == "GET" else {}).encode()
        self.send_response(200 if self.command == "GET" else 202)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - http.server's names


@contextmanager
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.got = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def traced():
    """Runs a function with callbacks of a real client; returns what the endpoint was sent."""

    def run(work, **options):
        with endpoint() as server:
            client = langsmith.Client(
                f"http://127.0.0.1:{server.server_port}", api_key="ls-secret", **options
            )
            work([LangChainTracer(client=client, project_name="p")])
            client.flush()
            client.cleanup()
            return b"".join(server.got).decode("utf-8", "replace")

    return run


def media():
    return [
        image_block(FILE),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}},
        image_block(np.asarray(Image.open(FILE))),
    ]


@tool
def look(place: str) -> list:
    """Look at a place."""
    return [dict(image_block(FILE)), {"type": "text", "text": f"{place}!"}]


def scripted(*replies):
    left = list(replies)
    backend = ScriptedBackend(lambda _request: left.pop(0) if len(left) > 1 else left[0])
    return ChatInternVL(model="nano", backend=backend, max_tiles=1, context_window=50_000)


def call():
    return AIMessage("", tool_calls=[{"id": "c1", "name": "look", "args": {"place": "Rome"}}])


def work_of_the_model(callbacks):
    """Calls with images, history and tools, a stream, failures, and a server with a key."""
    config = {"callbacks": callbacks}
    llm = scripted("A cat.")
    question = HumanMessage([*media(), {"type": "text", "text": "?"}])
    llm.invoke([question, AIMessage("A cat."), HumanMessage("And?")], config)
    list(llm.stream([question], config))
    scripted(call()).bind_tools([look]).invoke([question], config)
    damaged = {
        "type": "image",
        "base64": ENCODED[:4000].replace("A", "B"),
        "mime_type": "image/png",
    }
    with pytest.raises(InternVLError):
        llm.invoke([HumanMessage([damaged])], config)
    toolkit = InternVLToolkit(llm=llm, media_policy=MediaPolicy(roots=[str(FILE.parent)]))
    toolkit.get_tools()[0].invoke({"image": str(FILE)}, config)
    with FaultServer(lines(*words("A cat."))).running() as url:
        remote = ChatInternVL(model="vl", base_url=url, api_key=KEY, server_prompt="messages")
        remote.invoke([question], config)
        remote.close()
    with pytest.raises(InternVLError):
        ChatInternVL(
            model="vl", base_url="http://127.0.0.1:9/v1", api_key=KEY, max_retries=0
        ).invoke([question], config)


def work_of_an_agent(callbacks):
    agent = create_agent(scripted(call(), "A cat."), [look])
    question = HumanMessage([*media(), {"type": "text", "text": "?"}])
    agent.invoke({"messages": [question]}, {"callbacks": callbacks})


def check(told, *, least=1):
    pixels = np.asarray(Image.open(FILE)).tobytes()
    for secret in (ENCODED[1000:1040], ENCODED[2000:2040], repr(pixels[:40])[2:-1], KEY):
        assert secret not in told
    assert told.count("sha256:") + told.count("<base64 of") >= least
    assert "input_tokens" in told or "llm.token_count.prompt" in told


def test_langsmith_of_the_model(traced):
    told = traced(work_of_the_model)
    check(told, least=10)
    assert str(FILE.stat().st_size) in told
    assert len(told) < 200_000


def test_langsmith_of_an_agent(traced):
    told = traced(work_of_an_agent, hide_inputs=without_media, hide_outputs=without_media)
    check(told)
    assert "Rome!" in told
    assert ENCODED[1000:1040] in traced(work_of_an_agent)  # whatever else the client would send


def test_values_without_media():
    encoded = {"url": f"data:image/png;base64,{ENCODED}", "kept": "x" * 64}
    message = HumanMessage([image_block(FILE), {"type": "text", "text": "Who?"}])
    found = without_media({"a": [encoded], "m": (message,), "b": b"123", "p": Image.open(FILE),
                           "n": np.zeros((4, 5, 3), np.uint8), "none": None})  # fmt: skip
    assert found["a"][0]["url"].startswith("data:image/png;base64,<base64 of ")
    assert found["a"][0]["kept"] == "x" * 64
    assert found["m"][0].content[1] == {"type": "text", "text": "Who?"}
    assert ENCODED[:40] not in str(found)
    assert (found["b"], found["p"]) == ("<3 bytes>", "<image of 451 x 300 pixels>")
    assert found["n"] == "<ndarray of shape (4, 5, 3)>"
    assert message.content[0]["base64"] == ENCODED


@pytest.fixture
def spans():
    """OpenInference's instrumentation of LangChain, to an exporter in memory."""
    instrumentation = pytest.importorskip("openinference.instrumentation.langchain")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    instrumentor = instrumentation.LangChainInstrumentor()

    def run(work, wrap=lambda exporter: exporter):
        exporter = memory.InMemorySpanExporter()
        provider = sdk.TracerProvider()
        provider.add_span_processor(export.SimpleSpanProcessor(wrap(exporter)))
        instrumentor.instrument(tracer_provider=provider)
        try:
            work([])
        finally:
            instrumentor.uninstrument()
        provider.shutdown()
        return exporter.get_finished_spans()

    return run


def as_text(spans):
    return "".join(span.to_json() for span in spans)


def test_opentelemetry_of_the_model(spans):
    done = [span for span in spans(work_of_the_model) if span.name == "ChatInternVL"]
    assert len(done) == 7
    check(as_text(done), least=10)
    counts = [span.attributes.get("llm.token_count.prompt") for span in done]
    assert all(counts[:3])
    assert counts[3] is None  # the damaged image


def test_opentelemetry_of_an_agent(spans):
    check(as_text(spans(work_of_an_agent, MediaFreeExporter)))
