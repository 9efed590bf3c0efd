"""One thread for all callers, which is there only while there is work."""

import gc
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_support import threads, wait_until
from golden import checkpoint_folder
from patience import PATIENCE
from safetensors import safe_open
from support import load_loop
from transformers import core_model_loading

from langchain_internvl.backends.base import Backend, Request
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.engine_thread import EngineThread
from langchain_internvl.backends.transformers.forward import LanguageModel
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.memory import free_for_cache
from langchain_internvl.backends.transformers.request_handle import ThreadRequestHandle
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.errors import (
    BackendError,
    CheckpointError,
    EngineBusyError,
    EngineMemoryError,
    PromptError,
    RequestTimeoutError,
)
from langchain_internvl.prompting.tokenization import load_tokenizer

FOLDER = checkpoint_folder("qwen2")


@pytest.fixture
def backend():
    backend = TransformersBackend(
        read_checkpoint(FOLDER), load_tokenizer(FOLDER), LoadOptions(dtype="float32")
    )
    yield backend
    backend.close()


@pytest.fixture
def engine_thread():
    engine_thread = EngineThread(lambda: load_loop(FOLDER).loop)
    submit(engine_thread, Request([1], max_tokens=1)).next()  # loaded
    assert wait_until(lambda: not threads())
    yield engine_thread
    engine_thread.close()


def ids(backend, *prompt, **settings):
    return [delta.token_id for delta in backend.stream(Request(prompt, **settings))]


def submit(engine_thread, request):
    handle = ThreadRequestHandle(request)
    engine_thread.submit(handle)
    return handle


def read_all(handle):
    while True:
        handle.next()


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


def test_closing_a_stream_frees_its_row(engine_thread):
    handle = submit(engine_thread, Request([1, 2], max_tokens=10_000))
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


def test_a_faulty_request_fails_alone(backend):
    context = load_tokenizer(FOLDER).image_context_id
    stream = backend.stream(Request([5, 6], max_tokens=50))
    next(stream)
    with pytest.raises(PromptError):
        ids(backend, context, max_tokens=5)
    assert len(list(stream)) == 49


def test_failures_of_the_engine_are_backend_errors(engine_thread, monkeypatch):
    monkeypatch.setattr(engine_thread._loop, "_read_prompt", lambda *_: 1 / 0)
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        submit(engine_thread, Request([1, 2])).next()
    monkeypatch.undo()
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_a_fault_of_the_loop_itself_ends_all_requests_and_the_worker_goes_on(
    engine_thread, monkeypatch
):
    handles = [submit(engine_thread, Request([1, 2], max_tokens=1_000_000)) for _ in range(3)]
    for handle in handles:
        handle.next()
    monkeypatch.setattr(engine_thread._loop, "step", lambda: 1 / 0)
    for handle in handles:
        with pytest.raises(BackendError, match="ZeroDivisionError"):
            read_all(handle)
    monkeypatch.undo()
    assert wait_until(lambda: not threads())
    assert engine_thread._loop.sequences == ()
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_memory_that_is_full_for_good_hangs_nobody(engine_thread, monkeypatch):
    """Neither those who are being answered nor those who come."""
    handles = [submit(engine_thread, Request([1, 2], max_tokens=1_000_000)) for _ in range(4)]
    for handle in handles:
        handle.next()

    def full(*_, **__):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(LanguageModel, "_run", full)
    for handle in handles:
        with pytest.raises(BackendError, match="memory is full"):
            read_all(handle)
    with pytest.raises(BackendError, match="memory is full"):
        read_all(submit(engine_thread, Request([1, 2], max_tokens=5)))
    monkeypatch.undo()
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_errors_that_are_kept_keep_no_tensors(engine_thread, monkeypatch):
    blocks = []

    def fail(self, sequences):
        block = sequences[0].slot.block
        blocks.append(weakref.ref(block))
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(LanguageModel, "decode", fail)
    with pytest.raises(BackendError) as caught:
        read_all(submit(engine_thread, Request([1, 2], max_tokens=5)))
    assert wait_until(lambda: not threads())
    assert [block() for block in blocks] == [None]
    assert "fail" in [
        frame.name for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)
    ]


