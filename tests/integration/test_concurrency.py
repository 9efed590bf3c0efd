"""Many callers, one running batch: nobody's reply depends on the others."""

import asyncio
import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from engine_support import FOLDER, ids, make_backend, threads, wait_until
from golden import TINY, VIDEO, checkpoint_folder
from langchain_core.messages import HumanMessage
from patience import PATIENCE
from reference import SINGLE, model_of, reference_request, until_stop
from support import FixedBackend

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta, EngineStats, Request, Sampling, astream
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.errors import (
    EngineBusyError,
    EngineMemoryError,
    MediaError,
    RequestError,
    RequestTimeoutError,
)


@pytest.fixture
def engine(request):
    backend = make_backend(**getattr(request, "param", {}))
    yield backend
    backend.close()


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
    most = 0

    def run(case):
        nonlocal most
        stream = backend.stream(requests[case["id"]])
        stop_after = random.Random(case["id"]).randrange(4) if case["id"] in cancelled else 10**6
        tokens = []
        for delta in stream:
            most = max(most, backend.stats.active_rows)
            tokens.append(delta.token_id)
            if len(tokens) > stop_after:
                stream.close()
        return tokens

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(run, cases))
    for case, tokens in zip(cases, replies, strict=True):
        assert tokens == until_stop(case)[: len(tokens)], case["id"]
        assert case["id"] in cancelled or tokens == until_stop(case), case["id"]
    assert most > 3
    assert wait_until(lambda: not threads())
    stats = backend.stats
    assert stats == EngineStats(decode_steps=stats.decode_steps)
    backend.close()


# Admission.


@pytest.mark.parametrize("engine", [{"max_rows": 2}], indirect=True)
def test_no_more_rows_than_allowed(engine):
    alone = [ids(engine, 1, 2, 3 + n, max_tokens=12) for n in range(6)]
    seen = []

    def run(n):
        tokens = []
        for delta in engine.stream(Request([1, 2, 3 + n], max_tokens=12)):
            tokens.append(delta.token_id)
            seen.append(engine.stats.active_rows)
        return tokens

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == alone
    assert max(seen) == 2


# Keys and values of a token: 2 layers, 2 heads of 16 float32 numbers, of both.
PER_TOKEN = 2 * 2 * 2 * 16 * 4


@pytest.mark.parametrize("engine", [{"max_kv_bytes": 100 * PER_TOKEN}], indirect=True)
def test_no_more_keys_and_values_than_allowed(engine):
    """Of requests of up to 40 tokens two may run, and one that never could is refused."""
    seen = []

    def run(n):
        for _ in engine.stream(Request(range(3, 33), max_tokens=10)):
            stats = engine.stats
            seen.append((stats.active_rows, stats.kv_bytes))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
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
    running = engine.stream(Request([1, 2], max_tokens=100_000))
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
    running = engine.stream(Request([1, 2], max_tokens=100_000))
    next(running)
    with pytest.raises(RequestTimeoutError):
        ids(engine, 1, 2, timeout=0.1)
    next(running)
    assert engine.stats.active_rows == 1
    running.close()
    assert wait_until(lambda: engine.stats.queued == 0 and not threads())


def test_a_cancelled_row_gets_no_further_token(engine):
    """It is gone before the next step begins."""
    stream = engine.stream(Request([1, 2], max_tokens=100_000))
    other = engine.stream(Request([1, 2], max_tokens=100_000))
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


async def becomes(condition):
    return await asyncio.to_thread(wait_until, condition)


async def gather(backend, requests):
    async def run(request):
        return [delta.token_id async for delta in backend.astream(request)]

    return await asyncio.gather(*map(run, requests))


def test_tasks_share_the_running_batch_in_any_event_loop(engine):
    requests = [Request([1, 2, 3 + n], max_tokens=8) for n in range(8)]
    alone = [ids(engine, *request.prompt_ids, max_tokens=8) for request in requests]
    steps = engine.stats.decode_steps
    assert asyncio.run(gather(engine, requests)) == alone
    assert engine.stats.decode_steps - steps < 8 * 7
    assert asyncio.run(gather(engine, requests)) == alone


async def test_no_thread_waits_for_tokens(engine, monkeypatch):
    hops = []
    loop = asyncio.get_running_loop()
    run_in_executor = loop.run_in_executor
    monkeypatch.setattr(
        loop, "run_in_executor", lambda *a, **k: hops.append(a) or run_in_executor(*a, **k)
    )
    llm = ChatInternVL(model=str(FOLDER), backend=engine, temperature=0)
    counts = []
    for length in (2, 40):
        hops.clear()
        chunks = [chunk async for chunk in llm.astream("Hello", max_tokens=length)]
        assert chunks[-1].usage_metadata["output_tokens"] == length
        counts.append(len(hops))
    assert counts[0] == counts[1] <= 4


