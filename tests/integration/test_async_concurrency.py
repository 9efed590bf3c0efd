"""Tasks of event loops in one running batch: none blocks, and none takes another with it."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from engine_support import ENDLESS, FOLDER, ids, together, wait_until
from golden import VIDEO
from langchain_core.messages import HumanMessage
from patience import PATIENCE
from support import FixedBackend

from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta, Request, astream
from langchain_internvl.errors import (
    MediaError,
    RequestTimeoutError,
)


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
    with together(engine._worker, 8):
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
    llm = ChatInternVL(model=str(FOLDER), backend=Endless(engine), max_tokens=ENDLESS)
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
    llm = ChatInternVL(
        model=str(FOLDER), backend=Endless(engine), max_tokens=ENDLESS, timeout=PATIENCE
    )
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
        before = len(tokens)
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert len(tokens) <= before + 1  # the one that the task had been woken for
    assert await becomes(lambda: not engine.stats.active_rows)


async def test_media_are_part_of_a_calls_time_and_are_not_read_for_nobody(engine, monkeypatch):
    started, ended = threading.Event(), threading.Event()

    def hang(source, policy, num_frames, bound, deadline):
        stop = threading.Event()
        with deadline.stopping(stop.set):
            started.set()
            stop.wait(min(PATIENCE, deadline.remaining() or PATIENCE))
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
    assert await asyncio.to_thread(ended.wait, PATIENCE)


async def test_an_event_loop_that_is_gone_loses_nothing_but_its_row(engine):
    def leave():
        async def begin():
            stream = engine.astream(Request([1, 2], max_tokens=ENDLESS))
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
    with together(engine._worker, 5):
        assert [one.content for one in await asyncio.to_thread(llm.batch, inputs)] == alone
    with together(engine._worker, 5):
        assert [one.content for one in await llm.abatch(inputs)] == alone
    with together(engine._worker, 5), ThreadPoolExecutor(5) as pool:
        assert [one.content for one in pool.map(llm.invoke, inputs)] == alone
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
