"""Pages of PDFs as images."""

import hashlib
import io
import random
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from golden import SCAN
from patience import PATIENCE
from PIL import Image

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import (
    MediaError,
    MediaTooLargeError,
    RequestError,
    RequestTimeoutError,
)
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.page_ranges import parse_pages, select_pages
from langchain_internvl.media.pdf import LONG_SIDE, read_pages, stream_pages
from langchain_internvl.media.process import _Alarm
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


PROGRAM = """
import subprocess, sys
from langchain_internvl.media import process
from langchain_internvl.media.pdf import read_pages
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource

start, read_record = process.subprocess.Popen, process.read_record

def start_with_our_errors(*args, **options):
    return start(*args, **{**options, "stderr": None})

def tell_and_read(*args):
    record = read_record(*args)
    print("drawing", flush=True)
    return record

process.subprocess.Popen, process.read_record = start_with_our_errors, tell_and_read
read_pages(BytesSource(sys.stdin.buffer.read(), "endless"), MediaPolicy(timeout=3600))
"""


def test_the_process_that_draws_ends_with_a_program_that_is_killed():
    """Nobody else would stop it, and it would draw for ever."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with program:
        program.stdin.write(nested_forms(12))
        program.stdin.close()
        program.stdin = None
        assert program.stdout.readline() == b"drawing\n"
        program.kill()
        program.communicate(timeout=PATIENCE)  # both processes have the pipe: it ends with both


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


def stream(data, policy=POLICY, **options):
    return stream_pages(BytesSource(data, "paper"), policy, **options)


def test_pages_are_streamed_one_by_one_with_the_total():
    data = make_pdf(*COLOURS)
    pages = list(stream(data, MediaPolicy(max_total_pixels=1)))  # none of them is kept
    assert [(page.number, page.total) for page in pages] == [(0, 3), (1, 3), (2, 3)]
    for page, whole in zip(pages, read(data), strict=True):
        assert np.array_equal(page.image, whole)


@pytest.fixture
def limits(monkeypatch):
    """Time limits that are running; those of a process's first record are long, as it starts up."""
    running, begun, set_limit = [], set(), _Alarm.set

    @contextmanager
    def watched(alarm, seconds):
        with set_limit(alarm, seconds if alarm in begun else PATIENCE):
            begun.add(alarm)
            running.append(seconds)
            yield
            running.remove(seconds)

    monkeypatch.setattr(_Alarm, "set", watched)
    return running


def test_a_stream_renders_no_further_than_it_is_read():
    """A closed stream ends its process; a page of the book beyond it is never rendered."""
    first = next(pages := stream(make_pdf(*["red"] * 100), MediaPolicy(timeout=PATIENCE)))
    assert (first.number, first.total) == (0, 100)
    pages.close()
    assert next(pages, None) is None


def test_the_time_between_pages_does_not_count(limits):
    pages = stream(make_pdf("red", "blue"), MediaPolicy(timeout=PATIENCE))
    next(pages)
    assert limits == []
    with ThreadPoolExecutor(4) as pool:  # and other media are decoded meanwhile
        assert len(list(pool.map(lambda _: len(read(make_pdf("red"))), range(4)))) == 4
    assert next(pages).number == 1


@pytest.mark.parametrize(
    ("pages", "numbers"),
    [
        (None, [0, 1, 2, 3, 4]),
        (2, [2]),
        (-1, [4]),
        ([3, 0], [3, 0]),
        (range(1, 3), [1, 2]),
        (range(3, 100), [3, 4]),
        (range(3, 10**30), [3, 4]),  # endless, if each number is looked at
        (range(4, -1, -2), [4, 2, 0]),
        (slice(-2, None), [3, 4]),
        (slice(None, None, 2), [0, 2, 4]),
        ("1-2, 5", [0, 1, 4]),
        ("4-", [3, 4]),
        ("-2", [0, 1]),
        ("2-99", [1, 2, 3, 4]),
    ],
)
def test_page_ranges(pages, numbers):
    assert select_pages(parse_pages(pages), 5) == numbers


@pytest.mark.parametrize("pages", ["", "0", "3-2", "x", [], "1;2", 1.5, [0.5], [True], ["1"], {}])
def test_malformed_page_ranges(pages):
    with pytest.raises(RequestError, match="pages"):
        parse_pages(pages)


@pytest.mark.parametrize("pages", [5, -6, [0, 7], "6", "6-9", range(5, 9), slice(9, None)])
def test_pages_that_the_file_does_not_have(pages):
    with pytest.raises(RequestError, match="it has 5 pages"):
        select_pages(parse_pages(pages), 5)


def test_a_page_range_of_a_long_file():
    data = make_pdf(*["red"] * 9, "blue")
    (page,) = stream(data, MediaPolicy(max_pages=1), pages=-1)
    assert (page.number, page.total) == (9, 10)
    assert page.image[10, 10, 2] > 250
    (again,) = read_pages(BytesSource(data, "paper"), MediaPolicy(max_pages=1), pages="10")
    assert np.array_equal(page.image, again)
    with pytest.raises(MediaTooLargeError, match=r"2 pages are over .* pages="):
        list(stream(data, MediaPolicy(max_pages=1), pages="9-10"))
    with pytest.raises(RequestError, match="paper: pages: it has 10 pages"):
        list(stream(data, pages=10))


def test_a_page_that_takes_for_ever_is_an_error_among_the_others(limits):
    slow, fast = nested_forms(12), make_pdf("red")
    assert len(list(stream(fast, MediaPolicy(timeout=PATIENCE)))) == 1
    (page,) = stream(slow, MediaPolicy(timeout=2))
    assert page.number == 0
    assert isinstance(page.image, MediaError)
    # On a fast machine its memory runs out first.
    assert re.search(
        r"page 0: (not decoded within MediaPolicy\.timeout=2|the decoder crashed)", str(page.image)
    )


def rc4(key, data):
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def encrypted_pdf(password):
    """A PDF of one empty page under a password (ISO 32000-1, 7.6.3, revision 2)."""
    pad = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    padded = (password.encode() + pad)[:32]
    owner = rc4(hashlib.md5(padded).digest()[:5], padded)
    flags = (-44).to_bytes(4, "little", signed=True)
    key = hashlib.md5(padded + owner + flags + b"id").digest()[:5]
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 90 90]>>",
        b"<</Filter/Standard/V 1/R 2/P -44/O<%s>/U<%s>>>"
        % (owner.hex().encode(), rc4(key, pad).hex().encode()),
    ]
    body = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer<</Size 5/Root 1 0 R/Encrypt 4 0 R/ID[<%s><%s>]>>" % (
        (b"id".hex().encode(),) * 2
    )
    return body + b"xref\n0 5\n0000000000 65535 f \n%s%s\nstartxref\n%d\n%%%%EOF" % (
        table,
        trailer,
        len(body),
    )


def test_an_encrypted_file_needs_its_password():
    data = encrypted_pdf("secret")
    source = BytesSource(data, "paper")
    assert len(read_pages(source, POLICY, password="secret")) == 1
    assert [page.number for page in stream(data, password="secret")] == [0]
    with pytest.raises(MediaError, match=r"it is encrypted: pass password="):
        read(data)
    with pytest.raises(MediaError, match="it is encrypted: the given password is wrong") as raised:
        read_pages(source, POLICY, password="other")
    assert "other" not in str(raised.value)
