"""One thread for all callers, which is there only while there is work."""

import gc
import subprocess
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from golden import checkpoint_folder
from support import load_loop

from langchain_internvl.backends.base import Backend, Request
from langchain_internvl.backends.transformers import rows
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.tickets import ThreadTicket
from langchain_internvl.backends.transformers.worker import Worker
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import (
    BackendError,
    CheckpointError,
    EngineBusyError,
    EngineMemoryError,
    PromptError,
    RequestTimeoutError,
)
from langchain_internvl.tokenization import load_tokenizer

FOLDER = checkpoint_folder("qwen2")


@pytest.fixture
def backend():
    backend = TransformersBackend(
        read_checkpoint(FOLDER), load_tokenizer(FOLDER), LoadOptions(dtype="float32")
    )
    yield backend
    backend.close()


@pytest.fixture
def worker():
    worker = Worker(lambda: load_loop(FOLDER).loop)
    submit(worker, Request([1], max_tokens=1)).next()  # loaded
    assert wait_until(lambda: not threads())
    yield worker
    worker.close()


def ids(backend, *prompt, **settings):
    return [delta.token_id for delta in backend.stream(Request(prompt, **settings))]


def submit(worker, request):
    ticket = ThreadTicket(request)
    worker.submit(ticket)
    return ticket


def read_all(ticket):
    while True:
        ticket.next()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "internvl"]


