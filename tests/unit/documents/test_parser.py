"""Blobs to documents, page by page."""

import io
import threading

import numpy as np
import pytest
from golden import checkpoint_folder
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents.base import Blob
from patience import PATIENCE
from PIL import Image, PngImagePlugin

from langchain_internvl import ChatInternVL, InternVLImageParser, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import EngineBusyError, MediaError, RequestError


def parser_of(*replies, wait=lambda: None, **settings):
    """A parser over a model that gives replies; a reply may be an error.

    Pages are in flight together, so replies go by what a page shows: the first is for red, the
    second for green, the third for blue; where pages look alike, there is one reply.
    """
    queue = list(replies)

    def reply(request):
        place = request.tiles[0][0, 9, 9] if len(queue) > 1 else [1]
        said = queue[int(np.argmax(place))]
        wait()
        if isinstance(said, Exception):
            raise said
        return said

    backend = ScriptedBackend(reply)
    llm = ChatInternVL(model=str(checkpoint_folder("qwen2")), backend=backend)
    return InternVLImageParser(llm, **settings), backend


def encoded(format_, *colours, **options):
    first, *more = [Image.new("RGB", (40, 30), colour) for colour in colours]
    buffer = io.BytesIO()
    if more:
        options |= {"save_all": True, "append_images": more}
    first.save(buffer, format_, **options)
    return buffer.getvalue()


def array(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        encoded("PNG", "red"),
        encoded("JPEG", "red", quality=100, subsampling=0),
        encoded("TIFF", "red"),
        array(np.full((30, 40, 3), (255, 0, 0), np.uint8)),
    ],
    ids=["png", "jpeg", "tiff", "npy"],
)
def test_a_picture_is_one_page(data):
    parser, backend = parser_of("Hello")
    blob = Blob.from_data(data, path="scans/a.bin", metadata={"box": 3})
    (document,) = parser.lazy_parse(blob)
    assert document.page_content == "Hello"
    expected = {"source": "scans/a.bin", "page": 0, "total_pages": 1, "box": 3, "ocr": "model"}
    assert expected.items() <= document.metadata.items()
    colour = backend.requests[0].tiles[0][0, 0, 0]
    assert (colour[0] > 250, max(colour[1:]) < 5) == (True, True)


@pytest.mark.parametrize("format_", ["TIFF", "PDF"])
def test_many_pages_are_many_documents_in_their_order(format_):
    parser, backend = parser_of("one", "two", "three")
    blob = Blob.from_data(encoded(format_, "red", "green", "blue"))
    documents = list(parser.lazy_parse(blob))
    assert [one.page_content for one in documents] == ["one", "two", "three"]
    assert [one.metadata["page"] for one in documents] == [0, 1, 2]
    assert {one.metadata["total_pages"] for one in documents} == {3}
    assert len(backend.requests) == 3


def test_pages_are_in_flight_together_and_come_in_order():
    together = threading.Barrier(3, timeout=PATIENCE)
    parser, _ = parser_of("one", "two", "three", wait=together.wait)
    blob = Blob.from_data(encoded("TIFF", "red", "green", "blue"))
    assert [one.page_content for one in parser.lazy_parse(blob)] == ["one", "two", "three"]


def test_one_at_a_time_is_one_at_a_time():
    parser, backend = parser_of("one", "two", concurrency=1)
    documents = parser.lazy_parse(Blob.from_data(encoded("TIFF", "red", "green")))
    assert next(documents).page_content == "one"
    assert len(backend.requests) == 1


def test_a_page_that_fails_is_reported_and_the_others_follow():
    parser, _ = parser_of("one", EngineBusyError("too many"), "three")
    blob = Blob.from_data(encoded("TIFF", "red", "green", "blue"))
    first, second, third = parser.lazy_parse(blob)
    assert (first.page_content, third.page_content) == ("one", "three")
    assert (second.page_content, second.metadata["error"]) == ("", "too many")
    assert second.metadata["page"] == 1


def test_a_page_that_is_damaged_is_reported_and_the_others_follow():
    data = bytearray(encoded("TIFF", "red", "green", "blue", compression="tiff_deflate"))
    with Image.open(io.BytesIO(bytes(data))) as image:
        image.seek(1)
        (offset,) = image.tag_v2[273]
    data[offset : offset + 12] = b"\xff" * 12
    parser, _ = parser_of("one", "two", "three")
    first, second, third = parser.lazy_parse(Blob.from_data(bytes(data)))
    assert (first.page_content, third.page_content) == ("one", "three")
    assert "page 1" in second.metadata["error"]


def test_a_chain_of_pages_that_is_broken_is_read_up_to_there():
    data = encoded("TIFF", "red", "green", "blue")
    parser, _ = parser_of("one")
    first, second, third = parser.lazy_parse(Blob.from_data(data[:5000]))  # in the second page
    assert (first.page_content, first.metadata["total_pages"]) == ("one", 3)
    assert "page 1: the image is truncated" in second.metadata["error"]
    assert "this page and all after it are damaged" in third.metadata["error"]


def test_a_page_of_a_pdf_that_cannot_be_drawn_is_reported_and_the_others_follow(caplog):
    kids = b"<</Type/Pages/Kids[3 0 R null 3 0 R]/Count 3>>"
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", kids,
               b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 90 90]>>"]  # fmt: skip
    pdf = b"%PDF-1.4\n" + b"".join(
        b"%d 0 obj%sendobj\n" % (number, text) for number, text in enumerate(objects, 1)
    )
    parser, _ = parser_of("one", skip_blank=False)
    first, second, third = parser.lazy_parse(
        Blob.from_data(pdf + b"trailer<</Root 1 0 R>>", path="a.pdf")
    )
    assert [first.page_content, third.page_content] == ["one", "one"]
    assert [one.metadata["page"] for one in (first, second, third)] == [0, 1, 2]
    assert "page 1" in second.metadata["error"]
    assert "not read: a.pdf" in caplog.text  # loaders that drop metadata leave this at least


