"""Failures end the requests they concern, and the engine goes on."""

import threading
import traceback
import weakref

import pytest
import torch
from engine_support import ENDLESS, FOLDER, ids, read_all, submit, threads, wait_until
from patience import PATIENCE

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.engine_thread import EngineThread
from langchain_internvl.backends.transformers.forward import LanguageModel
from langchain_internvl.errors import (
    BackendError,
    EngineMemoryError,
    PromptError,
)
from langchain_internvl.prompting.tokenization import load_tokenizer


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
    handles = [submit(engine_thread, Request([1, 2], max_tokens=ENDLESS)) for _ in range(3)]
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
    handles = [submit(engine_thread, Request([1, 2], max_tokens=ENDLESS)) for _ in range(4)]
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


class Panic(BaseException):
    """As the libraries in Rust raise it."""


@pytest.mark.parametrize("place", ["load", "_read_prompt", "step", "can_admit"])
def test_a_panic_is_told_and_hangs_nobody(place, engine_thread, monkeypatch):
    def panic(*_):
        raise Panic("panic")

    running = submit(engine_thread, Request([1, 2], max_tokens=ENDLESS))
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
    running = submit(engine_thread, Request([1, 2], max_tokens=ENDLESS))
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
    # Long enough to be there still, however late this thread gets to its next line.
    old = [submit(engine_thread, Request([5, 6 + n], max_tokens=ENDLESS)) for n in range(2)]
    said = [[handle.next().token_id] for handle in old]
    young = submit(engine_thread, Request([9], max_tokens=30))
    young.next()
    with pytest.raises(EngineMemoryError):
        read_all(young)
    for handle, ids_ in zip(old, said, strict=True):
        ids_ += [handle.next().token_id for _ in range(29)]
        handle.leave()
    assert said == expected
