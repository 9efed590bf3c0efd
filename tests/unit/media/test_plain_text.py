"""Text files in any encoding."""

import base64

import pytest
from langchain_core.messages import HumanMessage

from langchain_internvl import ChatInternVL, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.plain_text import decode_text
from langchain_internvl.messages.conversation import Text
from langchain_internvl.messages.convert import to_turns

WORDS = "Größe;5 €\n"


def block(data, **fields):
    return {"type": "file", "base64": base64.b64encode(data).decode(), **fields}


def read(given):
    (turn,) = to_turns([HumanMessage([given])])
    return list(turn.parts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding):
    data = WORDS.encode(encoding)
    assert read(block(data, mime_type="text/csv")) == [Text(WORDS)]
    assert read(block(data)) == [Text(WORDS)]  # sniffed


@pytest.mark.parametrize("label", ["iso-8859-15", '"ISO-8859-15"', "'iso-8859-15'"])
def test_a_stated_encoding(label):
    data = WORDS.encode("iso-8859-15")
    mime_type = f"text/plain; charset={label}"
    assert read(block(data, mime_type=mime_type)) == [Text(WORDS)]
    url = f"data:text/plain;charset=iso-8859-15;base64,{base64.b64encode(data).decode()}"
    file = {"type": "file", "file": {"filename": "a.txt", "file_data": url}}
    assert read(file) == [Text(WORDS)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_two_bytes_a_letter_without_a_mark(encoding):
    data = "a,b\n1,2\n".encode(encoding)
    assert read(block(data, mime_type="text/csv")) == [Text("a,b\n1,2\n")]


@pytest.mark.parametrize("charset", ["", "; charset=unknown-8bit", ";charset=Binary"])
def test_other_text_is_guessed_with_a_warning(charset):
    """Also if its type says that the encoding is not known, as `file --mime` does."""
    data = block(WORDS.encode("cp1252"), mime_type=f"text/plain{charset}")
    with pytest.warns(UserWarning, match="block 1: the text is not UTF-8 and is read as"):
        parts = read(data)
    assert parts == [Text(WORDS)]


@pytest.mark.parametrize(
    ("data", "charset", "words"),
    [
        (b"a", "klingon", "unknown text encoding 'klingon'"),
        ("ö".encode("latin-1"), "utf-8", "is no text in utf-8"),
        (b"\xff\xfea", None, "is no text in utf-16"),
        ("ö".encode(), "ascii", "is no text in ascii"),
    ],
)
def test_wrong_statements_are_errors(data, charset, words):
    with pytest.raises(MediaError, match=words):
        decode_text(data, charset, "here")


def test_the_limit_is_that_of_the_model(tmp_path):
    """Of every form of a text file, also beside other texts; the default was used instead."""
    data = b"twenty bytes of text"
    coded = base64.b64encode(data).decode()
    (tmp_path / "a.txt").write_bytes(data)
    source = {"type": "base64", "media_type": "text/plain", "data": coded}
    document = {"type": "document", "source": source}
    several = {"type": "content", "content": [{"type": "text", "text": "one"}, document]}
    blocks = [
        block(data, mime_type="text/plain"),
        {"type": "file", "path": tmp_path / "a.txt"},
        {"type": "text-plain", "base64": coded, "mime_type": "text/plain"},
        document,
        {"type": "document", "source": several},
    ]

    def rendered(given, max_bytes):
        policy = MediaPolicy(max_bytes=max_bytes)
        llm = ChatInternVL(model="nano", backend=ScriptedBackend(["ok"]), media_policy=policy)
        message = HumanMessage([given])
        assert llm.invoke([message]).text == "ok"
        return llm.render([message])

    for given in blocks:
        assert data.decode() in rendered(given, len(data))
        with pytest.raises(MediaTooLargeError):
            rendered(given, len(data) - 1)
