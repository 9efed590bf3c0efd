"""One thread for all callers, which is there only while there is work."""

import threading

import pytest
from engine_support import ENDLESS, ids, read_all, submit, threads, wait_until
from patience import PATIENCE

from langchain_internvl.backends.base import Backend, Request
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.request_handle import ThreadRequestHandle
from langchain_internvl.errors import (
    EngineBusyError,
    RequestTimeoutError,
)


def test_it_is_a_backend(backend):
    assert isinstance(backend, Backend)


def test_the_thread_is_there_only_while_there_is_work(backend):
    assert not threads()
    stream = backend.stream(Request([1, 2], max_tokens=ENDLESS))
    next(stream)
    assert len(threads()) == 1
    stream.close()
    assert wait_until(lambda: not threads())
    assert len(ids(backend, 1, 2, max_tokens=3)) == 3
    assert wait_until(lambda: not threads())


def test_many_threads_at_once_get_what_they_get_alone(backend):
    prompts = [tuple(range(300, 303 + 9 * n)) for n in range(8)]
    alone = [ids(backend, *prompt, max_tokens=8) for prompt in prompts]
    results = [None] * len(prompts)

    def run(index):
        results[index] = ids(backend, *prompts[index], max_tokens=8)

    running = [threading.Thread(target=run, args=(index,)) for index in range(len(prompts))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert results == alone


def test_a_stream_may_wait_while_others_are_answered(backend):
    """An unread stream blocks nobody, and loses nothing."""
    expected = ids(backend, 5, 6, max_tokens=6)
    slow = backend.stream(Request([5, 6], max_tokens=6))
    first = next(slow).token_id
    assert ids(backend, 5, 6, max_tokens=6) == expected
    assert [first, *(delta.token_id for delta in slow)] == expected


def test_closing_a_stream_frees_its_row(engine_thread):
    handle = submit(engine_thread, Request([1, 2], max_tokens=ENDLESS))
    handle.next()
    handle.cancelled = True
    assert wait_until(lambda: not threads())
    assert engine_thread._loop.sequences == ()


def test_a_request_that_is_cancelled_while_it_waits_never_starts(engine_thread):
    handle = ThreadRequestHandle(Request([1, 2], max_tokens=5))
    handle.cancelled = True
    engine_thread._inbox.append(handle)
    assert engine_thread._next_in_line(engine_thread._loop) is None
    assert engine_thread.stats.queued == 0


def test_a_thread_that_ends_leaves_its_successors_requests_alone(engine_thread, monkeypatch):
    """A request may come in the moment between the last look for work and the end."""
    release, go_on, ended = engine_thread._lock.release, threading.Event(), []

    class SlowLock:
        def __enter__(self):
            worker_lock.acquire()

        def __exit__(self, *_):
            release()
            if threading.current_thread().name == "internvl" and not engine_thread._running:
                ended.append(threading.current_thread())
                go_on.wait(PATIENCE)

    worker_lock = engine_thread._lock
    monkeypatch.setattr(engine_thread, "_lock", SlowLock())
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"
    assert wait_until(lambda: ended)
    handle = submit(engine_thread, Request([1, 2], max_tokens=200))
    handle.next()
    assert ended[0].is_alive()
    go_on.set()  # while its successor works
    ended[0].join(PATIENCE)
    count = 1
    while handle.next().finish_reason is None:
        count += 1
    assert count == 199


def test_timeout(backend):
    ids(backend, 1, 2, max_tokens=1)  # loaded
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.05"):
        ids(backend, 1, 2, max_tokens=ENDLESS, timeout=0.05)
    assert wait_until(lambda: not threads())
    for endless in (1e12, float("inf")):
        assert len(ids(backend, 1, 2, max_tokens=2, timeout=endless)) == 2


def test_whoever_gave_up_waits_no_longer(engine_thread):
    """Behind one that still waits, too."""
    engine_thread._max_queued = 2
    engine_thread._loop._limits = Limits(max_rows=1)
    running = submit(engine_thread, Request([1, 2], max_tokens=ENDLESS))
    running.next()
    waiting = submit(engine_thread, Request([1, 2], max_tokens=3))
    late = submit(engine_thread, Request([1, 2], timeout=PATIENCE))
    with pytest.raises(EngineBusyError, match="max_concurrency"):
        submit(engine_thread, Request([1, 2]))
    late._deadline = 0.0
    with pytest.raises(RequestTimeoutError):
        late.next()
    assert engine_thread.stats.queued == 1
    left = submit(engine_thread, Request([1, 2]))
    left.leave()
    assert engine_thread.stats.queued == 1
    running.leave()
    assert [waiting.next().finish_reason for _ in range(3)] == [None, None, "length"]


def test_a_stream_that_nobody_reads_ends_at_its_deadline(engine_thread):
    handle = submit(engine_thread, Request([1, 2], max_tokens=ENDLESS, timeout=PATIENCE))
    assert wait_until(lambda: engine_thread._loop.steps > 1)  # it has begun
    handle._deadline = 0.0
    assert wait_until(lambda: not threads())
    assert handle.next().finish_reason is None
    with pytest.raises(RequestTimeoutError):
        read_all(handle)


def test_what_was_said_before_the_deadline_is_not_lost(engine_thread):
    handle = submit(engine_thread, Request([1, 2], max_tokens=3, timeout=PATIENCE))
    assert wait_until(lambda: not threads())
    handle._deadline = 0.0
    assert [handle.next().finish_reason for _ in range(3)] == [None, None, "length"]


def test_whose_prompt_is_read_is_active(engine_thread, monkeypatch):
    read, go_on = threading.Event(), threading.Event()
    read_prompt = engine_thread._loop._read_prompt

    def slow(*args):
        read.set()
        go_on.wait(PATIENCE)
        return read_prompt(*args)

    monkeypatch.setattr(engine_thread._loop, "_read_prompt", slow)
    handle = submit(engine_thread, Request([1, 2], max_tokens=1))
    assert read.wait(PATIENCE)
    assert (engine_thread.stats.active_rows, engine_thread.stats.queued) == (1, 0)
    go_on.set()
    handle.next()
    assert wait_until(lambda: engine_thread.stats.active_rows == 0)


def test_caches_are_cleared_while_others_go_on(backend):
    backend.clear_caches()  # nothing is loaded
    prompt = tuple(range(300, 400))
    ids(backend, *prompt, max_tokens=3)
    assert wait_until(lambda: not threads())
    assert backend.stats.prefix_bytes
    backend.clear_caches()
    assert backend.stats.prefix_bytes == 0
    running = backend.stream(Request([1, 2], max_tokens=ENDLESS))
    next(running)
    ids(backend, *prompt, max_tokens=3)
    backend.clear_caches()
    assert backend.stats.prefix_bytes == 0
    next(running)
    running.close()
    backend.close()
    backend.clear_caches()
