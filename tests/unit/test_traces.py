"""Tracers receive token counts and sizes of media, and no pixels, bytes or keys."""

import base64
import json

import numpy as np
import pytest
from golden import GOLDEN, VIDEO, checkpoint_folder
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from PIL import Image

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.scripted import ScriptedBackend

FILE = GOLDEN / "images/rgb_1344x896.png"
ENCODED = base64.b64encode(FILE.read_bytes()).decode()


class Tracer(BaseTracer):
    """Keeps all that a tracer of LangSmith or OpenTelemetry is given."""

    def __init__(self):
        super().__init__()
        self.runs = []
        self.seen = []

    def _persist_run(self, run):
        self.runs.append(run)

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.seen.append((serialized, messages, kwargs))
        return super().on_chat_model_start(serialized, messages, **kwargs)


class AsyncTracer(AsyncBaseTracer):
    def __init__(self):
        super().__init__()
        self.runs = []
        self.seen = []

    async def _persist_run(self, run):
        self.runs.append(run)

    async def on_chat_model_start(self, serialized, messages, **kwargs):
        self.seen.append((serialized, messages, kwargs))
        return await super().on_chat_model_start(serialized, messages, **kwargs)


def media():
    return [
        image_block(FILE),
        {"type": "image", "path": str(FILE)},
        {"type": "image", "base64": ENCODED, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}},
        {"type": "image", "image": Image.open(FILE)},
        image_block(np.asarray(Image.open(FILE))),
        video_block([FILE, FILE]),
        video_block(VIDEO, num_frames=2),
    ]


def check(tracer):
    """What a tracer was given of one run."""
    ((serialized, ((message,),), given),) = tracer.seen
    told = dumps([serialized, message]) + repr(given)
    told += json.dumps([run.model_dump() for run in tracer.runs], default=repr)
    pixels = np.asarray(Image.open(FILE)).tobytes()
    assert ENCODED[1000:1040] not in told
    assert repr(pixels[:40])[2:-1] not in told
    assert "hush" not in told
    assert len(told) < 60_000
    images = [block for block in message.content if block["type"] == "image"]
    assert len(images) == 6
    assert {block["size"] for block in images[:4]} == {FILE.stat().st_size}
    assert all(block["id"].startswith("sha256:") for block in images)
    (run,) = tracer.runs
    reply = run.outputs["generations"][0][0]["message"]["kwargs"]
    usage = reply["usage_metadata"]
    assert usage["input_tokens"] > 6 * 256
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert run.extra["metadata"]["ls_provider"] == "internvl"


@pytest.fixture
def llm():
    model = str(checkpoint_folder("qwen2"))
    backend = ScriptedBackend(lambda request: AIMessage("A cat."))
    return ChatInternVL(
        model=model, backend=backend, max_tiles=1, default_headers={}, context_window=50_000
    )


@pytest.mark.parametrize("method", ["invoke", "stream", "batch", "generate"])
def test_traces(method, llm):
    tracer = Tracer()
    messages, config = [HumanMessage([*media(), {"type": "text", "text": "?"}])], {}
    config["callbacks"] = [tracer]
    if method == "generate":
        llm.generate([messages], callbacks=[tracer])
    elif method == "batch":
        llm.batch([messages], config)
    elif method == "stream":
        list(llm.stream(messages, config))
    else:
        llm.invoke(messages, config)
    check(tracer)


@pytest.mark.parametrize("method", ["ainvoke", "astream"])
async def test_async_traces(method, llm):
    tracer = AsyncTracer()
    messages = [HumanMessage([*media(), {"type": "text", "text": "?"}])]
    if method == "astream":
        assert [chunk async for chunk in llm.astream(messages, {"callbacks": [tracer]})]
    else:
        await llm.ainvoke(messages, {"callbacks": [tracer]})
    check(tracer)


def test_traces_have_no_key_of_a_server():
    tracer = Tracer()
    llm = ChatInternVL(base_url="http://127.0.0.1:9/v1", model="vl", api_key="hush-1",
                       default_headers={"X-A": "hush-2"}, max_retries=0)  # fmt: skip
    with pytest.raises(Exception, match="cannot be reached"):
        llm.invoke("x", {"callbacks": [tracer]})
    llm.close()
    told = repr(tracer.seen) + "".join(
        json.dumps(run.model_dump(), default=repr) for run in tracer.runs
    )
    assert "hush" not in told
    assert tracer.runs[0].error
