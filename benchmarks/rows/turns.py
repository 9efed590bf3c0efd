"""Conversations about one image: what of it is computed again."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.random_model import CONTEXT, PER_TILE, Timed, loop_of, ours, page, plain, words
from benchmarks.row import Bench, Result, Row, Study, require_same
from langchain_internvl.backends.base import Request


@torch.inference_mode()
def measure(bench: Bench) -> dict[str, Result]:
    """Ten turns about an image of 12 tiles and its thumbnail, and eight conversations about one."""
    count, tiles = bench.size(10, 3), bench.size(13, 1)
    later, total, firsts = [], [], []
    for number in range(bench.rounds):
        own, other = _conversation(bench.model, tiles, count, number)
        later.append(sum(one.first for one in own[1:]) / sum(one.first for one in other[1:]))
        total.append(sum(one.whole for one in own) / sum(one.whole for one in other))
        firsts.append((own[-1].first, other[-1].first))
    own_first, other_first = firsts[-1]
    times = f"{tiles} tiles, {count} turns; the last: {own_first:.2f} s, plain {other_first:.2f} s"
    return {
        "later_turns": Result(later, times),
        "ten_turns": Result(total, f"{tiles} tiles, {count} turns of 8 tokens"),
        "encoder_runs": Result([float(_encoder_runs(bench.model))], "counted"),
    }


def _conversation(model: Any, size: int, count: int, seed: int) -> tuple[list[Timed], list[Timed]]:
    """The turns of a conversation, by the engine and by `generate`."""
    loop, tiles = loop_of(model), page(size, seed)
    prompt = [*words(20, seed), *[CONTEXT] * (size * PER_TILE), *words(12, 100 + seed)]
    own, other = [], []
    for turn in range(count):
        own.append(ours(loop, Request(prompt, [tiles], max_tokens=8)))
        other.append(plain(model, prompt, tiles, 8))
        require_same(own[-1].tokens, other[-1].tokens)
        prompt = [*prompt, *own[-1].tokens, *words(15, 200 + turn)]
    return own, other


def _encoder_runs(model: Any) -> int:
    """Images that are encoded in 8 conversations that begin otherwise and show the same image."""
    loop, tiles = loop_of(model), page(1, 1)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    handle = model.model.vision_tower.register_forward_hook(count)
    for number in range(8):
        ids = [*words(20, number), *[CONTEXT] * PER_TILE, *words(5, 9)]
        ours(loop, Request(ids, [tiles], max_tokens=1))
    handle.remove()
    return runs


STUDY = Study(
    (
        Row("later_turns", "first token of later turns, one 12-tile image, ours / plain", 0.05),
        Row("ten_turns", "ten turns about one image, ours / plain", 0.25),
        Row("encoder_runs", "encoder runs for one image in 8 conversations", 1, "runs"),
    ),
    measure,
)