def test_a_thread_that_ends_leaves_its_successors_requests_alone(engine_thread, monkeypatch):
    """A request may come in the moment between the last look for work and the end."""
    release = engine_thread._lock.release

    class SlowLock:
        def __enter__(self):
            worker_lock.acquire()

        def __exit__(self, *_):
            release()
            if threading.current_thread().name == "internvl" and not engine_thread._running:
                time.sleep(0.3)

    worker_lock = engine_thread._lock
    monkeypatch.setattr(engine_thread, "_lock", SlowLock())
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"
    assert wait_until(lambda: not engine_thread._running)
    handle = submit(engine_thread, Request([1, 2], max_tokens=2_000))
    count = 0
    while handle.next().finish_reason is None:
        count += 1
    assert count == 1_999


def test_a_thread_that_cannot_start_blocks_nobody(engine_thread, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BackendError, match="can't start new thread"):
        submit(engine_thread, Request([1, 2], max_tokens=1))
    monkeypatch.undo()
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"


def test_the_first_token_waits_for_no_other_step(engine_thread, monkeypatch):
    monkeypatch.setattr(engine_thread._loop, "_decode", lambda *_: 1 / 0)
    handle = submit(engine_thread, Request([1, 2], max_tokens=5))
    assert handle.next().finish_reason is None
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        handle.next()


@pytest.mark.slow
def test_a_program_may_end_at_any_time():
    """Also while a reply is being made, or in the moment after the last word of one."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from golden import checkpoint_folder\n"
        "from support import load_loop\n"
        "from langchain_internvl.backends.base import Request\n"
        "from langchain_internvl.backends.transformers.request_handle import ThreadRequestHandle\n"
        "from langchain_internvl.backends.transformers.engine_thread import EngineThread\n"
        "engine_thread = EngineThread(lambda: load_loop(checkpoint_folder('qwen2')).loop)\n"
        "handle = ThreadRequestHandle(Request([1, 2], max_tokens=10**6))\n"
        "engine_thread.submit(handle)\n"
        "[handle.next() for _ in range(5)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
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
        go_on.wait(PATIENCE)
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
        go_on.wait(PATIENCE)
        raise error

    monkeypatch.setattr(LOAD_MODEL, load)
    kind = BackendError if isinstance(error, KeyError) else type(error)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(ids, backend, 1, 2, max_tokens=3) for _ in range(3)]
        assert started.wait(PATIENCE)
        assert wait_until(lambda: len(backend._worker._inbox) == 3)
        go_on.set()
        for one in waiting:
            with pytest.raises(kind, match="gap"):
                one.result()
    monkeypatch.undo()
    assert len(ids(backend, 1, 2, max_tokens=3)) == 3


def test_closing_frees_the_model(engine_thread):
    loop = weakref.ref(engine_thread._loop)
    engine_thread.close()
    gc.collect()
    assert loop() is None


OFFLOADED = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu",
             "model.language_model": "disk", "lm_head": "cpu"}  # fmt: skip


def test_closing_frees_weights_under_hooks_of_accelerate(monkeypatch, tmp_path):
    """The hooks are cycles, and to remove them properly would load what is on the disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    folder = checkpoint_folder("internlm2")  # whose tensors are converted, and written anew
    backend = TransformersBackend(
        read_checkpoint(folder),
        load_tokenizer(folder),
        LoadOptions(dtype="float32", device_map=OFFLOADED),
    )
    ids(backend, *range(300, 340), max_tokens=2)  # which are kept
    model = backend._worker._loop._model
    modules = [weakref.ref(one) for one in model.modules()]
    hooked = [one for one in model.modules() if hasattr(one, "_hf_hook")]
    weights = [weakref.ref(one) for one in model.parameters() if one.device.type == "cpu"]
    brought = []
    for one in hooked:
        monkeypatch.setattr(
            type(one._hf_hook), "detach_hook", lambda *_: brought.append(True), raising=False
        )
    assert hooked
    assert weights
    assert list(tmp_path.iterdir())
    del model, hooked, one
    gc.disable()  # what is free afterwards was freed by `close`
    try:
        backend.close()
        assert [one for one in weights if one() is not None] == []
        assert [one for one in modules if one() is not None] == []
    finally:
        gc.enable()
    assert brought == []
    assert emptied
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_an_image_that_nobody_waits_for(backend, monkeypatch):
    ids(backend, 1, max_tokens=1)
    started, go_on = threading.Event(), threading.Event()
    images = backend._worker._loop.images

    def encode(*_):
        started.set()
        go_on.wait(PATIENCE)
        raise RuntimeError

    monkeypatch.setattr(images, "_encode", encode)
    size = backend._checkpoint.tiles.tile_size
    context = [backend._tokenizer.image_context_id] * backend._checkpoint.tokens_per_tile
    tile = np.zeros((1, size, size, 3), np.uint8)
    handle = submit(backend._worker, Request([*context, 1], [tile], max_tokens=1))
    assert started.wait(PATIENCE)
    handle.leave()
    assert wait_until(lambda: not threads())
    threading.Timer(0.05, go_on.set).start()
    backend.close()
    assert not [one for one in threading.enumerate() if one.name == "internvl-image"]