class Endless:
    """An engine whose replies do not end by themselves."""

    def __init__(self, engine):
        self.engine = engine

    def stream(self, request):
        return self.engine.stream(replace(request, stop_ids=frozenset(), stop=()))

    def astream(self, request):
        return self.engine.astream(replace(request, stop_ids=frozenset(), stop=()))

    def close(self):
        pass


async def test_a_cancelled_task_ends_its_row(engine):
    llm = ChatInternVL(model=str(FOLDER), backend=Endless(engine), max_tokens=100_000)
    llm_task = asyncio.create_task(llm.ainvoke("Hello"))
    assert await becomes(lambda: engine.stats.active_rows)
    llm_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await llm_task
    assert await becomes(lambda: not engine.stats.active_rows)
    async for _ in llm.astream("Hello"):
        break
    assert await becomes(lambda: not engine.stats.active_rows)
    with pytest.raises(RequestTimeoutError):
        await llm.ainvoke("Hello", timeout=0.1)
    for endless in (1e12, float("inf")):
        assert (await llm.ainvoke("Hello", timeout=endless, max_tokens=2)).content is not None


async def test_a_cancellation_beside_a_token_is_not_lost(engine):
    """Python before 3.12 loses some of those that wait with a timeout."""
    llm = ChatInternVL(model=str(FOLDER), backend=engine, max_tokens=300, timeout=PATIENCE)
    for number in range(12):
        tokens = []
        enough = asyncio.Event()

        async def read(tokens=tokens, enough=enough, count=3 + number % 3):
            async for chunk in llm.astream("Hello"):
                tokens.append(chunk)
                if len(tokens) == count:
                    enough.set()

        reading = asyncio.create_task(read())
        await enough.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert len(tokens) < 20
    assert await becomes(lambda: not engine.stats.active_rows)


async def test_media_are_part_of_a_calls_time_and_are_not_read_for_nobody(engine, monkeypatch):
    started, ended = threading.Event(), threading.Event()

    def hang(source, policy, num_frames, bound, deadline):
        stop = threading.Event()
        with deadline.stopping(stop.set):
            started.set()
            stop.wait(min(20, deadline.remaining() or 20))
        ended.set()
        raise MediaError("clip", "was not read")

    monkeypatch.setattr("langchain_internvl.media.reader.read_clip", hang)
    llm = ChatInternVL(model=str(FOLDER), backend=engine)
    video = [HumanMessage([{"type": "video", "path": str(VIDEO)}])]
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
        await asyncio.to_thread(llm.invoke, video, timeout=0.3)
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.3 s"):
        await llm.ainvoke(video, timeout=0.3)
    for event in (started, ended):
        event.clear()
    task = asyncio.create_task(llm.ainvoke(video))
    await asyncio.to_thread(started.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 5)


async def test_an_event_loop_that_is_gone_loses_nothing_but_its_row(engine):
    def leave():
        async def begin():
            stream = engine.astream(Request([1, 2], max_tokens=100_000))
            return await stream.__anext__()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()

    await asyncio.to_thread(leave)
    gc.collect()
    assert await becomes(lambda: not engine.stats.active_rows)
    assert len(await asyncio.to_thread(ids, engine, 1, 2, max_tokens=2)) == 2


async def test_batches_of_all_kinds_share_the_batch(engine):
    llm = ChatInternVL(model=str(FOLDER), backend=engine, temperature=0, max_tokens=6)
    inputs = [f"question {n}" for n in range(5)]
    alone = [llm.invoke(one).content for one in inputs]
    steps = engine.stats.decode_steps
    assert [reply.content for reply in await asyncio.to_thread(llm.batch, inputs)] == alone
    assert [reply.content for reply in await llm.abatch(inputs)] == alone
    with ThreadPoolExecutor(5) as pool:
        assert [reply.content for reply in pool.map(llm.invoke, inputs)] == alone
    assert engine.stats.decode_steps - steps < 3 * 5 * 5  # alone each takes five


async def test_backends_without_an_astream_are_waited_for_in_threads():
    backend = FixedBackend(*(Delta(n, "x") for n in range(3)), Delta(3, "", "stop"))
    assert [delta.token_id async for delta in astream(backend, Request([1]))] == [0, 1, 2, 3]
    stream = astream(backend, Request([1]))
    await stream.__anext__()
    await stream.aclose()
    assert backend.closed == 2
    started, go_on = threading.Event(), threading.Event()

    class Slow(FixedBackend):
        def stream(self, request):
            try:
                started.set()
                go_on.wait(PATIENCE)
                yield Delta(1, "x", "stop")
            finally:
                self.closed += 1

    slow = Slow()
    task = asyncio.create_task(astream(slow, Request([1])).__anext__())
    await asyncio.to_thread(started.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await becomes(lambda: slow.closed)
