"""Text files in any encoding."""

import base64

import pytest

from langchain_internvl.errors import MediaError
from langchain_internvl.media.plain_text import decode_text
from langchain_internvl.messages.blocks import read_block
from langchain_internvl.messages.conversation import Text

WORDS = "Größe;5 €\n"


def block(data, **fields):
    return {"type": "file", "base64": base64.b64encode(data).decode(), **fields}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding):
    data = WORDS.encode(encoding)
    assert read_block(block(data, mime_type="text/csv"), "here") == [Text(WORDS)]
    assert read_block(block(data), "here") == [Text(WORDS)]  # sniffed


@pytest.mark.parametrize("label", ["iso-8859-15", '"ISO-8859-15"', "'iso-8859-15'"])
def test_a_stated_encoding(label):
    data = WORDS.encode("iso-8859-15")
    mime_type = f"text/plain; charset={label}"
    assert read_block(block(data, mime_type=mime_type), "here") == [Text(WORDS)]
    url = f"data:text/plain;charset=iso-8859-15;base64,{base64.b64encode(data).decode()}"
    file = {"type": "file", "file": {"filename": "a.txt", "file_data": url}}
    assert read_block(file, "here") == [Text(WORDS)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_two_bytes_a_letter_without_a_mark(encoding):
    data = "a,b\n1,2\n".encode(encoding)
    assert read_block(block(data, mime_type="text/csv"), "here") == [Text("a,b\n1,2\n")]


@pytest.mark.parametrize("charset", ["", "; charset=unknown-8bit", ";charset=Binary"])
def test_other_text_is_guessed_with_a_warning(charset):
    """Also if its type says that the encoding is not known, as `file --mime` does."""
    data = block(WORDS.encode("cp1252"), mime_type=f"text/plain{charset}")
    with pytest.warns(UserWarning, match="here: the text is not UTF-8 and is read as Windows-1252"):
        parts = read_block(data, "here")
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
