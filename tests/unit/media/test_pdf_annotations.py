"""What stands on a page of a PDF beside its content: form fields, free text, stamps."""

import io

import pikepdf
import pytest
from drawn_pages import scripted, text_pdf
from pikepdf import Array, Dictionary, Name

from langchain_internvl import InternVLLoader, MediaPolicy
from langchain_internvl.media.pdf import read_pages
from langchain_internvl.media.pdf_text import stream_texts
from langchain_internvl.media.sources import BytesSource

PROSE = "The tenant is named below and has signed this form on every page of it.\n" * 3
FONT = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)


def annotated(**fields):
    """A page of prose with one annotation, which draws `drawn` and has the other entries."""
    drawn = fields.pop("drawn", None)
    parent = fields.pop("parent", None)
    with pikepdf.open(io.BytesIO(text_pdf(PROSE))) as pdf:
        one = Dictionary(Type=Name.Annot, Rect=Array([100, 500, 400, 524]), **{"F": 4, **fields})
        if drawn is not None:
            shown = pdf.make_stream(f"/Tx BMC q BT /F1 14 Tf 2 6 Td {drawn} ET Q EMC".encode())
            shown.Type, shown.Subtype, shown.BBox = Name.XObject, Name.Form, Array([0, 0, 300, 24])
            shown.Resources = Dictionary(Font=Dictionary(F1=FONT))
            states = Dictionary(Yes=shown, Off=pdf.make_stream(b""))
            one.AP = Dictionary(N=states if one.get("/FT") == Name.Btn else shown)
        one = pdf.make_indirect(one)
        pdf.pages[0].Annots = Array([one])
        if fields["Subtype"] == Name.Widget:
            top = one
            if parent is not None:
                top = pdf.make_indirect(Dictionary(Kids=Array([one]), **parent))
                one.Parent = top
            pdf.Root.AcroForm = Dictionary(
                Fields=Array([top]), DR=Dictionary(Font=Dictionary(F1=FONT)), DA="/F1 14 Tf 0 g"
            )
        buffer = io.BytesIO()
        pdf.save(buffer)
    return buffer.getvalue()


FIELD = {"Subtype": Name.Widget, "FT": Name.Tx, "T": "tenant", "DA": "/F1 14 Tf 0 g"}
BOX = {"Subtype": Name.Widget, "FT": Name.Btn, "T": "signed"}
SHOWN = {
    "field": ({**FIELD, "V": "Ada Lovelace", "drawn": "(Ada Lovelace) Tj"}, "Ada Lovelace"),
    "field without appearance": ({**FIELD, "V": "Ada Lovelace"}, "Ada Lovelace"),
    "field of a parent": (
        {
            "Subtype": Name.Widget,
            "drawn": "(Ada) Tj",
            "parent": {"FT": Name.Tx, "T": "tenant", "V": "Ada", "DA": "/F1 14 Tf 0 g"},
        },
        "Ada",
    ),
    "list": (
        {**FIELD, "FT": Name.Ch, "Ff": 1 << 17, "V": "Paris", "drawn": "(Paris) Tj"},
        "Paris",
    ),
    "checked box": ({**BOX, "V": Name.Yes, "AS": Name.Yes, "drawn": "(4) Tj"}, "[x] signed"),
    "free text": (
        {"Subtype": Name.FreeText, "Contents": "Paid", "DA": "/F1 9 Tf", "drawn": "(Paid) Tj"},
        "Paid",
    ),
    "stamp": ({"Subtype": Name.Stamp, "drawn": "(URGENT) Tj"}, ""),
}
NOT_SHOWN = {
    "empty field": {**FIELD, "drawn": ""},
    "empty text in a field": {**FIELD, "V": "", "drawn": "() Tj"},
    "blanks in a field": {**FIELD, "drawn": "<20 20> Tj 0 0 Td ( ) Tj"},
    "unchecked box": {**BOX, "V": Name.Off, "AS": Name.Off, "drawn": "(4) Tj"},
    "button": {**BOX, "Ff": 1 << 16, "drawn": "(Send) Tj"},
    "hidden": {"Subtype": Name.FreeText, "Contents": "Paid", "F": 2, "drawn": "(Paid) Tj"},
    "note": {"Subtype": Name.Text, "Contents": "Is this right?"},
    "link": {"Subtype": Name.Link},
}


