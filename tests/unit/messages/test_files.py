"""File objects, paths of any type, files without a type, and what type checkers say of blocks."""

import base64
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from block_shapes import DATA, FILE, PIXELS
from golden import SCAN, VIDEO
from langchain_core.messages import HumanMessage

from langchain_internvl import MediaPolicy, image_block, pdf_block, video_block
from langchain_internvl.errors import MediaError, MessageError, UnsupportedMediaError
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.sniff import sniff_kind
from langchain_internvl.media.sources import BytesSource, PathSource, UrlSource, to_source
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Document, Image, Text, TextFile, Video
from langchain_internvl.messages.references import normalise_messages
from langchain_internvl.messages.text_files import read_text_file

POLICY = MediaPolicy()
PDF = SCAN.read_bytes()
CLIP = VIDEO.read_bytes()
OCTETS = "application/octet-stream"


class PlainPath(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


HELPERS = {"image": (image_block, FILE), "video": (video_block, VIDEO), "pdf": (pdf_block, SCAN)}


@pytest.mark.parametrize(("helper", "path"), HELPERS.values(), ids=HELPERS)
def test_file_objects_and_paths_give_the_same_block(helper, path):
    data = path.read_bytes()
    expected = helper(data)
    at_its_end = io.BytesIO()
    at_its_end.write(data)
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        for given in (io.BytesIO(data), at_its_end, file, raw, path, str(path), PlainPath(path),
                      bytearray(data), memoryview(data)):  # fmt: skip
            assert helper(given) == expected, type(given)
        assert file.tell() == 0
    assert at_its_end.tell() == len(data)


def test_file_objects_in_messages():
    for block in (
        {"type": "image", "image": io.BytesIO(DATA)},
        {"type": "image", "base64": io.BytesIO(DATA)},
        {"image": {"format": "png", "source": {"bytes": io.BytesIO(DATA)}}},
    ):
        (message,) = normalise_messages([HumanMessage([block])], POLICY)
        (part,) = read_block(message.content[0], "here")
        assert np.array_equal(np.asarray(load_rgb(part.source, POLICY)), PIXELS)


def test_file_objects_that_cannot_be_read():
    closed = io.BytesIO(DATA)
    closed.close()
    with pytest.raises(MediaError, match=r"cannot be read: .*closed"):
        image_block(closed)
    with pytest.raises(UnsupportedMediaError, match='mode "rb"'):
        image_block(io.StringIO("text"))
    with Path(os.devnull).open("wb") as for_writing, pytest.raises(MediaError, match="read"):
        image_block(for_writing)


def test_threads_that_share_a_file_object_all_get_its_bytes():
    file = io.BufferedReader(io.BytesIO(CLIP), 512)
    barrier = threading.Barrier(6)

    def read(_):
        barrier.wait()
        return to_source(file, "x").read(POLICY)

    with ThreadPoolExecutor(6) as pool:
        assert all(data == CLIP for data in pool.map(read, range(6)))


def encoded(data):
    return base64.b64encode(data).decode()


def data_url(data):
    return f"data:{OCTETS};base64,{encoded(data)}"


@pytest.mark.parametrize(
    "shape",
    [
        lambda data: {"type": "file", "base64": encoded(data), "mime_type": OCTETS},
        lambda data: {"type": "file", "base64": encoded(data), "mime_type": "binary/octet-stream"},
        lambda data: {"type": "file", "base64": encoded(data), "mime_type": "application/unknown"},
        lambda data: {"type": "file", "base64": encoded(data), "mime_type": "*/*"},
        lambda data: {"type": "file", "base64": encoded(data)},
        lambda data: {"type": "file", "file": {"file_data": data_url(data)}},
        lambda data: {"type": "file", "url": data_url(data)},
        lambda data: {"type": "media", "mime_type": OCTETS, "data": data},
        lambda data: {"inline_data": {"mime_type": OCTETS, "data": encoded(data)}},
        lambda data: {"type": "resource", "resource": {"uri": "a", "blob": encoded(data)}},
        lambda data: {"type": "file", "base64": encoded(data), "name": "a.bin"},
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("data", "kind"), [(DATA, Image), (CLIP, Video), (PDF, Document), ("wörter".encode(), TextFile)]
)
def test_files_without_a_type_are_what_their_bytes_are(shape, data, kind):
    (part,) = read_block(shape(data), "here")
    assert isinstance(part, kind)
    assert part.source.read(POLICY.for_videos()) == data


def test_a_path_without_a_type(tmp_path):
    path = tmp_path / "unnamed"
    path.write_bytes(CLIP)
    (part,) = read_block({"type": "file", "path": str(path)}, "here")
    assert part == Video(source=PathSource(path))


def test_a_name_says_more_than_octet_stream():
    block = {"type": "file", "base64": encoded(b"a,b"), "mime_type": OCTETS, "filename": "a.csv"}
    (part,) = read_block(block, "here")
    assert read_text_file(part, POLICY) == Text("a,b")
    url = {"type": "file", "url": "https://example.com/a.png", "mime_type": OCTETS}
    assert read_block(url, "here") == [Image(UrlSource("https://example.com/a.png"))]


@pytest.mark.parametrize(
    "mime_type",
    ["application/x-pdf", "application/vnd.pdf", "text/pdf", "image/pdf", "Application/X-PDF; v=1"],
)
def test_old_names_of_the_type_of_pdfs(mime_type):
    url = "https://example.com/get?id=1"
    for block in (
        {"type": "file", "url": url, "mime_type": mime_type},
        {"type": "file", "base64": encoded(PDF), "mime_type": mime_type},
        {"type": "image", "base64": encoded(PDF), "mime_type": mime_type},
        {"type": "file", "file": {"file_data": f"data:{mime_type};base64,{encoded(PDF)}"}},
    ):
        (part,) = read_block(block, "here")
        assert isinstance(part, Document), block["type"]


def test_bytes_of_no_known_kind_are_refused():
    block = {"type": "file", "base64": encoded(b"\0\1\2\3" * 9), "mime_type": OCTETS}
    with pytest.raises(MessageError, match="no image, video, PDF or text"):
        read_block(block, "here")
    assert sniff_kind(BytesSource(b"", "x")) is None
    assert sniff_kind(PathSource(Path("/no/such/file"))) is None


PROGRAM = """
from typing import Any
from langchain_core.messages import HumanMessage
from langchain_internvl import image_block, pdf_block, video_block

HumanMessage(content_blocks=[image_block("a.png"), {"type": "text", "text": "x"}])
HumanMessage(content_blocks=[video_block("a.mp4"), pdf_block("a.pdf")])
HumanMessage([image_block("a.png"), {"type": "text", "text": "x"}])
HumanMessage(content=[video_block("a.mp4"), pdf_block("a.pdf"), "x"])
block: dict[str, Any] = image_block("a.png")
print(block["type"])
"""


@pytest.mark.slow
def test_type_checkers_take_blocks_as_content_and_as_content_blocks(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    for checker in (
        ["mypy", "--strict", "--cache-dir", str(tmp_path)],
        ["pyright", "--pythonpath", sys.executable],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *checker, str(program)],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
