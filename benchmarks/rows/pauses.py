"""What a long prompt does to those that run and come beside it, counted in decode steps."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.random_model import CONTEXT, PER_TILE, loop_of, page, words
from benchmarks.row import Bench, Result, Row, Study, timed
from langchain_internvl.backends.base import Delta, Request


@torch.inference_mode()
def measure(bench: Bench) -> dict[str, Result]:
    """A reply runs while a prompt of 13 tiles is read, and a short prompt comes late."""
    pauses, late, notes = [], [], []
    for number in range(bench.rounds):
        pause, steps, step = _one(bench, number)
        pauses.append(pause / step)
        late.append(float(steps))
        notes.append(f"a step alone {1000 * step:.0f} ms, the pause {1000 * pause:.0f} ms")
    return {
        "pause": Result(pauses, f"{notes[-1]}; {bench.size(13, 1)} tiles"),
        "late": Result(late, "a prompt of 16 tokens comes while the long one is half read"),
    }


def _one(bench: Bench, seed: int) -> tuple[float, int, float]:
    """Seconds of the longest pause, steps of a late request, and seconds of a step alone."""
    tiles = bench.size(13, 1)
    loop = loop_of(bench.model)
    running, _ = loop.add(Request(words(30, seed), max_tokens=4000))
    alone = [timed(loop.step) for _ in range(12)]
    ids = [*words(20, 1), *[CONTEXT] * (tiles * PER_TILE), *words(30, 2)]
    long = loop.begin(Request(ids, [page(tiles, seed)], max_tokens=4))
    late, late_steps = None, 0
    longest, last = 0.0, time.perf_counter()
    while long.is_reading or (late is not None and late.is_reading):
        if late is None and long.length > len(ids) // 2:
            late = loop.begin(Request(words(16, 5), max_tokens=2))
        late_steps += late is not None and late.is_reading
        if any(one is running and isinstance(event, Delta) for one, event in loop.step()):
            longest = max(longest, time.perf_counter() - last)
            last = time.perf_counter()
    longest = max(longest, time.perf_counter() - last)
    for one in set(loop.sequences) - {running}:
        loop.remove(one)
    alone += [timed(loop.step) for _ in range(12)]  # the machine may have become slower meanwhile
    loop.clear()
    return longest, late_steps, statistics.median(alone)


STUDY = Study(
    (
        Row("pause", "longest pause of a stream while 13 tiles are read, in its steps", 4, "steps"),
        Row("late", "a late request's first token, beyond its own prefill, in steps", 2, "steps"),
    ),
    measure,
)
