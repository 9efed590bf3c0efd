"""What LangChain's side adds to each streamed token, and to streamed structured output."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import deque
from collections.abc import Callable

from benchmarks.row import Bench, Result, Row, Study, timed
from langchain_internvl import ChatInternVL
from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.scripted import ScriptedBackend

SCHEMA = {
    "title": "Table",
    "type": "object",
    "properties": {"rows": {"type": "array", "items": {"type": "object"}}},
}


def measure(bench: Bench) -> dict[str, Result]:
    """Stream from an engine that costs nothing."""
    return {"token": _token(bench), "structured": _structured(bench)}


def _chat(pieces: list[str]) -> tuple[ChatInternVL, ScriptedBackend]:
    *first, last = pieces
    deltas = [*(Delta(5, piece) for piece in first), Delta(5, last, "stop")]
    backend = ScriptedBackend(lambda _: deltas)
    return ChatInternVL(model="nano", backend=backend), backend


def _token(bench: Bench) -> Result:
    """Microseconds that `stream`, the slowest way beside `astream`, adds to a token."""
    count = bench.size(4000, 50)
    llm, backend = _chat([" word"] * count)

    def bare() -> None:
        for _ in backend.stream(Request([1])):
            pass

    def stream() -> None:
        for _ in llm.stream("Hello"):
            pass

    async def astream() -> None:
        async for _ in llm.astream("Hello"):
            pass

    def each(run: Callable[[], object]) -> list[float]:
        run()
        times = [timed(run) - timed(bare) for _ in range(bench.size(7, 1))]
        return [1e6 * one / count for one in times]

    invoke = statistics.median(each(lambda: llm.invoke("Hello")))
    threaded = statistics.median(each(lambda: asyncio.run(astream())))
    return Result(
        each(stream),
        f"stream, {count} tokens; invoke {invoke:.0f} us, astream by threads {threaded:.0f} us",
        profile=stream,
    )


def _structured(bench: Bench) -> Result:
    """Time of four times the tokens, over four times the time: 1 is linear, 4 quadratic."""
    few = bench.size(1000, 100)
    values, seconds = [], 0.0
    for _ in range(bench.size(3, 1)):
        short, seconds = (_stream_rows(count) for count in (few, 4 * few))
        values.append(seconds / short / 4)
    return Result(
        values,
        f"{few} and {4 * few} tokens, the latter {seconds:.2f} s",
        profile=lambda: _stream_rows(4 * few),
    )


def _stream_rows(tokens: int) -> float:
    """Seconds of a streamed value of about so many tokens: rows of a table."""
    rows = [{"name": f"item {n}", "price": n / 4, "sold": n % 2 == 0} for n in range(tokens // 14)]
    text = json.dumps({"rows": rows})
    size = max(1, len(text) // tokens)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    llm, _ = _chat(pieces)
    structured = llm.with_structured_output(SCHEMA)
    start = time.perf_counter()
    last = deque(structured.stream("Which?"), maxlen=1)
    seconds = time.perf_counter() - start
    if last[0] != {"rows": rows}:
        raise SystemExit("OTHER VALUE")
    return seconds


STUDY = Study(
    (
        Row("token", "added by LangChain's side to a streamed token", 50, "us"),
        Row("structured", "structured output of 4,000 tokens, time / linear time", 1.25),
    ),
    measure,
)