def wait_until(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_it_is_a_backend(backend):
    assert isinstance(backend, Backend)


def test_the_thread_is_there_only_while_there_is_work(backend):
    assert not threads()
    stream = backend.stream(Request([1, 2], max_tokens=500))
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


def test_closing_a_stream_frees_its_row(worker):
    ticket = submit(worker, Request([1, 2], max_tokens=10_000))
    ticket.next()
    ticket.cancelled = True
    assert wait_until(lambda: not threads())
    assert worker._loop.rows == ()


def test_a_request_that_is_cancelled_while_it_waits_never_starts(worker):
    ticket = ThreadTicket(Request([1, 2], max_tokens=5))
    ticket.cancelled = True
    worker._inbox.append(ticket)
    assert worker._next_in_line(worker._loop) is None
    assert worker.stats.queued == 0


def test_a_faulty_request_fails_alone(backend):
    context = load_tokenizer(FOLDER).image_context_id
    stream = backend.stream(Request([5, 6], max_tokens=50))
    next(stream)
    with pytest.raises(PromptError):
        ids(backend, context, max_tokens=5)
    assert len(list(stream)) == 49


def test_failures_of_the_engine_are_backend_errors(worker, monkeypatch):
    monkeypatch.setattr(worker._loop, "_read_prompt", lambda row: 1 / 0)
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        submit(worker, Request([1, 2])).next()
    monkeypatch.undo()
    assert submit(worker, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_a_fault_of_the_loop_itself_ends_all_requests_and_the_worker_goes_on(worker, monkeypatch):
    tickets = [submit(worker, Request([1, 2], max_tokens=1_000_000)) for _ in range(3)]
    for ticket in tickets:
        ticket.next()
    monkeypatch.setattr(worker._loop, "step", lambda: 1 / 0)
    for ticket in tickets:
        with pytest.raises(BackendError, match="ZeroDivisionError"):
            read_all(ticket)
    monkeypatch.undo()
    assert wait_until(lambda: not threads())
    assert worker._loop.rows == ()
    assert submit(worker, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_memory_that_is_full_for_good_hangs_nobody(worker, monkeypatch):
    """Neither those who are being answered nor those who come."""
    tickets = [submit(worker, Request([1, 2], max_tokens=1_000_000)) for _ in range(4)]
    for ticket in tickets:
        ticket.next()

    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(rows.RowBatch, "forward", full)
    monkeypatch.setattr(rows, "_layers", full)
    for ticket in tickets:
        with pytest.raises(BackendError, match="memory is full"):
            read_all(ticket)
    with pytest.raises(BackendError, match="memory is full"):
        read_all(submit(worker, Request([1, 2], max_tokens=5)))
    monkeypatch.undo()
    assert submit(worker, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_errors_that_are_kept_keep_no_tensors(worker, monkeypatch):
    caches = []

    def fail(self, model):
        own = self.cache
        caches.append(weakref.ref(own))
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(rows.RowBatch, "forward", fail)
    with pytest.raises(BackendError) as caught:
        read_all(submit(worker, Request([1, 2], max_tokens=5)))
    assert wait_until(lambda: not threads())
    assert [cache() for cache in caches] == [None]
    assert "fail" in [
        frame.name for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)
    ]


def test_a_thread_that_ends_leaves_its_successors_requests_alone(worker, monkeypatch):
    """A request may come in the moment between the last look for work and the end."""
    release = worker._lock.release

    class SlowLock:
        def __enter__(self):
            worker_lock.acquire()

        def __exit__(self, *_):
            release()
            if threading.current_thread().name == "internvl" and not worker._running:
                time.sleep(0.3)

    worker_lock = worker._lock
    monkeypatch.setattr(worker, "_lock", SlowLock())
    assert submit(worker, Request([1, 2], max_tokens=1)).next().finish_reason == "length"
    assert wait_until(lambda: not worker._running)
    ticket = submit(worker, Request([1, 2], max_tokens=2_000))
    count = 0
    while ticket.next().finish_reason is None:
        count += 1
    assert count == 1_999


def test_a_thread_that_cannot_start_blocks_nobody(worker, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BackendError, match="can't start new thread"):
        submit(worker, Request([1, 2], max_tokens=1))
    monkeypatch.undo()
    assert submit(worker, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_the_first_token_waits_for_no_other_step(worker, monkeypatch):
    monkeypatch.setattr(worker._loop, "step", lambda: 1 / 0)
    ticket = submit(worker, Request([1, 2], max_tokens=5))
    assert ticket.next().finish_reason is None
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        ticket.next()


def test_a_program_may_end_at_any_time():
    """Also while a reply is being made, or in the moment after the last word of one."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from golden import checkpoint_folder\n"
        "from support import load_loop\n"
        "from langchain_internvl.backends.base import Request\n"
        "from langchain_internvl.backends.transformers.tickets import ThreadTicket\n"
        "from langchain_internvl.backends.transformers.worker import Worker\n"
        "worker = Worker(lambda: load_loop(checkpoint_folder('qwen2')).loop)\n"
        "ticket = ThreadTicket(Request([1, 2], max_tokens=10**6))\n"
        "worker.submit(ticket)\n"
        "[ticket.next() for _ in range(5)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_timeout(backend):
    ids(backend, 1, 2, max_tokens=1)  # loaded
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.05"):
        ids(backend, 1, 2, max_tokens=1_000_000, timeout=0.05)
    assert wait_until(lambda: not threads())
    for endless in (1e12, float("inf")):
        assert len(ids(backend, 1, 2, max_tokens=2, timeout=endless)) == 2


LOAD_MODEL = "langchain_internvl.backends.transformers.backend.load_model"


def test_the_timeout_counts_loading(backend, monkeypatch):
    go_on = threading.Event()

    def load(*args):
        go_on.wait(60)
        return load_model(*args)

    monkeypatch.setattr(LOAD_MODEL, load)
    with pytest.raises(RequestTimeoutError):
        ids(backend, 1, 2, timeout=0.05)
    go_on.set()
    assert len(ids(backend, 1, 2, max_tokens=3)) == 3


@pytest.mark.parametrize("error", [CheckpointError("gap"), ImportError("gap"), KeyError("gap")])
def test_a_model_that_cannot_be_loaded_is_told_to_all_and_tried_again(backend, error, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    def load(*_):
        started.set()
        go_on.wait(60)
        raise error

    monkeypatch.setattr(LOAD_MODEL, load)
    kind = BackendError if isinstance(error, KeyError) else type(error)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ids, backend, 1, 2, max_tokens=3) for _ in range(3)]
        assert started.wait(60)
        assert wait_until(lambda: len(backend._worker._inbox) == 3)
        go_on.set()
        for one in waiting:
            with pytest.raises(kind, match="gap"):
                one.result()
    monkeypatch.undo()
    assert len(ids(backend, 1, 2, max_tokens=3)) == 3


def test_closing_frees_the_model(worker):
    loop = weakref.ref(worker._loop)
    worker.close()
    gc.collect()
    assert loop() is None


def test_closing_ends_what_runs_and_refuses_what_comes(backend):
    stream = backend.stream(Request([1, 2], max_tokens=1_000_000))
    next(stream)
    backend.close()
    assert not threads()
    with pytest.raises(BackendError, match="closed"):
        list(stream)
    with pytest.raises(BackendError, match="closed"):
        ids(backend, 1, 2)
    backend.close()


class Panic(BaseException):
    """As the libraries in Rust raise it."""


@pytest.mark.parametrize("place", ["load", "_read_prompt", "step", "has_room"])
def test_a_panic_is_told_and_hangs_nobody(place, worker, monkeypatch):
    def panic(*_):
        raise Panic("panic")

    running = submit(worker, Request([1, 2], max_tokens=1_000_000))
    running.next()
    if place == "load":
        fresh = Worker(panic)
        with pytest.raises(BackendError, match="Panic"):
            submit(fresh, Request([1], timeout=20)).next()
        fresh._load = lambda: worker._loop
        fresh.close()
        return
    monkeypatch.setattr(worker._loop, place, panic)
    ticket = submit(worker, Request([1, 2], max_tokens=5, timeout=20))
    with pytest.raises(BackendError, match="Panic"):
        read_all(ticket)
    monkeypatch.undo()
    running.leave()
    assert submit(worker, Request([1, 2], max_tokens=1)).next().finish_reason == "length"
    assert wait_until(lambda: not threads())


def test_a_request_that_cannot_be_admitted_fails_alone(worker, monkeypatch):
    running = submit(worker, Request([1, 2], max_tokens=1_000_000))
    running.next()
    asked = []

    def fail(request):
        asked.append(request)
        raise KeyError("rope")

    monkeypatch.setattr(worker._loop, "has_room", fail)
    with pytest.raises(BackendError, match="KeyError"):
        submit(worker, Request([1, 2], timeout=20)).next()
    assert len(asked) == 1
    for _ in range(3):
        running.next()
    running.leave()


def test_the_youngest_row_makes_room_when_memory_is_full(worker, monkeypatch):
    """And the others say what they would have said."""
    expected = [
        [ticket.next().token_id for _ in range(30)]
        for ticket in (submit(worker, Request([5, 6 + n], max_tokens=30)) for n in range(2))
    ]
    layers = worker._loop._model.model.language_model.layers
    forward = layers[1].forward

    def full_for_three(hidden, *args, **kwargs):
        if hidden.shape[:2] == (3, 1):  # the first layer has its new keys by now
            raise torch.OutOfMemoryError("full")
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(layers[1], "forward", full_for_three)
    old = [submit(worker, Request([5, 6 + n], max_tokens=30)) for n in range(2)]
    said = [[ticket.next().token_id] for ticket in old]
    young = submit(worker, Request([9], max_tokens=30))
    young.next()
    with pytest.raises(EngineMemoryError):
        read_all(young)
    for ticket, ids_ in zip(old, said, strict=True):
        ids_ += [ticket.next().token_id for _ in range(29)]
    assert said == expected


def test_whoever_gave_up_waits_no_longer(worker):
    """Behind one that still waits, too."""
    worker._max_queued = 2
    worker._loop._budget._limits = Limits(max_rows=1)
    running = submit(worker, Request([1, 2], max_tokens=1_000_000))
    running.next()
    waiting = submit(worker, Request([1, 2], max_tokens=3))
    late = submit(worker, Request([1, 2], timeout=0.05))
    with pytest.raises(EngineBusyError, match="max_concurrency"):
        submit(worker, Request([1, 2]))
    with pytest.raises(RequestTimeoutError):
        late.next()
    assert worker.stats.queued == 1
    left = submit(worker, Request([1, 2]))
    left.leave()
    assert worker.stats.queued == 1
    running.leave()
    assert [waiting.next().finish_reason for _ in range(3)] == [None, None, "length"]


def test_a_stream_that_nobody_reads_ends_at_its_deadline(worker):
    ticket = submit(worker, Request([1, 2], max_tokens=1_000_000, timeout=0.2))
    assert wait_until(lambda: not threads())
    assert ticket.next().finish_reason is None
    with pytest.raises(RequestTimeoutError):
        read_all(ticket)


def test_what_was_said_before_the_deadline_is_not_lost(worker):
    ticket = submit(worker, Request([1, 2], max_tokens=3, timeout=0.5))
    assert wait_until(lambda: not threads())
    time.sleep(0.6)
    assert [ticket.next().finish_reason for _ in range(3)] == [None, None, "length"]


def test_whose_prompt_is_read_is_active(worker, monkeypatch):
    read, go_on = threading.Event(), threading.Event()
    read_prompt = worker._loop._read_prompt

    def slow(row):
        read.set()
        go_on.wait(20)
        return read_prompt(row)

    monkeypatch.setattr(worker._loop, "_read_prompt", slow)
    ticket = submit(worker, Request([1, 2], max_tokens=1))
    assert read.wait(20)
    assert (worker.stats.active_rows, worker.stats.queued) == (1, 0)
    go_on.set()
    ticket.next()
    assert wait_until(lambda: worker.stats.active_rows == 0)


def test_everyone_gets_an_error_of_their_own(backend, monkeypatch):
    go_on = threading.Event()

    def load(*_):
        go_on.wait(60)
        raise CheckpointError("gap")

    monkeypatch.setattr(LOAD_MODEL, load)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ids, backend, 1, 2) for _ in range(3)]
        assert wait_until(lambda: len(backend._worker._inbox) == 3)
        go_on.set()
        errors = {id(one.exception()) for one in waiting}
    assert len(errors) == 3


def test_loading_leaves_no_thread(backend):
    before = set(threading.enumerate())
    ids(backend, 1, 2, max_tokens=1)
    backend.close()
    assert set(threading.enumerate()) <= before
