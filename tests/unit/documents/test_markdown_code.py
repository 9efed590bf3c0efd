"""Code in Markdown is found."""

import pytest

from langchain_internvl.documents.markdown_code import code_spans


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a `b` c ``d ` e`` f", ["`b`", "``d ` e``"]),
        ("a\n```py\nb\n```\nc `d", ["```py\nb\n```"]),
        ("```\nb\n`````\nc", ["```\nb\n`````"]),
        ("````\n```\nb\n```\n````\nc", ["````\n```\nb\n```\n````"]),
        ("~~~\nb\n```\nc", ["~~~\nb\n```\nc"]),
        ("```x``` is it.\nb", ["```x```"]),
        ("````x``` y`\nb", []),
        ("~~~ `x`\nb\n~~~\nc", ["~~~ `x`\nb\n~~~"]),
        ("a `b\n\nc` d", []),
    ],
)
def test_code_is_found(text, code):
    assert [text[start:end] for start, end in code_spans(text)] == code
