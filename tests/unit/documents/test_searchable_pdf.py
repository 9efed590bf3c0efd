"""Searchable PDFs: the invisible layer of text, and where it stands."""

import io
import random

import pikepdf
import pypdfium2
import pytest
from drawn_pages import draw_page, encode, scan_pdf, scripted, text_of, text_pdf
from langchain_core.documents import Document
from PIL.PngImagePlugin import PngInfo

from langchain_internvl import InternVLLoader
from langchain_internvl.documents.searchable_pdf import make_searchable
from langchain_internvl.errors import (
    MediaError,
)
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource

PROSE = "The invoice of March is due in thirty days after the goods have been delivered.\n" * 5


def searchable(data, reply, **settings):
    llm, _ = scripted(reply)
    pages = InternVLLoader(data, llm=llm, **settings).load()
    password = settings.get("password")
    return make_searchable(BytesSource(data, "a"), pages, MediaPolicy(), password=password)


def test_a_scan_looks_the_same_and_has_its_text():
    scan = scan_pdf(draw_page("Scanned", size=(595, 842)), draw_page(size=(595, 842)))
    text = "Première ligne\n\n漢字 \U0001f600 ({\\})\n" + "word " * 60
    made = searchable(scan, [text])
    assert text_of(made).split() == text.split()
    assert text_of(made, 1) == ""
    with pypdfium2.PdfDocument(scan) as old, pypdfium2.PdfDocument(made) as new:
        assert old[0].render().to_pil().tobytes() == new[0].render().to_pil().tobytes()
        found = new[0].get_textpage().search("漢字").get_next()
        assert found is not None


@pytest.mark.parametrize(
    "line",
    ["שלום עולם 123 abc", "مرحبا بالعالم 2024 نص", "חשבון מס׳ 2041: סה״כ 75 ₪", "שָׁלוֹם (עולם)",
     "مُحَمَّد", "الفاتورة رقم ٢٠٤١ بتاريخ 12/03/2024", "The word שלום עולם, among others",
     "中文 日本語 한국어", "The word (שלום) here", "סעיף 3(א) לחוק (abc) עולם", "a < ב",
     "שלום! a (עולם!", "مرحبا (₪)Def«עולם - 3.5% -"],
)  # fmt: skip
def test_text_of_every_direction_is_found_as_it_is_read(line):
    made = searchable(scan_pdf(draw_page("x")), [f"{line}\nSecond line"])
    assert text_of(made).splitlines() == [line, "Second line"]
    with pypdfium2.PdfDocument(made) as document:
        assert document[0].get_textpage().search(line.split()[0]).get_next() is not None


def test_lines_in_many_directions_are_found_as_they_are_read():
    chance = random.Random(1)
    words = ["שלום", "עולם", "abc", "Def", "12", "3.5%", "مرحبا", "٢٠٢٤", "10/12/2024", "₪", "ב"]
    between = [" ", " (", ") ", ", ", " - ", "] [", ")", "(", "»", " «", ": ", "; ", "! ", "{", "<"]
    lines = [
        "".join(chance.choice(words) + chance.choice(between) for _ in range(2, 7)).strip()
        for _ in range(100)
    ]
    pages = [Document(page_content=line, metadata={"page": number, "ocr": "model"})
             for number, line in enumerate(lines)]  # fmt: skip
    scan = BytesSource(scan_pdf(*[draw_page("x", size=(595, 842))] * len(lines)), "a")
    made = make_searchable(scan, pages, MediaPolicy())
    assert [text_of(made, number) for number in range(len(lines))] == lines


@pytest.mark.parametrize("lines", ["中 文 字", "a b c", "ab c de", "שלום ב x", "| | 1 ."])
def test_lines_of_one_letter_are_found(lines):
    made = searchable(scan_pdf(draw_page("x")), [lines.replace(" ", "\n")])
    assert [line.strip() for line in text_of(made).splitlines()] == lines.split()


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_the_layer_runs_as_the_page_is_read(rotate, turned):
    with pikepdf.open(io.BytesIO(scan_pdf(draw_page("x", size=(400, 600))))) as pdf:
        pdf.pages[0].Rotate = rotate
        pdf.pages[0].CropBox = [100, 150, 400, 550]
        buffer = io.BytesIO()
        pdf.save(buffer)
    page = Document(
        page_content="upper\nlower", metadata={"page": 0, "ocr": "model", "rotation": turned}
    )
    made = make_searchable(BytesSource(buffer.getvalue(), "a"), [page], MediaPolicy())
    with pypdfium2.PdfDocument(made) as document:
        assert document[0].get_rotation() == (rotate + turned) % 360
        text = document[0].get_textpage()
        assert text.get_text_range().split() == ["upper", "lower"]
        at = text.get_text_range().index("lower")
        (x, y, *_), (x2, y2, *_), (x3, y3, *_) = (text.get_charbox(n) for n in (0, 4, at))
    assert all(100 <= one <= 400 for one in (x, x2, x3))
    assert all(150 <= one <= 550 for one in (y, y2, y3))
    along, down = (x2 - x, y2 - y), (x3 - x, y3 - y)
    degrees = (rotate + turned) % 360
    sign = 1 if degrees in {0, 90} else -1
    along_axis, down_axis = (1, 0) if degrees in {90, 270} else (0, 1)
    assert along[along_axis] * sign > 5
    assert abs(along[1 - along_axis]) < 1
    assert down[down_axis] * (-1 if degrees in {0, 270} else 1) > 50