@pytest.mark.parametrize(("fields", "text"), SHOWN.values(), ids=SHOWN)
def test_what_annotations_draw_is_not_lost(fields, text):
    """The text layer lacks it: the model reads the page, and `never` has it at the end."""
    data = annotated(**fields)
    llm, backend = scripted(["read by the model"])
    (document,) = InternVLLoader(data, llm=llm).load()
    assert document.page_content == "read by the model"
    assert document.metadata["text_layer"] == "has_all_text"
    assert len(backend.requests) == 1
    (document,) = InternVLLoader(data, llm=llm, ocr="never").load()
    assert document.page_content.split() == [*PROSE.split(), *text.split()]


@pytest.mark.parametrize("fields", NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_what_annotations_do_not_draw(fields):
    llm, backend = scripted(["read by the model"])
    (document,) = InternVLLoader(annotated(**fields), llm=llm).load()
    assert document.page_content.split() == PROSE.split()
    assert document.metadata["ocr"] == "text_layer"
    assert backend.requests == []


def cropped(data, *box):
    with pikepdf.open(io.BytesIO(data)) as pdf:
        pdf.pages[0].CropBox = Array(box)
        buffer = io.BytesIO()
        pdf.save(buffer)
    return BytesSource(buffer.getvalue(), "a.pdf")


def test_text_outside_the_crop_box_is_not_on_the_page():
    data = text_pdf("\n".join(["the heading", *[f"line {number}" for number in range(9)]]))
    whole, trimmed, lower = (
        next(stream_texts(source, MediaPolicy())).text.split("\n")
        for source in (
            BytesSource(data, "a.pdf"),
            cropped(data, 20, 20, 575, 822),
            cropped(data, 0, 0, 595, 735),
        )
    )
    assert [line.strip() for line in trimmed] == [line.strip() for line in whole]
    assert len(whole) == 10
    assert [line.strip() for line in lower] == [f"line {number}" for number in range(3, 9)]


@pytest.mark.parametrize("box", [(5000, 5000, 5600, 5800), (595, 0, 900, 842), (-50, -50, -1, -1)])
@pytest.mark.parametrize("is_inherited", [False, True])
def test_a_crop_box_beyond_the_paper_counts_as_none(box, is_inherited):
    """As in PDF.js; the error was "Crop exceeds page dimensions"."""
    whole = BytesSource(text_pdf(PROSE), "a.pdf")
    source = cropped(whole.data, *box)
    if is_inherited:
        with pikepdf.open(io.BytesIO(source.data)) as pdf:
            for name in ("/MediaBox", "/CropBox"):
                pdf.Root.Pages[name] = pdf.pages[0].obj[name]
                del pdf.pages[0].obj[name]
            buffer = io.BytesIO()
            pdf.save(buffer)
        source = BytesSource(buffer.getvalue(), "a.pdf")
    (image,), (expected,) = read_pages(source, MediaPolicy()), read_pages(whole, MediaPolicy())
    assert (image == expected).all()
    (page,) = stream_texts(source, MediaPolicy())
    assert page.text.split() == PROSE.split()
    assert (round(page.width), round(page.height)) == (595, 842)


def test_a_password_that_a_file_does_not_need_is_no_error():
    """Of a folder of files with one password, some only restrict printing."""
    data = text_pdf(PROSE, encryption=pikepdf.Encryption(owner="owner", user=""))
    source = BytesSource(data, "a.pdf")
    assert len(read_pages(source, MediaPolicy(), password="secret")) == 1
    (page,) = stream_texts(source, MediaPolicy(), password="secret")
    assert page.text.split() == PROSE.split()