def test_arrays_as_loaders_of_pdfs_make_them():
    one_bit = np.zeros((30, 40), bool)
    one_bit[:, :20] = True
    deep = np.full((30, 40), 65535, np.uint16)
    grey_alpha = np.full((30, 40, 2), 255, np.uint8)
    clear = np.zeros((30, 40, 2), np.uint8)  # black, and all of it transparent
    rgb_clear = np.zeros((30, 40, 4), np.uint8)
    every = (one_bit, deep, grey_alpha, clear, rgb_clear)
    for values, bright in ((values, 255) for values in every):
        parser, backend = parser_of("x")
        assert next(parser.lazy_parse(Blob.from_data(array(values)))).page_content == "x"
        assert backend.requests[0].tiles[0][0, 5, 5, 0] == bright


def test_a_picture_that_speaks_of_pdfs_is_a_picture():
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "%PDF-1.4 converted")
    parser, _ = parser_of("x")
    blob = Blob.from_data(encoded("PNG", "red", pnginfo=info))
    assert next(parser.lazy_parse(blob)).page_content == "x"


def test_errors_can_be_raised():
    parser, _ = parser_of(EngineBusyError("too many"), on_error="raise")
    with pytest.raises(EngineBusyError):
        list(parser.lazy_parse(Blob.from_data(encoded("PNG", "red"))))
    with pytest.raises(MediaError):
        list(parser.lazy_parse(Blob.from_data(b"no picture")))
    with pytest.raises(
        RequestError, match="'report', 'record', 'raise', 'skip' or None, not 'ignore'"
    ):
        parser_of(on_error="ignore")


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", b"%PDF-1.7 broken", b"\x93NUMPY\x01\x00", array(np.zeros((2, 2)))],
    ids=["empty", "text", "pdf", "npy", "floats"],
)
def test_blobs_that_cannot_be_read_raise_or_are_reported(data):
    with pytest.raises(MediaError, match=r"a\.bin"):
        list(parser_of()[0].lazy_parse(Blob.from_data(data, path="a.bin")))
    parser, backend = parser_of(on_error="report")
    (document,) = parser.lazy_parse(Blob.from_data(data, path="a.bin"))
    assert document.page_content == ""
    assert "a.bin" in document.metadata["error"]
    assert document.metadata["source"] == "a.bin"
    assert backend.requests == []


def test_objects_in_arrays_are_not_unpickled():
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    parser, _ = parser_of(on_error="report")
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    (document,) = parser.lazy_parse(Blob.from_data(buffer.getvalue()))
    assert "no array that can be read" in document.metadata["error"]


def test_a_missing_file_is_reported(tmp_path):
    parser, _ = parser_of(on_error="report")
    (document,) = parser.lazy_parse(Blob.from_path(tmp_path / "none.png"))
    assert "no such file" in document.metadata["error"]


def test_a_file_over_the_limit_is_refused_unread(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(10**12)  # more than the memory of this machine
    parser, _ = parser_of(on_error="report")
    (document,) = parser.lazy_parse(Blob.from_path(tmp_path / "large.png"))
    assert "larger than MediaPolicy.max_bytes" in document.metadata["error"]


def test_a_reply_that_ended_by_itself_keeps_its_text_and_is_flagged():
    table = "Name\n" + "No. 10\n" * 25
    parser, backend = parser_of(table)
    (document,) = parser.lazy_parse(Blob.from_data(encoded("PNG", "red")))
    assert document.page_content == table.strip()
    assert (document.metadata["problem"], len(backend.requests)) == ("repetition", 1)


def test_photographs_of_phones_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (90, 30), "white")
    picture.paste("red", (0, 0, 30, 30))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    parser, backend = parser_of("x")
    list(parser.lazy_parse(Blob.from_data(buffer.getvalue())))
    thumbnail = backend.requests[0].tiles[0][-1]
    assert thumbnail[20, :, 1].max() < 50  # what was on the left is on top
    assert thumbnail[-20, :, 1].min() > 200


def test_limits_are_those_of_the_policy():
    policy = MediaPolicy(max_pages=2, max_pixels=1000)
    parser, _ = parser_of(media_policy=policy, on_error="report")
    (document,) = parser.lazy_parse(Blob.from_data(encoded("TIFF", "red", "green", "blue")))
    assert "more pages than MediaPolicy.max_pages=2" in document.metadata["error"]
    (document,) = parser.lazy_parse(Blob.from_data(encoded("PNG", "red")))
    assert "max_pixels" in document.metadata["error"]


def test_it_serves_as_images_parser_of_other_loaders():
    """They hand over arrays and take the text of the first document."""

    class Loader(BaseLoader):
        def __init__(self, images_parser):
            self.images_parser = images_parser

        def lazy_load(self):
            blob = Blob.from_data(
                array(np.zeros((30, 40), np.uint8)), mime_type="application/x-npy"
            )
            yield next(self.images_parser.lazy_parse(blob))

    parser, _ = parser_of("inside the PDF")
    assert Loader(parser).load()[0].page_content == "inside the PDF"
