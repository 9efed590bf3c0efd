"""Every shape of content block, and what becomes of it."""

import contextlib

import numpy as np
import pytest
from block_shapes import (
    BASE64,
    DATA,
    DATA_URL,
    FILE,
    IMAGE_SHAPES,
    LEFT_OUT,
    PDF_SHAPES,
    PIXELS,
    REFUSED,
    TEXT_SHAPES,
    URL,
    URL_SHAPES,
    VIDEO_SHAPES,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    HumanMessage,
)

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import (
    InternVLError,
    MessageError,
    UnsupportedMediaError,
)
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.sources import UrlSource
from langchain_internvl.messages.block_fields import DETAIL_TILES
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Document, Image, Text, TextFile, Video
from langchain_internvl.messages.references import normalise_messages
from langchain_internvl.messages.text_files import read_text_file

POLICY = MediaPolicy()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(
        ["image", "text", "http://[", "file://[", "~nobody/x", "data:",
         "data:image/png;base64,%", "a\0b"]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "text", "image", "image_url", "video", "url", "data", "base64", "source",
             "path", "mime_type", "media_type", "format", "bytes", "file", "frames", "value",
             "name", "id", "input", "detail", "max_tiles", "extras", "file_data", "inline_data"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
BLOCKS = st.builds(
    lambda kind, rest: {**rest, **({} if kind is None else {"type": kind})},
    st.none() | st.sampled_from(
        ["text", "image", "image_url", "video", "file", "document", "media", "resource",
         "non_standard", "tool_use", "text-plain", "image_data", "input_file"]
    ) | JSON,
    st.dictionaries(st.text(max_size=3) | st.sampled_from(
        ["text", "image", "image_url", "video", "video_url", "url", "data", "base64", "source",
         "path", "mime_type", "file", "document", "resource", "value", "frames", "detail",
         "inline_data", "file_data", "toolUse", "extras", "max_tiles", "name", "input"]
    ), JSON, max_size=4),
)  # fmt: skip


@pytest.mark.parametrize("shape", IMAGE_SHAPES.values(), ids=IMAGE_SHAPES)
def test_images_at_hand(shape):
    (part,) = read_block(shape, "here")
    assert isinstance(part, Image)
    assert np.array_equal(np.asarray(load_rgb(part.source, POLICY)), PIXELS)


@pytest.mark.parametrize("shape", URL_SHAPES.values(), ids=URL_SHAPES)
def test_images_elsewhere(shape):
    assert read_block(shape, "here") == [Image(UrlSource(URL))]


@pytest.mark.parametrize("shape", VIDEO_SHAPES.values(), ids=VIDEO_SHAPES)
def test_videos(shape):
    (part,) = read_block(shape, "here")
    assert isinstance(part, Video)
    assert part.source is not None


@pytest.mark.parametrize("shape", PDF_SHAPES.values(), ids=PDF_SHAPES)
def test_pdfs(shape):
    (part,) = read_block(shape, "here")
    assert isinstance(part, Document)


@pytest.mark.parametrize("shape", TEXT_SHAPES.values(), ids=TEXT_SHAPES)
def test_texts(shape):
    (part,) = read_block(shape, "here")
    text = read_text_file(part, POLICY) if isinstance(part, TextFile) else part
    assert text == Text("words")


@pytest.mark.parametrize("shape", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_left_out(shape):
    assert read_block(shape, "here") == []


@pytest.mark.parametrize("shape", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_shown_is_refused_and_says_where(shape):
    def show():
        for part in read_block(shape, "here"):
            part.source.read(POLICY)

    with pytest.raises(InternVLError, match="here"):
        show()


def test_blocks_inside_themselves_are_refused():
    block = {"type": "non_standard"}
    block["value"] = block
    with pytest.raises(MessageError, match="malformed"):
        read_block(block, "here")


@given(block=BLOCKS)
@settings(max_examples=400)
def test_no_block_at_all_is_an_untyped_error(block):
    """Whatever JSON comes: parts, or a typed error; and the same in a message."""
    for read in (
        lambda: read_block(block, "here"),
        lambda: normalise_messages([HumanMessage.model_construct(content=[block])], POLICY),
    ):
        with contextlib.suppress(InternVLError):
            read()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/etc/passwd", "C:\\secret.png", "ftp://a/b"]
)
@pytest.mark.parametrize(
    "shape",
    [
        lambda url: {"type": "image", "url": url},
        lambda url: {"type": "image_url", "image_url": url},
        lambda url: {"type": "image_url", "image_url": {"url": url}},
        lambda url: {"type": "input_image", "image_url": url},
        lambda url: {"type": "video_url", "video_url": {"url": url}},
        lambda url: {"type": "image", "source": {"type": "url", "url": url}},
        lambda url: {"type": "file", "url": url},
        lambda url: {"file_data": {"file_uri": url}},
    ],
)
def test_url_fields_never_name_local_files(shape, url):
    with pytest.raises(UnsupportedMediaError, match="url field"):
        read_block(shape(url), "here")


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"path": str(FILE)}},
        {"type": "video_url", "video_url": {"frames": [str(FILE)]}},
        {"type": "image", "source": {"path": str(FILE)}},
        {"type": "resource", "resource": {"path": str(FILE), "mimeType": "image/png"}},
        {"type": "image_data", "image_data": {"path": str(FILE)}},
        {"file_data": {"path": str(FILE), "mime_type": "image/png"}},
    ],
)
def test_dicts_that_anybody_may_have_written_name_no_local_files_either(block):
    with pytest.raises(MessageError, match="no data, url or path"):
        read_block(block, "here")