def test_a_kept_text_layer_gets_no_second_one():
    data = text_pdf(PROSE)
    assert text_of(searchable(data, [])) == text_of(data)


def changed_pdf(change, *pages):
    with pikepdf.open(io.BytesIO(scan_pdf(*pages or [draw_page("x", size=(595, 842))]))) as pdf:
        change(pdf)
        buffer = io.BytesIO()
        pdf.save(buffer)
    return buffer.getvalue()


def places(data):
    """The text of a page, and where its first letter is."""
    with pypdfium2.PdfDocument(data) as document:
        text = document[0].get_textpage()
        return text.get_text_range().split(), text.get_charbox(0)


def test_the_layer_is_where_the_page_is_whatever_its_content_leaves_behind():
    """Scanners write `612 0 0 792 0 0 cm /Im0 Do` without restoring the scale."""

    def leave_scaled(pdf):
        page = pdf.pages[0]
        page.contents_coalesce()
        data = b"300 0 0 400 0 0 cm 0 0 0.1 0.1 re W n " + page.Contents.read_bytes()
        page.Contents = pdf.make_stream(data)

    page = Document("upper\nlower", metadata={"page": 0, "ocr": "model"})
    plain, scaled = (
        places(make_searchable(BytesSource(changed_pdf(change), "a"), [page], MediaPolicy()))
        for change in (lambda pdf: None, leave_scaled)
    )
    assert plain == scaled
    assert plain[0] == ["upper", "lower"]


@pytest.mark.parametrize("box", [(-300, -300, 900, 1200), (5000, 5000, 5600, 5800)])
def test_a_page_with_a_crop_beyond_its_paper_has_the_layer_on_it(box):
    def crop(pdf):
        pdf.pages[0].CropBox = list(box)

    page = Document("upper\nlower", metadata={"page": 0, "ocr": "model"})
    plain, cropped = (
        places(make_searchable(BytesSource(changed_pdf(change), "a"), [page], MediaPolicy()))
        for change in (lambda pdf: None, crop)
    )
    assert plain == cropped


def test_a_second_layer_leaves_the_first_one_readable():
    page = Document("upper lower", metadata={"page": 0, "ocr": "model"})
    first = make_searchable(BytesSource(changed_pdf(lambda pdf: None), "a"), [page], MediaPolicy())
    page.page_content = "Other words"
    second = make_searchable(BytesSource(first, "a"), [page], MediaPolicy())
    assert sorted(text_of(second).split()) == ["Other", "lower", "upper", "words"]


def test_the_layer_has_the_words_of_tables_without_tags():
    written = "# Costs\n\n<table>\n<tr><td>Rent &amp; heat</td><td>900</td></tr>\n</table>\n\nx < y"
    made = searchable(scan_pdf(draw_page("x")), [written], output="markdown")
    assert text_of(made).splitlines() == ["# Costs", "Rent & heat | 900", "x < y"]


def test_an_image_that_mentions_a_pdf_is_an_image():
    info = PngInfo()
    info.add_text("Source", "%PDF-1.7 scan")
    made = searchable(encode(draw_page("x"), pnginfo=info), ["Read"])
    assert text_of(made).strip() == "Read"


def test_a_pdf_with_other_pages_for_another_reader_is_refused():
    page = Document("x", metadata={"page": 0, "ocr": "model", "total_pages": 3})
    with pytest.raises(MediaError, match="3 pages were read, and 1 are found"):
        make_searchable(BytesSource(scan_pdf(draw_page("x")), "a"), [page], MediaPolicy())


def test_encrypted_pdfs_become_searchable():
    security = pikepdf.Encryption(owner="o", user="secret")
    with pikepdf.open(io.BytesIO(scan_pdf(draw_page("Secret")))) as pdf:
        buffer = io.BytesIO()
        pdf.save(buffer, encryption=security)
    assert text_of(searchable(buffer.getvalue(), ["Secret"], password="secret")).strip() == "Secret"
