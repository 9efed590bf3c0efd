"""Values of runs without media."""

import base64
import io
import json
import random
import re
from collections import namedtuple
from dataclasses import InitVar, dataclass, field

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from PIL import Image

from langchain_internvl import image_block
from langchain_internvl.tracing import without_media

ENCODED = "A" * 4000
MESSAGE = HumanMessage([{"type": "text", "text": "hi"}, {"type": "image", "base64": ENCODED}])
VALUES = {
    "message": MESSAGE,
    "prompt": ChatPromptTemplate([MESSAGE]).invoke({}),
    "document": Document(f"hi {ENCODED}"),
    "result": LLMResult(generations=[[ChatGeneration(message=MESSAGE)]]),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_media_are_replaced_in_all_that_holds_messages_or_text(value):
    before = repr(value)
    found = without_media({"output": value})["output"]
    assert type(found) is type(value)
    assert ENCODED not in repr(found)
    assert "<base64 of 3000 bytes>" in repr(found)
    assert "hi" in repr(found)
    assert repr(value) == before


def test_values_inside_themselves_and_deep_ones():
    value = {"image": b"123", "items": []}
    value["items"].append(value)
    assert without_media(value) == {"image": "<3 bytes>", "items": ["<the same dict again>"]}
    same = [b"1"]
    assert without_media([same, same]) == [["<1 bytes>"], ["<1 bytes>"]]
    message = HumanMessage("hi")
    message.additional_kwargs["self"] = message
    assert "again" in repr(without_media(message))
    deep = b"123"
    for _ in range(5000):
        deep = [deep]
    assert "levels deep" in repr(without_media(deep))


class Batch(list):
    def __init__(self, items, name):
        super().__init__(items)
        self.name = name


@dataclass(frozen=True, slots=True)
class Page:
    image: bytes
    scale: InitVar[int]
    size: int = field(init=False)

    def __post_init__(self, scale):
        object.__setattr__(self, "size", scale * len(self.image))


def test_classes_with_other_constructors():
    assert without_media(Batch([b"12", "a"], "x")) == ["<2 bytes>", "a"]
    row = namedtuple("Row", "data text")(b"12", "a")
    assert without_media(row) == type(row)("<2 bytes>", "a")
    page = Page(b"123", 2)
    found = without_media(page)
    assert (type(found), found.image, found.size, page.image) == (Page, "<3 bytes>", 6, b"123")
    assert without_media({(b"1", "a"), "b"}) == {("<1 bytes>", "a"), "b"}


RANDOM = random.Random(0).randbytes(3000)
PATH = "/srv/projects/InternVL/runs/2024-11-29_evaluation" * 8
JPEG = "/9j/" + base64.b64encode(RANDOM).decode()


@pytest.mark.parametrize(
    "text",
    [
        PATH,
        "/usr/local/share" * 30,
        PATH.replace("/", "\\/"),
        "open /tmp/" + "/".join(f"step{number}/checkpoint" for number in range(30)) + ".png",
        "/".join(f"step{number}/checkpoint" for number in range(3000)),
        "-" * 300,
        "\n".join([RANDOM[:32].hex(), RANDOM[32:64].hex()] * 4),
        "_".join(["quite", "a", "long", "name", "of", "a", "variable"] * 12),
    ],
)
def test_long_paths_and_names_stay(text):
    assert len(text) > 256
    assert without_media(text) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (JPEG, 3003),
        (f"data:image/jpeg;base64,{JPEG}", 3003),
        (JPEG[:256], 192),
        (PATH * 20 + "/" + base64.b64encode(RANDOM * 100).decode() + "==", 305880),
        (base64.urlsafe_b64encode(RANDOM).decode(), 3000),
        (base64.encodebytes(RANDOM).decode(), 3000),
        (base64.encodebytes(RANDOM).decode().replace("\n", "\\n"), 3000),
        (base64.b64encode(bytes([255]) * 300).decode(), 300),
        (base64.b64encode(bytes([255, 0, 0]) * 100).decode(), 300),
        (base64.b64encode(bytes([0, 0, 255]) * 100).decode(), 300),
        (base64.b64encode(bytes([127]) * 300).decode(), 300),
        (base64.b64encode(bytes([105, 255, 255]) * 100).decode(), 300),
        (base64.b64encode(bytes(range(256)) * 2).decode(), 512),
    ],
)
def test_base64_of_any_pixels_is_replaced(text, size):
    assert f"<base64 of {size} bytes>" in without_media(text)
    assert len(without_media(text)) < 60


