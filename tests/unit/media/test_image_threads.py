"""Threads that decode images: no more at once than there are cores, and deadlines hold."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from langchain_core.messages import HumanMessage
from patience import PATIENCE
from PIL import Image

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import MediaError, RequestTimeoutError
from langchain_internvl.media import image_threads
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.image_threads import available_cores, run
from langchain_internvl.media.images import load_rgb, use_rgb
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource

POLICY = MediaPolicy()


@pytest.fixture
def busy():
    """All threads are busy until the event is set."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def work():
        begun.release()
        assert go.wait(PATIENCE)

    with ThreadPoolExecutor(available_cores()) as callers:
        waiting = [callers.submit(run, work, Deadline()) for _ in range(available_cores())]
        for _ in waiting:
            assert begun.acquire(timeout=PATIENCE)
        yield go
        go.set()
        for one in waiting:
            one.result()


def test_results_and_errors_are_those_of_the_function():
    assert run(lambda: 7, Deadline()) == 7
    for error in (MediaError("x", "is damaged"), TimeoutError("its own"), KeyError("x")):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)) as raised:
            run(fail, Deadline(PATIENCE))
        assert raised.value is error


@pytest.mark.parametrize("seconds", [1e10, 1e300, float("inf")])
def test_very_long_timeouts_are_none(seconds):
    assert run(lambda: 7, Deadline(seconds)) == 7
    assert Deadline(seconds).remaining() <= threading.TIMEOUT_MAX


def test_a_call_that_waits_too_long_for_a_thread_is_late(busy):
    ran = []
    with pytest.raises(RequestTimeoutError):
        run(lambda: ran.append(1), Deadline(0.05))
    busy.set()
    run(lambda: None, Deadline())
    assert not ran  # it was taken out of the queue


def test_a_call_that_is_cancelled_waits_no_longer(busy):
    deadline = Deadline()
    threading.Timer(0.05, deadline.cancel).start()
    with pytest.raises(RequestTimeoutError, match="cancelled"):
        run(lambda: None, deadline)
    with pytest.raises(RequestTimeoutError, match="cancelled"):
        run(lambda: None, deadline)


def test_without_further_threads_the_caller_works_itself(monkeypatch):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setattr(image_threads._THREADS, "pool", pool)
    assert run(threading.current_thread, Deadline()) is threading.current_thread()


def test_a_call_whose_thread_cannot_start_runs_once(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    pool, ran = ThreadPoolExecutor(1), []
    monkeypatch.setattr(image_threads._THREADS, "pool", pool)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert run(lambda: ran.append(1) or 7, Deadline()) == 7
        with pytest.raises(ZeroDivisionError):
            run(lambda: 1 / 0, Deadline())
    pool.submit(int).result()  # after what was queued
    pool.shutdown()
    assert ran == [1]


def test_a_batch_decodes_as_many_images_at_once_as_there_are_cores(monkeypatch):
    lock, numbers = threading.Lock(), []
    working = 0
    resize = Image.Image.resize

    def count(image, *arguments, **options):
        nonlocal working
        with lock:
            working += 1
            numbers.append(working)
        try:
            return resize(image, *arguments, **options)
        finally:
            with lock:
                working -= 1

    monkeypatch.setattr(Image.Image, "resize", count)
    llm = ChatInternVL(
        model="nano", backend=ScriptedBackend(lambda request: str(len(request.tiles[0])))
    )
    pages = [Image.new("RGB", (900 + side, 1300), "white") for side in range(24)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        replies = llm.batch([[HumanMessage([image_block(page)])] for page in pages])
    assert {reply.text for reply in replies} == {"7"}
    assert len(numbers) == 2 * len(pages)  # the tiles and the thumbnail
    assert max(numbers) <= available_cores()


def test_images_are_those_of_the_calling_thread():
    pixels = np.random.default_rng(3).integers(0, 256, (50, 70, 4), np.uint8)
    image = Image.fromarray(pixels)
    source = PixelSource(image, "x")
    for one in (source, BytesSource(source.read(POLICY), "x")):
        for options in ({}, {"white_background": True}):
            direct = load_rgb(one, POLICY, **options)
            threaded = use_rgb(one, POLICY, lambda rgb: rgb.copy(), **options)
            assert threaded == direct
    with pytest.raises(MediaError, match="truncated"):
        use_rgb(BytesSource(source.read(POLICY)[:5000], "x"), POLICY, lambda rgb: rgb)
