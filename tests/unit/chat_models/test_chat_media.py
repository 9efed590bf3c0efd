"""Images, videos and PDFs in messages to ChatInternVL."""

import json

import numpy as np
import pytest
from chat_support import IMAGE, MODEL, ask
from golden import GOLDEN, SCAN, VIDEO
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableParallel
from PIL import Image

from langchain_internvl import ChatInternVL, MediaPolicy, image_block, pdf_block, video_block
from langchain_internvl.errors import (
    MediaError,
    MediaTooLargeError,
    MessageError,
    RequestError,
    UnsupportedMediaError,
)
from langchain_internvl.media.video_process import read_clip


def test_tiles_of_the_model_of_the_call_and_of_the_block(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=1)
    plain, own = image_block(IMAGE), image_block(IMAGE, max_tiles=6)
    llm.invoke(ask(plain, own))
    llm.invoke(ask(plain, own), max_tiles=2)
    shapes = [[len(tiles) for tiles in request.tiles] for request in backend.requests]
    assert shapes == [[1, 7], [3, 7]]


def test_frames_of_the_model_of_the_call_and_of_the_block(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, num_frames=3)
    plain, own = video_block(VIDEO), video_block(VIDEO, num_frames=5, bound=(1, 2))
    llm.invoke(ask(plain, own))
    llm.invoke(ask(plain, own), num_frames=2, max_tiles_per_frame=6)
    shapes = [[len(tiles) for tiles in request.tiles] for request in backend.requests]
    assert shapes == [[1] * 8, [3] * 7]
    assert "Frame3: <image>\nFrame1: <image>" in llm.render(ask(plain, own, "x"))
    messages = ask(plain, "What happens?")
    assert llm.get_num_tokens_from_messages(messages) == len(llm.prompt_ids(messages))


def test_videos_are_decoded_once(llm, monkeypatch):
    read = []

    def count(*arguments):
        read.append(arguments)
        return read_clip(*arguments)

    monkeypatch.setattr("langchain_internvl.media.reader.read_clip", count)
    messages = ask({"type": "video", "path": str(VIDEO), "num_frames": 2}, "x")
    llm.get_num_tokens_from_messages(messages)
    llm.invoke([*messages, llm.invoke(messages), HumanMessage("again")])
    assert len(read) == 1


def test_a_broken_video_fails_alone_and_by_name(llm):
    broken = ask({"type": "video", "base64": "AAAA", "mime_type": "video/mp4"})
    replies = llm.batch(["a", broken, "b"], return_exceptions=True)
    assert [type(reply) for reply in replies] == [AIMessage, MediaError, AIMessage]
    assert "message 1 (human), block 1: is no video" in str(replies[1])


def test_pages_of_a_pdf_are_images(llm, backend):
    question = {"type": "text", "text": "x"}
    for block in (
        pdf_block(SCAN), pdf_block(SCAN.read_bytes()), {"type": "file", "path": str(SCAN)},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf_block(SCAN)["base64"]}},
    ):  # fmt: skip
        llm.invoke(ask(block, question), max_tiles=6)
    assert {request.prompt_ids == backend.requests[0].prompt_ids for request in backend.requests}
    assert [len(tiles) for tiles in backend.requests[0].tiles] == [7]
    assert "<image>\nx" in llm.render(ask(pdf_block(SCAN), question))
    two = ask(pdf_block(SCAN), image_block(IMAGE), question)
    assert "Image-1: <image>\nImage-2: <image>\nx" in llm.render(two)
    with pytest.raises(MediaError, match="is no PDF"):
        pdf_block(IMAGE)
    with pytest.raises(MediaError, match=r"block 1: is no PDF"):
        llm.invoke(ask({"type": "file", "base64": "AAAA", "mime_type": "application/pdf"}))


def test_some_pages_of_a_pdf(llm, backend, tmp_path):
    colours = ("red", "green", "blue", "white")
    pages = [Image.new("RGB", (28, 28), colour) for colour in colours]
    pages[0].save(tmp_path / "a.pdf", "PDF", save_all=True, append_images=pages[1:])
    question = {"type": "text", "text": "x"}
    policy = MediaPolicy(max_pages=2)
    small = llm.model_copy(update={"media_policy": policy})
    with pytest.raises(MediaTooLargeError, match=r"4 pages are over .*; select some with pages="):
        small.invoke(ask(pdf_block(tmp_path / "a.pdf"), question))
    for given in ("2-3", [1, 2], range(1, 3), slice(1, -1), "2, 3"):
        block = pdf_block(tmp_path / "a.pdf", pages=given)
        json.dumps(block)
        small.invoke(ask(block, question), max_tiles=1)
        shown = [np.asarray(tiles[0])[200, 200] for tiles in backend.requests[-1].tiles]
        assert [int(colour.argmax()) for colour in shown] == [1, 2]
    with pytest.raises(RequestError, match="it has 4 pages"):
        llm.invoke(ask(pdf_block(tmp_path / "a.pdf", pages=[4]), question))
    for wrong in ("0", [], [[1, 2]], [None], {"a": 1}, 1.5):
        with pytest.raises(RequestError, match="pages"):
            pdf_block(tmp_path / "a.pdf", pages=wrong)
        with pytest.raises(MessageError, match="block 1: pages="):
            llm.invoke(ask({**pdf_block(tmp_path / "a.pdf"), "pages": wrong}, question))


