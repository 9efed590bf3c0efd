"""Items in flight: what is left of them when nobody wants the results any more."""

import subprocess
import sys
import threading
from queue import SimpleQueue

import pytest
from engine_support import ENDLESS, make_backend, wait_until
from patience import PATIENCE
from PIL import Image

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import NO_TOKEN, Delta, Request
from langchain_internvl.backends.bridge import Bridge, LoopThread, ReplyDeadline
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.documents.in_flight import in_order
from langchain_internvl.documents.page_reader import Reader
from langchain_internvl.documents.reading import ReadOptions
from langchain_internvl.errors import RequestTimeoutError
from langchain_internvl.media.deadline import Deadline, ending_with_work, part_of


def test_items_in_flight_end_when_the_caller_stops():
    ended, begun = SimpleQueue(), threading.Event()

    def work(item):
        stop = threading.Event()
        with ending_with_work(lambda _: stop.set()):
            if item == 0:
                assert begun.wait(PATIENCE)
            else:
                begun.set()
                assert stop.wait(PATIENCE)
        ended.put(item)
        return item

    results = in_order(iter(range(9)), lambda _: None, work, 3)
    assert next(results) == 0
    results.close()
    assert ended.get(timeout=PATIENCE) == 0
    assert ended.get(timeout=PATIENCE) > 0


def test_a_program_that_was_interrupted_does_not_wait_for_items_in_flight():
    """The traceback keeps the generator open, and Python waits for its threads."""
    program = """
import threading
from langchain_internvl.documents.in_flight import in_order
from langchain_internvl.media.deadline import ending_with_work

begun = threading.Event()

def work(item):
    stop = threading.Event()
    with ending_with_work(lambda _: stop.set()):
        if item == 0:
            begun.wait()
        else:
            begun.set()
            stop.wait()

for _ in in_order(iter(range(9)), lambda _: None, work, 3):
    raise KeyboardInterrupt
"""
    done = run(program)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr


def test_a_thread_that_outlives_the_main_thread_gets_its_results():
    program = """
import concurrent.futures.thread, threading

begun, main_has_ended = threading.Event(), threading.Event()
# After the cancellation, and before Python waits for the threads of pools.
threading._register_atexit(main_has_ended.set)

from langchain_internvl.documents.in_flight import in_order
from langchain_internvl.media.deadline import ending_with_work

def work(item):
    stop = threading.Event()
    with ending_with_work(lambda _: stop.set()):
        begun.set()
        main_has_ended.wait()
    return "cancelled" if stop.is_set() else "processed"

def use():
    print(*in_order(iter([0]), lambda _: None, work, 2))

threading.Thread(target=use).start()
begun.wait()
"""
    done = run(program)
    assert done.stdout == "processed\n", done.stderr


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_a_reply_ends_with_the_work_that_it_is_part_of():
    backend, work = make_backend(), Deadline()
    with part_of(work):
        running = backend.stream(Request([1, 2], max_tokens=ENDLESS))
        next(running)
        work.cancel()
        with pytest.raises(RequestTimeoutError, match="the call was cancelled"):
            list(running)
        with pytest.raises(RequestTimeoutError, match="the call was cancelled"):
            next(backend.stream(Request([1, 2], max_tokens=1)))
    assert wait_until(lambda: backend.stats.active_rows == 0)
    assert len(list(backend.stream(Request([1, 2], max_tokens=2)))) == 2
    backend.close()


def test_a_reply_of_another_loop_ends_with_its_work():
    thread, work = LoopThread(), Deadline()
    bridge = Bridge(thread.loop, 1)

    async def answer():
        yield Delta(NO_TOKEN, "a")
        await thread.loop.create_future()

    async def nothing():
        pass

    with part_of(work):
        running = bridge.stream(answer, ReplyDeadline(None))
        assert next(running).text == "a"
        work.cancel()
        with pytest.raises(RequestTimeoutError, match="the call was cancelled"):
            next(running)
    assert wait_until(lambda: bridge.stats.active_rows == 0)
    thread.end(nothing)
    thread.join()


def test_nothing_is_asked_about_a_page_that_nobody_wants():
    """Of models that cannot be interrupted either."""
    backend = ScriptedBackend(lambda _: "Read.")
    options = ReadOptions(skip_blank=False, rotation="never")
    reader = Reader(ChatInternVL(model="nano", backend=backend), options)
    page, work = Image.new("RGB", (600, 800), "white"), Deadline()
    with part_of(work):
        assert reader.read(page).text == "Read."
        count = len(backend.requests)
        work.cancel()
        with pytest.raises(RequestTimeoutError, match="the call was cancelled"):
            reader.read(page)
    assert len(backend.requests) == count > 0
