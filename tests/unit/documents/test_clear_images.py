"""Old images of a long conversation become captions."""

import threading

import numpy as np
import pytest
from drawn_pages import draw_page, encode, scripted
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from PIL import Image

from langchain_internvl import image_block
from langchain_internvl.documents import ClearImagesMiddleware, image_captions
from langchain_internvl.documents.image_captions import ImageCaptions, image_places, replace_images
from langchain_internvl.errors import RequestError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.messages import numbered_media
from langchain_internvl.messages.references import normalise_messages


def conversation(count=4):
    messages = []
    for number in range(count):
        page = image_block(draw_page(str(number), size=(448, 448)))
        if number == 1:
            messages.append(ToolMessage([page], tool_call_id="1"))
        else:
            messages.append(HumanMessage([page, {"type": "text", "text": f"Look at {number}."}]))
        messages.append(AIMessage("Seen."))
    return messages


def called(messages, **settings):
    llm, backend = scripted(lambda request: "A red circle.")
    middleware = ClearImagesMiddleware(llm, **settings)
    request = ModelRequest(model=llm, messages=messages)
    seen = []
    for _ in range(2):
        middleware.wrap_model_call(request, lambda one: seen.append(one) or "reply")
    return llm, seen[-1].messages, len(backend.requests)


def images(messages):
    return sum(block.get("type") == "image" for message in messages
               if isinstance(message.content, list) for block in message.content)  # fmt: skip


def test_a_short_conversation_stays():
    messages = conversation()
    _, shown, asked = called(messages, trigger_tokens=100_000)
    assert (shown, asked) == (messages, 0)


@pytest.mark.parametrize("left", [3, 2, 1])
def test_as_many_become_captions_as_have_to(left):
    messages = conversation()
    llm, _ = scripted([])
    captions = {place: f"[Image {number}: A red circle.]"
                for number, place in image_places(messages)[: 4 - left]}  # fmt: skip
    limit = llm.get_num_tokens_from_messages(replace_images(messages, captions))
    llm, shown, asked = called(messages, trigger_tokens=limit)
    assert images(shown) == left
    assert llm.get_num_tokens_from_messages(shown) <= limit
    assert shown[0].content[0] == {"type": "text", "text": "[Image 1: A red circle.]"}
    assert asked == 4 - left  # each image once, though the model was called twice
    assert images(messages) == 4  # the state is not changed


def test_the_newest_stay_whatever_the_count():
    _, shown, asked = called(conversation(), trigger_tokens=1, keep=2)
    assert (images(shown), asked) == (2, 2)
    _, shown, _ = called(conversation(), trigger_tokens=1, keep=0)
    assert images(shown) == 0


async def test_the_same_without_blocking():
    llm, backend = scripted(lambda request: "A red circle.")
    middleware = ClearImagesMiddleware(llm, trigger_tokens=1)
    seen = []

    async def handler(request):
        seen.append(request)

    await middleware.awrap_model_call(ModelRequest(model=llm, messages=conversation()), handler)
    assert (images(seen[0].messages), len(backend.requests)) == (1, 3)


async def test_captions_are_no_part_of_the_stream_of_an_agent():
    """`stream_mode="messages"` showed them as if they were the answer."""
    llm, _ = scripted(lambda request: "A red circle.")
    agent = create_agent(scripted(lambda request: "The answer.")[0], [],
                         middleware=[ClearImagesMiddleware(llm, trigger_tokens=1)])  # fmt: skip
    start = {"messages": conversation()[:-1]}
    said = [chunk.text for chunk, _ in agent.stream(start, stream_mode="messages")]
    assert "".join(said) == "The answer."
    said = [chunk.text async for chunk, _ in agent.astream(start, stream_mode="messages")]
    assert "".join(said) == "The answer."


async def test_images_are_read_in_threads(monkeypatch):
    """Reading and hashing of large files blocked the event loop."""
    threads = set()

    def watched(read):
        def noted(*arguments):
            threads.add(threading.current_thread())
            return read(*arguments)

        return noted

    for module in (image_captions, numbered_media):
        monkeypatch.setattr(module, "read_block", watched(module.read_block))
    llm, _ = scripted(lambda request: "A red circle.")

    async def handler(request):
        return None

    middleware = ClearImagesMiddleware(llm, trigger_tokens=1)
    await middleware.awrap_model_call(ModelRequest(model=llm, messages=conversation(2)), handler)
    assert threads
    assert threading.current_thread() not in threads


def test_numbers_out_of_range():
    llm, _ = scripted([])
    for settings in ({"trigger_tokens": 0}, {"trigger_tokens": 9, "keep": -1}):
        with pytest.raises(RequestError):
            ClearImagesMiddleware(llm, **settings)


def test_captions_are_of_the_very_image():
    """Blocks of objects in memory, and of references, that differ in nothing that JSON shows."""
    colours = iter(range(0, 256, 32))
    llm, _ = scripted(lambda request: f"Number {next(colours)}")
    captions = ImageCaptions(llm, "What?", 20)
    arrays = [np.zeros((100, 100, 3), np.uint8) for _ in range(2)]
    arrays[1][50, 50] = 255  # in the part that NumPy does not print
    held = normalise_messages(
        [
            HumanMessage([image_block(encode(Image.new("L", (30, 30), grey), "BMP"))])
            for grey in (0, 1)
        ],
        MediaPolicy(),
    )
    references = [{**one.content[0]} for one in held]
    assert len({one["size"] for one in references}) == 1
    blocks = [{"type": "image", "image": one} for one in arrays]
    said = [captions.of(block) for block in (*blocks, *references)]
    assert said == ["Number 0", "Number 32", "Number 64", "Number 96"]
    assert [captions.of(block) for block in (*blocks, *references)] == said


def test_numbers_are_those_of_handles():
    """Images in other providers' blocks, and those that are lost, count as for the tools."""
    page = image_block(Image.new("RGB", (448, 448)))
    lost = {"type": "image", "id": "sha256:0", "mime_type": "image/png", "size": 9}
    data = {"mime_type": "image/png", "data": page["base64"]}
    blocks = [lost, {"type": "media", **data}, {"inline_data": data}, page]
    with pytest.warns(UserWarning, match="no longer|any more"):
        _, shown, _ = called([HumanMessage(blocks)], trigger_tokens=1, keep=1)
    assert shown[0].content[1:3] == [{"type": "text", "text": f"[Image {number}: A red circle.]"}
                                     for number in (2, 3)]  # fmt: skip
    assert (shown[0].content[0], shown[0].content[3]) == (lost, page)