def test_detail(llm, backend):
    url = "data:image/png;base64," + image_block(IMAGE)["base64"]
    for detail in ({"detail": "low"}, {"detail": "auto"}, {}):
        llm.invoke(ask({"type": "image_url", "image_url": {"url": url, **detail}}), max_tiles=1)
    assert [len(request.tiles[0]) for request in backend.requests] == [7, 1, 1]


def test_exif_is_followed_on_request(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, max_tiles=12)
    photo = image_block(GOLDEN / "images/exif_rot6.jpg")
    llm.invoke(ask(photo))
    llm.invoke(ask(photo), exif_transpose=True)
    lying, upright = (request.tiles[0][-1] for request in backend.requests)
    assert not np.array_equal(lying, upright)


def test_a_bad_image_fails_alone_in_a_batch(llm):
    bad = HumanMessage([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}])
    replies = llm.batch(["a", [bad], "b"], return_exceptions=True)
    assert [type(reply) for reply in replies] == [AIMessage, type(replies[1]), AIMessage]
    assert isinstance(replies[1], MediaError)
    assert "message 1 (human), block 1" in str(replies[1])


def test_errors_name_their_place(llm):
    with pytest.raises(MessageError, match=r"message 2 \(human\), block 1.*audio"):
        llm.invoke(
            [
                HumanMessage("x"),
                HumanMessage([{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}]),
            ]
        )
    with pytest.raises(MediaError, match="no such file"):
        llm.invoke(ask({"type": "image", "path": "/no/such.png"}))


def test_media_policy(backend):
    llm = ChatInternVL(model=MODEL, backend=backend, media_policy=MediaPolicy(max_pixels=100))
    with pytest.raises(MediaError, match="max_pixels"):
        llm.invoke(ask(image_block(IMAGE)))
    with pytest.raises(MediaError, match="not a public address"):
        llm.invoke(ask({"type": "image", "url": "http://127.0.0.1:9/a.png"}))


def test_too_many_frames_in_a_list(backend):
    frames = [{"type": "image", "base64": "AAAA", "mime_type": "image/png"}] * 5
    few = MediaPolicy(max_frames=4)
    llm = ChatInternVL(model=MODEL, backend=backend, media_policy=few)
    with pytest.raises(MediaTooLargeError, match=r"5 frames are over MediaPolicy\.max_frames=4"):
        llm.render(ask({"type": "video", "frames": frames}))
    with pytest.raises(MediaTooLargeError, match="max_frames=4"):
        video_block(np.zeros((5, 4, 4, 3), np.uint8), policy=few)


def test_frames_may_be_blocks_and_one_picture_is_no_video(llm):
    block = video_block([image_block(IMAGE), IMAGE, np.zeros((28, 28, 3), np.uint8)])
    assert llm.render(ask(block)).count("<image>") == 3
    with pytest.raises(UnsupportedMediaError, match=r"an array \[frames, height, width, 3\]"):
        video_block(np.zeros((28, 28, 3), np.uint8))


def test_pages_have_tiles_of_their_own(backend):
    llm = ChatInternVL(model=MODEL, backend=backend)
    for limits, tiles in (({}, 13), ({"max_tiles": 1}, 1), ({"min_tiles": 2, "max_tiles": 2}, 3)):
        llm.invoke(ask(pdf_block(SCAN, **limits)))
        assert len(backend.requests[-1].tiles[0]) == tiles


def test_relative_videos_stay_what_they_were(llm, tmp_path, monkeypatch):
    monkeypatch.chdir(VIDEO.parent)
    messages = llm._convert_input(ask({"type": "video", "path": VIDEO.name})).to_messages()
    monkeypatch.chdir(tmp_path)
    assert llm.render(messages).count("Frame") == 8


async def test_requests_at_once_about_one_lazily_opened_image_all_see_it(llm, backend, tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)).save(path)
    llm.invoke(ask(image_block(path)))
    expected = backend.requests.pop().tiles[0]

    def question():
        return ask({"type": "text", "text": "x"}, {"type": "image", "image": Image.open(path)})

    llm.batch([question()] * 6)
    RunnableParallel({str(number): llm for number in range(6)}).invoke(question())
    await llm.abatch([question()] * 6)
    assert len(backend.requests) == 18
    assert all(np.array_equal(request.tiles[0], expected) for request in backend.requests)
