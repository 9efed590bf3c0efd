"""Code that users write, checked by mypy --strict and pyright with the pages (check_pages.py).

Nothing here is run by itself: test_typed_snippets.py runs it once.
"""

from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel, SecretStr

from langchain_internvl import ChatInternVL, MediaPolicy, image_block
from langchain_internvl.backends.base import Request
from langchain_internvl.backends.scripted import ScriptedBackend


class Answer(BaseModel):
    yes: bool


@tool
def look(place: str) -> str:
    """Look somewhere."""
    return place


def policies() -> list[MediaPolicy]:
    return [
        MediaPolicy(roots=["."]),
        MediaPolicy(roots=Path()),
        MediaPolicy(roots=[Path(), "images"], allowed_hosts=["example.com"], loopback_ports=[80]),
        MediaPolicy(timeout=5, max_bytes=1000),
    ]


def models(backend: ScriptedBackend) -> list[ChatInternVL]:
    return [
        ChatInternVL(model=Path("folder")),
        ChatInternVL(model="a/b", model_name="a/b"),
        ChatInternVL(model_name="a/b", temperature=0, timeout=60, stop="x"),
        ChatInternVL(stop=["x", "y"], max_tokens=None, seed=1),
        ChatInternVL(api_key="x", base_url="http://h/v1", default_headers={"X-A": "b"}),
        ChatInternVL(api_key=SecretStr("x"), base_url="http://h/v1", max_retries=3),
        ChatInternVL(backend=backend, tags=["a"], cache=False, metadata={"a": 1}),
        ChatInternVL(device_map={"": "cpu"}, dtype="float32", engine_options={"max_rows": 3}),
        ChatInternVL(media_policy=policies()[0], streaming=True, reasoning=True),
    ]


def replies(request: Request) -> str | AIMessage:
    return AIMessage("") if request.tools else '{"yes": true}'


def talk(image: Path) -> list[object]:
    llm = ChatInternVL(backend=ScriptedBackend(replies))
    question = HumanMessage(content_blocks=[image_block(image), {"type": "text", "text": "What?"}])
    other = HumanMessage([image_block(str(image)), {"type": "text", "text": "What?"}])
    return [
        llm.invoke([question, other], stop=["x"], max_tiles=3).text,
        llm.bind_tools([look]).invoke([question]).tool_calls,
        llm.with_structured_output(Answer).invoke("Is it?"),
        [chunk.content for chunk in llm.stream("x")],
        llm.model_copy(update={"temperature": 0}).temperature,
    ]
