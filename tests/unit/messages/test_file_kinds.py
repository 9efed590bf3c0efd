"""File blocks: what cannot be shown is named; encrypted PDFs have a password."""

import base64
import io
import json
import zipfile

import pikepdf
import pytest
from drawn_pages import text_pdf
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image as PillowImage

from langchain_internvl import MediaPolicy, image_block, pdf_block
from langchain_internvl.errors import MediaError, MessageError
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.media_store import PasswordStore
from langchain_internvl.media.reader import MediaReader
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Document, Image, Text, Turn
from langchain_internvl.messages.expand import FileReader
from langchain_internvl.messages.references import normalise_messages
from langchain_internvl.messages.text_files import read_text_file

POLICY = MediaPolicy()


def encoded(data):
    return base64.b64encode(data).decode()


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize("label", [{}, {"mime_type": ""}, {"mime_type": "*/*"}, {"name": "a.bin"}])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped("a.txt"), "is a ZIP archive, .* unpack it"),
        (zipped("word/document.xml"), r"is a Word document \(.docx\), .*\(libreoffice"),
        (b"\x1f\x8b" + bytes(range(99)), "is a gzip archive"),
        (bytes(99), "is 99 zero bytes, .* again"),
        (b"\0\xfe\xfd\xfc" * 9, "is of an unknown format .it begins 00 fe .*libreoffice"),
    ],
)
def test_a_file_that_cannot_be_shown_is_named(data, words, label):
    for block in ({"type": "file", "base64": encoded(data)}, {"type": "file", "file_data": data}):
        with pytest.raises(MessageError, match=f"^here: the file {words}"):
            read_block({**block, **label}, "here")


def test_a_missing_file_is_not_called_anything_else():
    (part,) = read_block({"type": "file", "path": "/no/such/file.xyz123"}, "here")
    with pytest.raises(MediaError, match="no such file"):
        part.source.read(POLICY)


def test_what_is_accepted_is_said_for_other_types():
    with pytest.raises(MessageError, match=r"type application/zip .* takes images, videos"):
        read_block({"type": "file", "base64": "AAAA", "mime_type": "application/zip"}, "here")


SECRET = "correct horse"
LOCKED = text_pdf("Hello", encryption=pikepdf.Encryption(owner="o", user=SECRET))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(99)


def pages_of(part):
    reader = FileReader(POLICY, MediaReader(), Deadline(), 8)
    return reader.read(Turn("user", (part,))).parts