def test_frames_of_a_video():
    frames = [FILE, DATA, {"type": "image", "base64": BASE64, "max_tiles": 3}]
    (video,) = read_block({"type": "video", "video": frames, "max_tiles": 2}, "here")
    assert [frame.max_tiles for frame in video.frames] == [None, None, 3]
    assert video.max_tiles == 2
    with pytest.raises(MessageError, match="here, frame 2: a frame is an image"):
        read_block({"type": "video", "frames": [{"image": FILE}, {"text": "no"}]}, "here")


@pytest.mark.parametrize(("detail", "tiles"), [*DETAIL_TILES.items(), ("auto", None)])
@pytest.mark.parametrize(
    "shape",
    [
        lambda detail: {"type": "image_url", "image_url": {"url": DATA_URL, "detail": detail}},
        lambda detail: {"type": "input_image", "image_url": DATA_URL, "detail": detail},
        lambda detail: {"type": "image", "base64": BASE64, "extras": {"detail": detail}},
    ],
)
def test_detail_is_a_number_of_tiles(shape, detail, tiles):
    assert DETAIL_TILES == {"low": 6, "medium": 12, "high": 24, "original": 40}
    (part,) = read_block(shape(detail), "here")
    assert part.max_tiles == tiles


@pytest.mark.parametrize("name", ["fps", "max_frames", "min_tiles", "total_pixels"])
def test_other_ways_to_choose_frames_are_refused(name):
    block = {"type": "video", "url": URL, name: 2}
    with pytest.raises(MessageError, match=f"here: {name} cannot be set of a video"):
        read_block(block, "here")


def test_qwens_names_for_frames_and_bounds():
    block = {"type": "video", "video": URL, "nframes": 5, "video_start": 1, "video_end": 2.5}
    assert read_block(block, "here") == [Video((), UrlSource(URL), num_frames=5, bound=(1.0, 2.5))]
    del block["video_end"]
    assert read_block(block, "here")[0].bound == (1.0, float("inf"))


def test_tiles_of_pages():
    block = {"type": "file", "url": URL, "mime_type": "application/pdf", "max_tiles": 3}
    assert read_block(block, "here") == [Document(UrlSource(URL), max_tiles=3)]
    del block["max_tiles"]
    for wrong in ({"max_tiles": "many"}, {"detail": "much"}, {"min_tiles": 0}):
        with pytest.raises(MessageError, match=next(iter(wrong))):
            read_block({**block, **wrong}, "here")


@pytest.mark.parametrize("key", ["path", "image", "video", "frames"])
@pytest.mark.parametrize("outer", ["image_url", "video_url"])
def test_fields_under_a_url_name_no_local_file(outer, key, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    block = {"type": outer, outer: {key: str(tmp_path / "secret.png")}}
    with pytest.raises(MessageError, match=r"no data, url or path"):
        read_block(block, "here")


def test_what_is_shown_of_a_video():
    block = {"type": "video", "url": URL, "num_frames": 4, "bound": [1, 2], "max_tiles": 3}
    (video,) = read_block(block, "here")
    assert video == Video((), UrlSource(URL), 3, 4, (1.0, 2.0))
    inner = {"type": "video_url", "video_url": {"url": URL, "num_frames": 4}}
    assert read_block(inner, "here")[0].num_frames == 4
    per_frame = {"type": "video", "url": URL, "max_tiles_per_frame": 2}
    assert read_block(per_frame, "here")[0].max_tiles == 2
    for wrong in ({"bound": [2, 1]}, {"bound": "1-2"}, {"bound": [1]}, {"num_frames": 0.5}):
        with pytest.raises(MessageError, match=f"here: {next(iter(wrong))}"):
            read_block({**block, **wrong}, "here")
    with pytest.raises(MessageError, match="all shown"):
        read_block({"type": "video", "frames": [{"image": FILE}], "num_frames": 2}, "here")


def test_tiles_of_a_block():
    block = {"type": "image", "base64": BASE64, "max_tiles": 4, "min_tiles": 2, "detail": "low"}
    (part,) = read_block(block, "here")
    assert (part.min_tiles, part.max_tiles) == (2, 4)
    lmdeploy = {"type": "image_url", "image_url": {"url": DATA_URL, "max_dynamic_patch": 5}}
    assert read_block(lmdeploy, "here")[0].max_tiles == 5


def test_parts_of_documents_and_search_results_stay_apart():
    """As Anthropic has them, for retrieved texts."""
    one, other = {"type": "text", "text": "one"}, {"type": "text", "text": "other"}
    image = {"type": "image", "base64": BASE64}
    document = {"type": "document", "source": {"type": "content", "content": [one, other, image]}}
    *texts, last = read_block(document, "here")
    assert "".join(text.text for text in texts) == "one\nother"
    assert isinstance(last, Image)
    found = {
        "type": "search_result", "title": "T", "source": "https://a.b/c", "content": [one, other],
    }  # fmt: skip
    assert (
        "".join(text.text for text in read_block(found, "here")) == "T\nhttps://a.b/c\none\nother"
    )
