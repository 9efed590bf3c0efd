"""PDFs whose pages are a stand-in for their content are said to be so, and no others."""

import io
import logging
import re

import pikepdf
import pytest
from drawn_pages import scripted, text_pdf
from pikepdf import Array, AttachedFileSpec, Dictionary, Name, String

from langchain_internvl import InternVLLoader, MediaPolicy
from langchain_internvl.media.pdf import read_pages
from langchain_internvl.media.pdf_stand_in import stand_in
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.tools.read_text import ReadTextTool

NOTICE = "Please wait... If this message is not replaced, your reader cannot display the form."


def made(change, text=NOTICE):
    with pikepdf.open(io.BytesIO(text_pdf(text))) as pdf:
        change(pdf)
        buffer = io.BytesIO()
        pdf.save(buffer)
    return buffer.getvalue()


def xfa(*, is_dynamic):
    def change(pdf):
        form = pdf.make_stream(b"<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'/>")
        pdf.Root.AcroForm = Dictionary(Fields=Array(), XFA=Array([String("template"), form]))
        if is_dynamic:
            pdf.Root.NeedsRendering = True

    return change


def needs_rendering(pdf):
    pdf.Root.NeedsRendering = True


def attached(*names, relationship=None, has_collection=False, **collection):
    def change(pdf):
        for name in names:
            spec = AttachedFileSpec(pdf, b"x", filename=name)
            if relationship:
                spec.obj.AFRelationship = Name(relationship)
            pdf.attachments[name] = spec
        if has_collection:
            pdf.Root.Collection = Dictionary(Type=Name.Collection, **collection)

    return change


PORTFOLIO = attached("a.pdf", "b.docx", has_collection=True)
CASES = {
    "dynamic form": (xfa(is_dynamic=True), "dynamic XFA form"),
    "form with pages of its own": (xfa(is_dynamic=False), None),
    "rendering without a form": (needs_rendering, None),
    "portfolio": (PORTFOLIO, r"portfolio.*\(2\)"),
    "tiles": (attached("a.pdf", has_collection=True, View=Name.T), r"portfolio.*\(1\)"),
    "hidden collection": (attached("a.pdf", has_collection=True, View=Name.H), None),
    "empty collection": (attached(has_collection=True), None),
    "invoice with its numbers": (attached("factur-x.xml", relationship="/Alternative"), None),
    "wrapper": (
        attached("secret.pdf", has_collection=True, View=Name.H, relationship="/EncryptedPayload"),
        "wrapper of an encrypted document",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_a_stand_in(case):
    change, reason = CASES[case]
    with pikepdf.open(io.BytesIO(made(change))) as pdf:
        found = stand_in(pdf)
    assert re.search(reason, found) if reason else found is None


def test_a_message_warns():
    with pytest.warns(UserWarning, match=r"the form: it is a dynamic XFA form"):
        read_pages(BytesSource(made(xfa(is_dynamic=True)), "the form"), MediaPolicy())


@pytest.mark.parametrize("ocr", ["always", "auto"])
def test_documents_say_it_once_for_a_file(ocr, caplog):
    def two_pages(pdf):
        PORTFOLIO(pdf)
        pdf.pages.append(pdf.pages[0])

    loader = InternVLLoader(made(two_pages, "text " * 40), llm=scripted(lambda _: "x")[0], ocr=ocr)
    with caplog.at_level(logging.WARNING):
        pages = loader.load()
    assert ["portfolio" in page.metadata["stand_in"] for page in pages] == [True, True]
    assert len([one for one in caplog.messages if "portfolio" in one]) == 1


def test_tools_tell_the_agent(tmp_path):
    (tmp_path / "form.pdf").write_bytes(made(xfa(is_dynamic=True)))
    policy = MediaPolicy(roots=(str(tmp_path),))
    tool = ReadTextTool(llm=scripted(lambda _: NOTICE)[0], media_policy=policy)
    said = tool.invoke({"image": "form.pdf"})
    assert "may have more than this page shows: it is a dynamic XFA form" in said