BLOCKS = {
    "helper": pdf_block(LOCKED, password=SECRET),
    "v1": {"type": "file", "base64": encoded(LOCKED), "password": SECRET},
    "openai": {"type": "file", "file": {"file_data": encoded(LOCKED), "password": SECRET}},
    "extras": {"type": "file", "base64": encoded(LOCKED), "extras": {"password": SECRET}},
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_an_encrypted_pdf_in_a_message(block):
    (part,) = read_block(block, "here")
    assert isinstance(part, Document)
    assert len(pages_of(part)) == 1
    assert SECRET not in repr(part)


def test_the_password_is_in_no_trace_and_lives_as_long_as_the_process():
    (message,) = normalise_messages([HumanMessage([BLOCKS["helper"]])], POLICY)
    trace = dumps(message)
    assert SECRET not in trace
    assert SECRET not in repr(message)
    (again,) = json.loads(trace)["kwargs"]["content"]
    (part,) = read_block(again, "here")
    assert len(pages_of(part)) == 1
    (same,) = normalise_messages([HumanMessage([BLOCKS["helper"]])], POLICY)
    assert dumps(same.content) == dumps(message.content)


def test_passwords_are_bounded():
    store = PasswordStore(most=3)
    names = [store.hold(f"secret {number}") for number in range(4)]
    assert store.hold("secret 1") == names[1]
    store.hold("secret 4")
    found = [store.find(name) for name in names]
    assert found == [None, "secret 1", None, "secret 3"]


def test_a_missing_and_a_wrong_password():
    with pytest.raises(MediaError, match=r"it is encrypted: pass password=.*pdf_block"):
        pages_of(Document(read_block(pdf_block(LOCKED), "here")[0].source))
    (part,) = read_block(pdf_block(LOCKED, password="wrong horse"), "here")
    with pytest.raises(MediaError, match="the given password is wrong") as raised:
        pages_of(part)
    assert "horse" not in str(raised.value)
    with pytest.raises(MessageError, match="password is a string, not int"):
        read_block({**pdf_block(LOCKED), "password": 1}, "here")


DATA_URL = f"data:application/pdf;base64,{encoded(LOCKED)}"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": encoded(LOCKED), "mime_type": "application/pdf"},
        {"type": "image_url", "image_url": {"url": DATA_URL}},
        {"type": "image_url", "image_url": DATA_URL},
        {"type": "input_image", "image_url": DATA_URL},
        {"type": "image", "source": {"type": "base64", "media_type": "application/pdf",
                                     "data": encoded(LOCKED)}},
    ],
)  # fmt: skip
def test_a_pdf_in_an_image_block(block):
    message = HumanMessage([{**block, "password": SECRET}])
    (normal,) = normalise_messages([message], POLICY)
    assert SECRET not in dumps(normal)
    (again,) = json.loads(dumps(normal))["kwargs"]["content"]
    for one in (message.content[0], again):
        (part,) = read_block(one, "here")
        assert isinstance(part, Document)
        assert len(pages_of(part)) == 1


def test_an_image_that_is_labelled_as_a_pdf_is_an_image():
    block = {"type": "image", "base64": encoded(PNG), "mime_type": "application/pdf"}
    with pytest.warns(UserWarning, match="password has no effect on a medium of kind 'image'"):
        (part,) = read_block({**block, "password": SECRET}, "here")
    assert isinstance(part, Image)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "hi", "password": SECRET},
        {"type": "text", "text": "hi", "extras": {"password": SECRET, "index": 1}},
        {"type": "reasoning", "reasoning": "hi", "password": SECRET},
        {"type": "cachePoint", "password": SECRET},
    ],
)
def test_a_password_beside_text_is_in_no_trace(block):
    call = {"type": "tool_call", "name": "open", "args": {"password": "an argument"}, "id": "1"}
    message = AIMessage([block, call])
    (normal,) = normalise_messages([message], POLICY)
    assert SECRET not in dumps(normal)
    assert "an argument" in dumps(normal)
    assert SECRET in repr(message)
    (same,) = normalise_messages([normal], POLICY)
    assert same is normal


def test_bytes_that_are_plainly_no_text_are_what_they_are():
    """An image declared as text was shown as letters."""
    image = image_block(PillowImage.new("RGB", (30, 20)))["base64"]
    label = {"type": "file", "mime_type": "text/plain"}
    (part,) = read_block({**label, "base64": image}, "block 1")
    assert isinstance(part, Image)
    (part,) = read_block({**label, "base64": encoded(text_pdf("x"))}, "block 1")
    assert isinstance(part, Document)
    for text in ("BM is no image, nor is %PDF-1.7", "Gr\u00fc\u00dfe", "II*"):
        for coding in ("utf-8", "utf-16"):
            (part,) = read_block({**label, "base64": encoded(text.encode(coding))}, "block 1")
            assert read_text_file(part, POLICY) == Text(text)


@pytest.mark.parametrize("head", ["data:image/png; base64,", " \n data:image/png;x=y;BASE64 ,"])
def test_data_urls_may_have_spaces(head):
    image = image_block(PillowImage.new("RGB", (30, 20)))["base64"]
    (part,) = read_block({"type": "image_url", "image_url": {"url": f"{head}{image}\n"}}, "block")
    assert part.source.read(POLICY) == base64.b64decode(image)
