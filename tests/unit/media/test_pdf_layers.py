"""Hidden layers of PDF pages."""

import io

import pikepdf
import pypdfium2
import pytest
from drawn_pages import text_pdf

from langchain_internvl.documents.text_layer import failed_test
from langchain_internvl.media.pdf_layers import has_hidden_layer
from langchain_internvl.media.pdf_text import stream_texts
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource

NAME, DICTIONARY, ARRAY = pikepdf.Name, pikepdf.Dictionary, pikepdf.Array
SECRET = b"BT /F1 24 Tf 50 600 Td (an older draft of this page) Tj ET "


def layered(policy, settings, *, is_form):
    """A PDF whose text is in layer A, or in A and B by a policy; `settings` tell what is off."""
    pdf = pikepdf.open(io.BytesIO(text_pdf("")))
    groups = {one: pdf.make_indirect(DICTIONARY(Type=NAME.OCG, Name=one)) for one in "AB"}
    shown = {
        f"/{key}": NAME(one) if one[0] == "/" else ARRAY(groups[letter] for letter in one)
        for key, one in settings.items()
    }
    pdf.Root.OCProperties = DICTIONARY(OCGs=ARRAY(groups.values()), D=DICTIONARY(shown))
    membership = groups["A"]
    if policy is not None:
        both = DICTIONARY(Type=NAME.OCMD, OCGs=ARRAY(groups.values()), P=NAME(policy))
        membership = pdf.make_indirect(both)
    page = pdf.pages[0]
    if is_form:
        fonts = DICTIONARY(Font=page.Resources.Font)
        form = pdf.make_stream(SECRET, Resources=fonts, BBox=ARRAY([0, 0, 595, 842]))
        form.Type, form.Subtype, form.OC = NAME.XObject, NAME.Form, membership
        page.Resources.XObject = DICTIONARY(X=form)
    else:
        page.Resources.Properties = DICTIONARY(A=membership)
    page.Contents = pdf.make_stream(b"/X Do" if is_form else b"/OC /A BDC " + SECRET + b"EMC")
    return pdf


@pytest.mark.parametrize(
    ("policy", "settings", "is_hidden"),
    [(None, {"OFF": "A"}, True), (None, {"OFF": "B"}, False), (None, {}, False),
     (None, {"BaseState": "/OFF", "ON": "B"}, True),
     (None, {"BaseState": "/OFF", "ON": "A"}, False),
     ("/AnyOn", {"OFF": "A"}, False), ("/AnyOn", {"OFF": "AB"}, True),
     ("/AllOn", {"OFF": "B"}, True), ("/AnyOff", {"OFF": "A"}, False), ("/AnyOff", {}, True),
     ("/AllOff", {"OFF": "A"}, True), ("/AllOff", {"OFF": "AB"}, False)],
)  # fmt: skip
@pytest.mark.parametrize("is_form", [False, True])
def test_layers_are_hidden_that_pdfium_does_not_draw(policy, settings, is_hidden, is_form):
    with layered(policy, settings, is_form=is_form) as pdf:
        assert has_hidden_layer(pdf.Root, pdf.pages[0].obj) is is_hidden
        buffer = io.BytesIO()
        pdf.save(buffer)
    with pypdfium2.PdfDocument(buffer.getvalue()) as document:
        drawn = document[0].render().to_pil().convert("L")
    assert (drawn.getextrema() == (255, 255)) is is_hidden


def test_a_text_layer_with_hidden_text_is_not_kept():
    with layered(None, {"OFF": "A"}, is_form=False) as pdf:
        buffer = io.BytesIO()
        pdf.save(buffer)
    (page,) = stream_texts(BytesSource(buffer.getvalue(), "a"), MediaPolicy())
    assert page.text == "an older draft of this page"
    assert failed_test(page) == "shows_all_text"