def test_encoded_bytes_as_arrays_and_further_fields_of_messages():
    numbers = np.arange(3)
    assert without_media([np.zeros(9, np.uint8), numbers]) == [
        "<ndarray of shape (9,)>", numbers,
    ]  # fmt: skip
    message = HumanMessage("hi", screenshot=ENCODED, parts=[b"12"])
    found = without_media(message)
    assert (found.screenshot, found.parts) == ("<base64 of 3000 bytes>", ["<2 bytes>"])
    assert message.screenshot == ENCODED


def encode(mode, size, format_):
    file = io.BytesIO()
    Image.new(mode, size).save(file, format_)
    return file.getvalue()


ICON = encode("1", (16, 16), "PNG")  # 69 bytes: 92 digits
BITMAP = base64.b64encode(encode("1", (8, 8), "BMP")).decode()
PHOTO = base64.b64encode(encode("L", (8, 8), "JPEG")[:150]).decode()
SMALL = base64.b64encode(ICON).decode()
LINES = base64.encodebytes(ICON * 2).decode().strip()
COLOUR = base64.b64encode(bytes([255, 0, 0] * 4)).decode()


@pytest.mark.parametrize(
    "value",
    [
        image_block(ICON),
        HumanMessage([image_block(ICON)]),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{SMALL}"}},
        {"type": "image_url", "image_url": f"data:image/png;charset=x; base64, {SMALL}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": SMALL}},
        {"inlineData": {"mimeType": "image/bmp", "data": SMALL}},
        json.dumps([{"type": "image", "base64": SMALL}]),
        f"a picture: {SMALL}.",
        f"a picture:\n{LINES}",
        json.dumps({"picture": LINES}),
        PHOTO,
        PHOTO.replace("/", "\\/"),
        f"<{BITMAP}>",
    ],
)
def test_small_images_are_replaced_too(value):
    """An icon has fewer digits than a key of a service."""
    shown = str(without_media(value))
    assert "<base64 of " in shown
    assert not re.search(r"[A-Za-z0-9+/]{30}", shown)


def test_fields_of_files_are_replaced_however_short():
    block = {"type": "image", "base64": COLOUR, "mime_type": "image/x-raw"}
    assert without_media(block) == {**block, "base64": "<base64 of 12 bytes>"}
    words = {"type": "text", "media_type": "text/plain", "data": "hello"}
    named = {"data": "hello", "base64": "not encoded at all!", "url": "data:text/plain,hello"}
    empty = {"base64": "", "data": "", "mime_type": "image/png"}
    assert without_media([words, named, empty]) == [words, named, empty]
    escaped = {"mimeType": "image/png", "data": SMALL.replace("/", "\\/") + "\n"}
    assert without_media(escaped)["data"] == f"<base64 of {len(ICON)} bytes>"


@pytest.mark.parametrize("key", ["content", "base64", "data"])
def test_long_texts_are_searched_in_linear_time(key):
    """With quadratic time this would take minutes."""
    block = {key: "a" + " " * 500_000 + "!", "mime_type": "image/png"}
    assert without_media(block) == block


@pytest.mark.parametrize(
    "text",
    ["base64,encoded", "data:image/png;base64,", "/9j/", "R0lGOD is how a GIF begins", "Qk3",
     "sk-proj-Qk1iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQAAAAA3iMLMAAAADElEQVR4nGNg"],
)  # fmt: skip
def test_words_about_encodings_stay(text):
    assert without_media(text) == text