def test_the_next_engine_may_have_what_the_allocator_holds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2000)
    layer = torch.nn.Linear(1, 1)
    layer._hf_hook = SimpleNamespace(execution_device="cuda:0")
    text = SimpleNamespace(layers=[layer])
    assert free_for_cache(SimpleNamespace(model=SimpleNamespace(language_model=text))) == 1600


def test_closing_does_not_wait_for_weights(backend, monkeypatch):
    """The load ends before its next tensor."""
    started, go_on, read = threading.Event(), threading.Event(), []

    def materialize(tensor, device=None, dtype=None):
        started.set()
        go_on.wait(PATIENCE)
        read.append(tensor)
        return tensor[...].to(device=device, dtype=dtype)

    monkeypatch.setattr(core_model_loading, "_materialize_copy", materialize)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ids, backend, 1, 2, max_tokens=3)
        assert started.wait(PATIENCE)
        closing = pool.submit(backend.close)
        assert wait_until(lambda: backend._worker._closed is not None)
        go_on.set()
        closing.result(PATIENCE)
        with pytest.raises(BackendError, match="closed"):
            waiting.result()
    assert backend._worker._loop is None
    assert len(read) < len(safe_open(FOLDER / "model.safetensors", "pt").keys())


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in programs of a background job
import sys, time
from transformers import core_model_loading

real, read = core_model_loading._materialize_copy, 0

def materialize(*args, **kwargs):
    global read
    read += 1
    print(read, flush=True)
    time.sleep(1)
    return real(*args, **kwargs)

core_model_loading._materialize_copy = materialize
from langchain_internvl import ChatInternVL
ChatInternVL(model=sys.argv[1], max_tokens=2).invoke("Hello!")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_weights_load_ends_the_program_before_they_are_loaded():
    tensors = len(safe_open(FOLDER / "model.safetensors", "pt").keys())
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(FOLDER)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout.readline() == "1\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE)
    finally:
        program.kill()
    assert "KeyboardInterrupt" in err
    assert program.returncode != 0
    assert len(out.split()) < tensors / 2


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


@pytest.mark.parametrize("place", ["load", "_read_prompt", "step", "can_admit"])
def test_a_panic_is_told_and_hangs_nobody(place, engine_thread, monkeypatch):
    def panic(*_):
        raise Panic("panic")

    running = submit(engine_thread, Request([1, 2], max_tokens=1_000_000))
    running.next()
    if place == "load":
        fresh = EngineThread(panic)
        with pytest.raises(BackendError, match="Panic"):
            submit(fresh, Request([1], timeout=PATIENCE)).next()
        fresh._load = lambda: engine_thread._loop
        fresh.close()
        return
    monkeypatch.setattr(engine_thread._loop, place, panic)
    handle = submit(engine_thread, Request([1, 2], max_tokens=5, timeout=PATIENCE))
    with pytest.raises(BackendError, match="Panic"):
        read_all(handle)
    monkeypatch.undo()
    running.leave()
    assert submit(engine_thread, Request([1, 2], max_tokens=1)).next().finish_reason == "length"
    assert wait_until(lambda: not threads())


