"""Damaged pages of PDFs in the loader: an error or a flag, never a blank page."""

import io

import pikepdf
import pytest
from drawn_pages import scripted, text_pdf

from langchain_internvl import InternVLLoader, MediaPolicy
from langchain_internvl.errors import MediaError
from langchain_internvl.tools import DescribeImageTool, ReadTextTool

PROSE = "The invoice of March is due in thirty days after the goods have been delivered.\n" * 5


def damaged(*streams):
    """A PDF whose pages' content streams have these functions applied to their zlib data."""
    pdf = pikepdf.open(io.BytesIO(text_pdf(*[PROSE] * len(streams), compress_streams=True)))
    for page, change in zip(pdf.pages, streams, strict=True):
        raw = page.Contents.read_raw_bytes()
        page.Contents.write(change(raw), filter=pikepdf.Name.FlateDecode)
    buffer = io.BytesIO()
    level = pikepdf.StreamDecodeLevel.none
    pdf.save(buffer, compress_streams=False, stream_decode_level=level)
    return buffer.getvalue()


BROKEN = damaged(bytes, lambda raw: bytes(len(raw)), lambda raw: raw[: len(raw) - 12])


@pytest.mark.parametrize("ocr", ["auto", "always", "never"])
def test_a_page_of_which_nothing_is_drawn_is_an_error_and_not_blank(ocr):
    llm, _ = scripted(lambda _: "read")
    whole, lost, part = InternVLLoader(BROKEN, llm=llm, ocr=ocr, on_error="record").load()
    expected = "read" if ocr == "always" else PROSE.strip()
    assert (whole.page_content, whole.metadata.get("damage")) == (expected, None)
    assert lost.page_content == ""
    assert "cannot be decompressed" in lost.metadata["error"]
    assert "ocr" not in lost.metadata
    assert part.page_content in {"read", PROSE.strip()[: len(part.page_content)]}
    assert "error" not in part.metadata
    assert "content stream is cut off" in part.metadata["damage"]
    with pytest.raises(MediaError, match="cannot be decompressed"):
        InternVLLoader(BROKEN, llm=llm, ocr=ocr).load()


def test_an_empty_page_is_blank():
    llm, backend = scripted(lambda _: "read")
    (page,) = InternVLLoader(text_pdf(""), llm=llm).load()
    assert (page.page_content, page.metadata["ocr"]) == ("", "blank")
    assert not backend.requests


def test_the_read_tool_tells_the_agent(tmp_path):
    (tmp_path / "a.pdf").write_bytes(BROKEN)
    llm, _ = scripted(lambda _: "read")
    said = ReadTextTool(llm=llm, media_policy=MediaPolicy(roots=[tmp_path])).invoke(
        {"image": "a.pdf"}
    )
    first, second, third = said.split("\n\n")
    assert first == "Page 1 of 3:\nread"
    assert "cannot be decompressed" in second
    assert "Page 2 of 3:\n(This page cannot be shown: " in second
    assert third.startswith("Page 3 of 3:\nread\n(The file is damaged, and part of this page may")


def test_the_describe_tool_tells_of_every_damaged_page(tmp_path):
    def cut(raw):
        return raw[: len(raw) - 12]

    (tmp_path / "a.pdf").write_bytes(damaged(cut, bytes, cut))
    tool = DescribeImageTool(
        llm=scripted(lambda _: "Prose.")[0], media_policy=MediaPolicy(roots=[tmp_path])
    )
    said = tool.invoke({"image": "a.pdf"}).splitlines()
    assert said[0] == "Prose."
    assert [line.partition("may be missing")[0] for line in said[1:]] == [
        "(The file is damaged, and part of page 1 ",
        "(The file is damaged, and part of page 3 ",
    ]
