"""Histories that LangChain records, and their media."""

import json

import numpy as np
import pytest
from chat_support import IMAGE, MODEL
from golden import SCAN, VIDEO
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.load import dumpd
from langchain_core.messages import HumanMessage
from langchain_core.runnables.history import RunnableWithMessageHistory
from PIL import Image

from langchain_internvl import ChatInternVL, image_block, pdf_block, video_block
from langchain_internvl.media.media_store import MediaStore


async def ask(chain, how, messages, config):
    if how == "ainvoke":
        await chain.ainvoke(messages, config)
    elif how == "stream":
        list(chain.stream(messages, config))
    elif how == "batch":
        chain.batch([messages], config)
    else:
        chain.invoke(messages, config)


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke"])
async def test_a_history_that_langchain_keeps_has_its_media(how, backend):
    """The history stores what the model's run recorded, which holds media by reference."""
    histories = {}

    def history(session_id):
        return histories.setdefault(session_id, InMemoryChatMessageHistory())

    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=1, num_frames=2)
    chain = RunnableWithMessageHistory(llm, history)
    config = {"configurable": {"session_id": "a"}}
    path = {"type": "video", "path": str(VIDEO)}
    shown = [image_block(IMAGE), video_block(VIDEO), video_block([IMAGE]), pdf_block(SCAN), path]
    for message in (HumanMessage([*shown, {"type": "text", "text": "x"}]), HumanMessage("again")):
        await ask(chain, how, [message], config)
    first, second = backend.requests
    assert len(first.tiles) == len(second.tiles) == 1 + 2 + 1 + 1 + 2
    assert all(map(np.array_equal, first.tiles, second.tiles))
    assert len(json.dumps(dumpd(histories["a"].messages))) < 20_000


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "batch"])
async def test_a_recorded_history_without_its_media_is_usable(how, backend, monkeypatch, tmp_path):
    """As after a restart, or after 256 MiB of other media."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(VIDEO.read_bytes())
    histories = {}

    def history(session_id):
        return histories.setdefault(session_id, InMemoryChatMessageHistory())

    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=1, num_frames=2)
    chain = RunnableWithMessageHistory(llm, history)
    config = {"configurable": {"session_id": "a"}}
    shown = [
        image_block(IMAGE),
        video_block(VIDEO),
        video_block([IMAGE, IMAGE]),
        pdf_block(SCAN),
        {"type": "video", "path": str(clip)},
        {"type": "text", "text": "first question"},
    ]
    chain.invoke([HumanMessage(shown)], config)
    store = MediaStore()
    for module in ("block_fields", "references"):
        monkeypatch.setattr(f"langchain_internvl.messages.{module}.MEDIA_STORE", store)
    clip.unlink()
    for number in range(2):
        another = {"type": "image", "image": Image.new("RGB", (8, 8), (number, 0, 0))}
        message = HumanMessage([another, f"question {number}"])
        with pytest.warns(UserWarning, match=r"message 1 \(human\), block 1: the image is a ref"):
            await ask(chain, how, [message], config)
        # The images that were shown since are there.
        assert len(backend.requests[-1].tiles) == number + 1
    prompt = llm.get_text(backend.requests[-1].prompt_ids)
    assert prompt.count("[An image was here. It is no longer available.]") == 1
    assert prompt.count("[A video was here. It is no longer available.]") == 3
    assert prompt.count("[A PDF was here. It is no longer available.]") == 1
    assert prompt.index("was here") < prompt.index("first question") < prompt.index("question 1")