def test_a_request_that_cannot_be_admitted_fails_alone(engine_thread, monkeypatch):
    running = submit(engine_thread, Request([1, 2], max_tokens=1_000_000))
    running.next()
    asked = []

    def fail(request):
        asked.append(request)
        raise KeyError("rope")

    monkeypatch.setattr(engine_thread._loop, "can_admit", fail)
    with pytest.raises(BackendError, match="KeyError"):
        submit(engine_thread, Request([1, 2], timeout=PATIENCE)).next()
    assert len(asked) == 1
    for _ in range(3):
        running.next()
    running.leave()


def test_the_youngest_row_makes_room_when_memory_is_full(engine_thread, monkeypatch):
    """And the others say what they would have said."""
    expected = [
        [handle.next().token_id for _ in range(30)]
        for handle in (submit(engine_thread, Request([5, 6 + n], max_tokens=30)) for n in range(2))
    ]
    layers = engine_thread._loop._model.model.language_model.layers
    forward = layers[1].forward

    def full_for_three(hidden, *args, **kwargs):
        if hidden.shape[:2] == (3, 1):  # the first layer has its new keys by now
            raise torch.OutOfMemoryError("full")
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(layers[1], "forward", full_for_three)
    old = [submit(engine_thread, Request([5, 6 + n], max_tokens=30)) for n in range(2)]
    said = [[handle.next().token_id] for handle in old]
    young = submit(engine_thread, Request([9], max_tokens=30))
    young.next()
    with pytest.raises(EngineMemoryError):
        read_all(young)
    for handle, ids_ in zip(old, said, strict=True):
        ids_ += [handle.next().token_id for _ in range(29)]
    assert said == expected


def test_whoever_gave_up_waits_no_longer(engine_thread):
    """Behind one that still waits, too."""
    engine_thread._max_queued = 2
    engine_thread._loop._limits = Limits(max_rows=1)
    running = submit(engine_thread, Request([1, 2], max_tokens=1_000_000))
    running.next()
    waiting = submit(engine_thread, Request([1, 2], max_tokens=3))
    late = submit(engine_thread, Request([1, 2], timeout=0.05))
    with pytest.raises(EngineBusyError, match="max_concurrency"):
        submit(engine_thread, Request([1, 2]))
    with pytest.raises(RequestTimeoutError):
        late.next()
    assert engine_thread.stats.queued == 1
    left = submit(engine_thread, Request([1, 2]))
    left.leave()
    assert engine_thread.stats.queued == 1
    running.leave()
    assert [waiting.next().finish_reason for _ in range(3)] == [None, None, "length"]


def test_a_stream_that_nobody_reads_ends_at_its_deadline(engine_thread):
    handle = submit(engine_thread, Request([1, 2], max_tokens=1_000_000, timeout=0.2))
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


def test_everyone_gets_an_error_of_their_own(backend, monkeypatch):
    go_on = threading.Event()

    def load(*_):
        go_on.wait(PATIENCE)
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


def test_caches_are_cleared_while_others_go_on(backend):
    backend.clear_caches()  # nothing is loaded
    prompt = tuple(range(300, 400))
    ids(backend, *prompt, max_tokens=3)
    assert wait_until(lambda: not threads())
    assert backend.stats.prefix_bytes
    backend.clear_caches()
    assert backend.stats.prefix_bytes == 0
    running = backend.stream(Request([1, 2], max_tokens=1_000_000))
    next(running)
    ids(backend, *prompt, max_tokens=3)
    backend.clear_caches()
    assert backend.stats.prefix_bytes == 0
    next(running)
    running.close()
    backend.close()
    backend.clear_caches()


def test_warming_up_loads_the_model_and_leaves_nothing(backend):
    backend.warm_up()
    stats = backend.stats
    assert (stats.decode_steps, stats.feature_misses) == (1, 1)
    assert (stats.kv_bytes, stats.prefix_bytes, stats.feature_bytes) == (0, 0, 0)
