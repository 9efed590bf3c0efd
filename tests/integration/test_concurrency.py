"""Many callers, one running batch: nobody's reply depends on the others."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from engine_support import ENDLESS, FOLDER, ids, make_backend, threads, together, wait_until
from golden import TINY, checkpoint_folder
from reference import SINGLE, model_of, reference_request, until_stop
from support import FixedBackend

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import EngineStats, Request, Sampling
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.errors import (
    EngineBusyError,
    EngineMemoryError,
    RequestError,
    RequestTimeoutError,
)


@pytest.mark.golden
@pytest.mark.parametrize("name", TINY)
def test_recorded_generations_from_16_threads_a_third_of_them_cancelled(name, loops):
    """The others say what is recorded, and nothing is left over."""
    chance = random.Random(name)
    cases = [case for case in SINGLE if model_of(case) == name]
    chance.shuffle(cases)
    cancelled = {case["id"] for case in cases if chance.random() < 0.34}
    assert cancelled
    requests = {case["id"]: reference_request(case, loops(name)) for case in cases}
    backend = make_backend(checkpoint_folder(name))
    ids(backend, 1, 2, max_tokens=1)

    def run(case):
        stream = backend.stream(requests[case["id"]])
        stop_after = random.Random(case["id"]).randrange(4) if case["id"] in cancelled else 10**6
        tokens = []
        for delta in stream:
            tokens.append(delta.token_id)
            if len(tokens) > stop_after:
                stream.close()
        return tokens

    with together(backend._worker, min(len(cases), 16)) as seen, ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(run, cases))
    for case, tokens in zip(cases, replies, strict=True):
        assert tokens == until_stop(case)[: len(tokens)], case["id"]
        assert case["id"] in cancelled or tokens == until_stop(case), case["id"]
    assert max(rows for rows, _ in seen) > 3
    assert wait_until(lambda: not threads())
    stats = backend.stats
    assert stats == EngineStats(decode_steps=stats.decode_steps)
    backend.close()


# Admission.


@pytest.mark.parametrize("engine", [{"max_rows": 2}], indirect=True)
def test_no_more_rows_than_allowed(engine):
    alone = [ids(engine, 1, 2, 3 + n, max_tokens=12) for n in range(6)]

    def run(n):
        return ids(engine, 1, 2, 3 + n, max_tokens=12)

    with together(engine._worker, 6) as seen, ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == alone
    assert max(rows for rows, _ in seen) == 2


# Keys and values of a token: 2 layers, 2 heads of 16 float32 numbers, of both.
PER_TOKEN = 2 * 2 * 2 * 16 * 4


@pytest.mark.parametrize("engine", [{"max_kv_bytes": 100 * PER_TOKEN}], indirect=True)
def test_no_more_keys_and_values_than_allowed(engine):
    """Of requests of up to 40 tokens two may run, and one that never could is refused."""
    ids(engine, 1, max_tokens=1)  # loaded

    def run(n):
        return len(ids(engine, *range(3, 33), max_tokens=10))

    with together(engine._worker, 4) as seen, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [10] * 4
    assert max(rows for rows, _ in seen) == 2
    assert 0 < max(size for _, size in seen) <= 100 * PER_TOKEN
    with pytest.raises(EngineMemoryError, match=r"101 tokens need .* max_kv_bytes"):
        ids(engine, 1, max_tokens=100)
    assert len(ids(engine, 1, max_tokens=99)) <= 99
    assert engine.stats.queued == 0


def test_a_sequence_that_was_removed_makes_room_at_once():
    limit = 300 * PER_TOKEN
    backend = make_backend(max_kv_bytes=limit)
    ids(backend, 1, max_tokens=1)
    loop = backend._worker._loop
    long, _ = loop.add(Request(range(3, 203), max_tokens=50))
    newcomer = Request([1, 2], max_tokens=50)
    assert not loop.can_admit(newcomer)
    loop.remove(long)
    assert loop.can_admit(newcomer)
    loop.add(newcomer)
    assert loop.kv_bytes <= limit
    loop.clear()
    backend.close()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_a_seed_says_the_same_whatever_else_runs(dtype):
    """The size of a batch changes the last digits of scores there."""
    backend = make_backend(dtype=dtype)
    requests = [
        Request([5, 6 + n], max_tokens=24, sampling=Sampling(temperature=1.0, seed=n))
        for n in range(5)
    ]

    def run(request):
        return [delta.token_id for delta in backend.stream(request)]

    alone = [run(request) for request in requests]
    others = [Request([7, 8, n], max_tokens=40, sampling=Sampling(1.0)) for n in range(4)]
    with ThreadPoolExecutor(9) as pool:
        noise = [pool.submit(run, other) for other in others]
        assert list(pool.map(run, requests)) == alone
        for one in noise:
            one.result()
    backend.close()


@pytest.mark.parametrize("engine", [{"max_rows": 1, "max_queued": 2}], indirect=True)
def test_a_full_queue_refuses_and_one_that_is_left_takes_more(engine):
    running = engine.stream(Request([1, 2], max_tokens=ENDLESS))
    next(running)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ids, engine, 1, 2, max_tokens=3) for _ in range(2)]
        assert wait_until(lambda: engine.stats.queued == 2)
        with pytest.raises(EngineBusyError, match="2 requests are waiting"):
            ids(engine, 1, 2, max_tokens=3)
        running.close()
        assert [len(one.result()) for one in waiting] == [3, 3]
    assert len(ids(engine, 1, 2, max_tokens=3)) == 3


@pytest.mark.parametrize("engine", [{"max_rows": 1}], indirect=True)
def test_who_waits_may_give_up(engine):
    running = engine.stream(Request([1, 2], max_tokens=ENDLESS))
    next(running)
    with pytest.raises(RequestTimeoutError):
        ids(engine, 1, 2, timeout=0.1)
    next(running)
    assert engine.stats.active_rows == 1
    running.close()
    assert wait_until(lambda: engine.stats.queued == 0 and not threads())


def test_a_cancelled_row_gets_no_further_token(engine):
    """It is gone before the next step begins."""
    stream = engine.stream(Request([1, 2], max_tokens=ENDLESS))
    other = engine.stream(Request([1, 2], max_tokens=ENDLESS))
    next(stream)
    next(other)
    engine_thread = engine._worker
    ((row, handle), *_) = list(engine_thread._handles.items())
    with engine_thread._lock:  # between two steps, or in one that is the last
        handle.cancelled = True
        before = len(row.reply)
    assert wait_until(lambda: row not in engine_thread._handles)
    assert len(row.reply) <= before + 1
    steps = engine.stats.decode_steps
    assert wait_until(lambda: engine.stats.decode_steps > steps)
    other.close()


def test_limits_are_checked():
    for wrong in ({"max_rows": 0}, {"max_kv_bytes": -1}, {"max_queued": 1.5}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            Limits(**wrong)
    with pytest.raises(ValueError, match="not rows"):
        ChatInternVL(model=str(FOLDER), engine_options={"rows": 3})
    with pytest.raises(ValueError, match="dtype, engine_options: a backend object has its own"):
        ChatInternVL(backend=FixedBackend(), dtype="float16", engine_options={"max_rows": 3})


def test_full_memory_is_a_typed_error_and_the_engine_goes_on(engine, monkeypatch):
    ids(engine, 1, 2, max_tokens=1)
    loop = engine._worker._loop
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate"),
        MemoryError(),
    ):

        def full(*_, error=error):
            raise error

        monkeypatch.setattr(loop, "_read_prompt", full)
        with pytest.raises(EngineMemoryError, match="max_tokens") as caught:
            ids(engine, 1, 2)
        assert isinstance(caught.value, MemoryError)
        monkeypatch.undo()
        assert len(ids(engine, 1, 2, max_tokens=2)) == 2


# Tasks.
