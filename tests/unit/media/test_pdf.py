"""Pages of PDFs as pictures."""

import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from golden import SCAN
from patience import PATIENCE
from PIL import Image

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import MediaError, MediaTooLargeError, RequestTimeoutError
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.pdf import LONG_SIDE, read_pages
from langchain_internvl.media.sources import BytesSource, PathSource

POLICY = MediaPolicy()
COLOURS = ("red", "lime", "blue")


def make_pdf(*colours, size=(300, 200)):
    """A PDF with a page of each colour."""
    pages = [Image.new("RGB", size, colour) for colour in colours]
    buffer = io.BytesIO()
    pages[0].save(buffer, "PDF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()


def read(data, policy=POLICY):
    return read_pages(BytesSource(data, "paper"), policy)


def test_pages_in_order():
    pages = read(make_pdf(*COLOURS))
    assert len(pages) == 3
    for page, colour in zip(pages, COLOURS, strict=True):
        height, width, _ = page.shape
        assert max(width, height) == LONG_SIDE
        assert abs(width / height - 1.5) < 0.01
        middle = page[height // 2, width // 2].astype(int)
        assert np.abs(middle - np.asarray(Image.new("RGB", (1, 1), colour))[0, 0]).max() < 4


def test_a_real_scan():
    (page,) = read_pages(PathSource(SCAN), POLICY)
    assert page.shape[0] == LONG_SIDE
    ink = page.min(-1) < 128
    assert 0.005 < ink.mean() < 0.3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"no PDF", "no PDF that can be read"),
        (b"%PDF-1.4\n%%EOF", "no PDF that can be read"),
        (make_pdf("red")[:200], "no PDF that can be read"),
    ],
)
def test_what_is_no_pdf(data, words):
    with pytest.raises(MediaError, match=f"paper: .*{words}"):
        read(data)


def test_limits():
    data = make_pdf(*COLOURS)
    assert len(read(data, MediaPolicy(max_pages=3))) == 3
    with pytest.raises(MediaTooLargeError, match=r"3 pages are over MediaPolicy\.max_pages=2"):
        read(data, MediaPolicy(max_pages=2))
    with pytest.raises(MediaTooLargeError, match="max_bytes"):
        read(data, MediaPolicy(max_bytes=100))


@pytest.mark.slow
def test_damaged_pdfs_give_pages_or_a_typed_error():
    whole = SCAN.read_bytes()
    chance = random.Random(0)
    outcomes = set()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(chance.choice((5, 500))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        try:
            outcomes.add(len(read(bytes(data))))
        except MediaError as error:
            outcomes.add(error.source)
    assert outcomes == {1, "paper"}


def test_many_threads():
    data = make_pdf(*COLOURS)
    with ThreadPoolExecutor(4) as pool:
        for pages in pool.map(lambda _: read(data), range(8)):
            assert len(pages) == 3
    assert threading.active_count() < 20


def nested_forms(depth):
    """A small PDF that takes ten times as long to draw for every level of it."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources 5 0 R>>",
        b"<</Length 5>>stream\n/F Do\nendstream",
        b"<</XObject<</F 6 0 R>>>>",
    ]
    for level in range(depth):
        last = level == depth - 1
        drawn = b"0 0 200 200 re f " * 10 if last else b"/F Do " * 10
        below = b"" if last else b"/Resources<</XObject<</F %d 0 R>>>>" % (7 + level)
        objects.append(
            b"<</Type/XObject/Subtype/Form/BBox[0 0 200 200]%s/Length %d>>stream\n%s\nendstream"
            % (below, len(drawn), drawn)
        )
    body = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (len(objects) + 1, table, len(objects) + 1, len(body))
    )


def test_a_pdf_that_takes_for_ever_is_given_up_and_holds_up_no_other():
    assert len(read(nested_forms(2))) == 1
    endless, deadline = BytesSource(nested_forms(12), "endless"), Deadline()
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read_pages, endless, MediaPolicy(timeout=PATIENCE), deadline)
        assert len(read(make_pdf("red"))) == 1
        assert not reading.done()
        deadline.cancel()
        with pytest.raises(RequestTimeoutError):
            reading.result()
    with pytest.raises(MediaError, match=r"not decoded within MediaPolicy\.timeout=1"):
        read_pages(endless, MediaPolicy(timeout=1))


@pytest.mark.parametrize("size", [(600, 800), (1, 2000), (3000, 3000), (612, 792)])
def test_pages_of_any_shape_have_one_longer_side(size):
    (page,) = read(make_pdf("red", size=size))
    assert max(page.shape) == LONG_SIDE


def test_limits_of_pixels():
    data = make_pdf("red", "blue")
    height, width, _ = read(data)[0].shape
    for policy in (
        MediaPolicy(max_pixels=height * width - 1),
        MediaPolicy(max_total_pixels=2 * height * width - 1),
    ):
        with pytest.raises(MediaTooLargeError, match="pixels"):
            read(data, policy)
