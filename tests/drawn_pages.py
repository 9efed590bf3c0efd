"""Drawn pages and PDFs for the tests of documents."""

import io

import numpy as np
import pikepdf
import pypdfium2
from font_source_sans_pro import SourceSansProSemibold
from golden import checkpoint_folder
from PIL import Image, ImageDraw, ImageFont

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend


def draw_page(*lines, size=(620, 877), font=28, colour="black", ground="white", mode="RGB"):
    """A page with lines of text."""
    page = Image.new(mode, size, ground)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        place = (40, 40 + number * round(font * 1.6))
        draw.text(place, line, colour, ImageFont.truetype(SourceSansProSemibold, font))
    return page


def encode(page, format_="PNG", **options):
    buffer = io.BytesIO()
    page.save(buffer, format_, **options)
    return buffer.getvalue()


def scripted(reply, **settings):
    """A chat model that answers by a function of the request, or from a list; and its backend."""
    backend = ScriptedBackend(reply)
    folder = str(checkpoint_folder("qwen2"))
    return ChatInternVL(model=folder, backend=backend, **settings), backend


def long_reply(text):
    """A reply that reached its limit of tokens."""
    return [Delta(0, text), Delta(0, "", "length")]


def sure_reply(text, probability):
    """A reply whose tokens have a probability."""
    return [Delta(0, text, logprob=float(np.log(probability))),
            Delta(1, "", "stop", logprob=float(np.log(probability)))]  # fmt: skip


def scan_pdf(*pages, dpi=72):
    """A PDF of images."""
    buffer = io.BytesIO()
    first, *more = pages
    first.save(buffer, "PDF", resolution=dpi, save_all=True, append_images=more)
    return buffer.getvalue()


def text_pdf(*texts, page_size=(595, 842), **options):
    """A PDF with a text layer and no images; `options` are of pikepdf's `save`."""
    pdf = pikepdf.new()
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    for text in texts:
        page = pdf.add_blank_page(page_size=page_size)
        page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        lines = "".join(f"({line}) ' " for line in text.split("\n"))
        page.Contents = pdf.make_stream(f"BT /F1 12 Tf 14 TL 50 800 Td {lines} ET".encode())
    buffer = io.BytesIO()
    pdf.save(buffer, **options)
    return buffer.getvalue()


def text_of(data, number=0):
    """The text layer of a page, as PDFium reads it."""
    with pypdfium2.PdfDocument(data) as document:
        return document[number].get_textpage().get_text_range()
