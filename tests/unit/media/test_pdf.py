"""Pages of PDFs as pictures."""

import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from golden import SCAN
from PIL import Image

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import MediaError, MediaTooLargeError
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
    assert [page.mode for page in pages] == ["RGB"] * 3
    for page, colour in zip(pages, COLOURS, strict=True):
        assert max(page.size) == LONG_SIDE
        assert abs(page.width / page.height - 1.5) < 0.01
        middle = np.asarray(page)[page.height // 2, page.width // 2].astype(int)
        assert np.abs(middle - np.asarray(Image.new("RGB", (1, 1), colour))[0, 0]).max() < 4


def test_a_real_scan():
    (page,) = read_pages(PathSource(SCAN), POLICY)
    assert page.height == LONG_SIDE
    ink = np.asarray(page.convert("L")) < 128
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
