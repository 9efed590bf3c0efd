"""Whole calls: one at a time and eight at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from benchmarks.random_model import Timed, loop_of, make_model, ours, page, plain, words
from benchmarks.row import Bench, Result, Row, Study, require_same, timed
from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.backend import TransformersBackend
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer

TINY = Path(__file__).parents[2] / "tests" / "data" / "golden" / "tiny-internvl2-qwen2"
"""A checkpoint whose tokenizer and prompt the random model borrows."""


def measure(bench: Bench) -> dict[str, Result]:
    """Eight conversations together and one by one; a call over `generate`."""
    return {"together": _together(bench), "invoke": _invoke(bench)}


@torch.inference_mode()
def _together(bench: Bench) -> Result:
    model, tokens = bench.model, bench.size(64, 8)
    requests = [Request(words(100 + 20 * n, n), max_tokens=tokens) for n in range(8)]
    expected = [plain(model, list(one.prompt_ids), None, tokens) for one in requests]
    ratios, seconds = [], 0.0
    for _ in range(bench.rounds):
        loop = loop_of(model, prefix_cache=False)
        alone = [ours(loop, one) for one in requests]
        start = time.perf_counter()
        begun = [loop.begin(one) for one in requests]
        while loop.sequences:
            loop.step()
        seconds = time.perf_counter() - start
        ratios.append(seconds / _whole(alone))
        for one, reply, other in zip(begun, alone, expected, strict=True):
            require_same(one.reply, reply.tokens)
            require_same(one.reply, other.tokens)
    weights = sum(one.nbytes for one in model.model.language_model.parameters())
    least = 1000 * weights / bench.peaks.bandwidth
    return Result(
        ratios,
        f"{tokens} tokens each; {seconds:.2f} s; over plain one by one "
        f"{seconds / _whole(expected):.2f}",
        limit=f"a step reads {weights / 1e9:.2f} GB of weights: {least:.0f} ms at the machine's "
        f"bandwidth; it takes {1000 * seconds / tokens:.0f} ms with 8 sequences",
    )


def _whole(replies: list[Timed]) -> float:
    return sum(one.whole for one in replies)


class _InMemory(TransformersBackend):
    """The package's backend around a model that is loaded already."""

    def __init__(self, model: Any) -> None:
        self.tokenizer = load_tokenizer(TINY)
        super().__init__(read_checkpoint(TINY), self.tokenizer)
        self.reply: list[int] = []
        self._model = model

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Stream a reply and keep its tokens."""
        self.reply = []
        for delta in super().stream(request):
            self.reply.append(delta.token_id)
            yield delta

    def _load(self) -> DecodeLoop:
        # Nothing is kept, so that every call computes all that `generate` computes.
        limits = Limits(prefix_cache=False, feature_cache_bytes=0)
        return DecodeLoop(self._model, self.tokenizer.token_bytes, limits)


def _invoke(bench: Bench) -> Result:
    """`ChatInternVL.invoke` with one image of one tile, over bare `generate` on the same inputs."""
    tokens = bench.size(32, 4)
    model = make_model(bench.layers, bench.layers)
    backend = _InMemory(model)
    model.config.image_token_id = backend.tokenizer.image_context_id
    llm = ChatInternVL(model=str(TINY), backend=backend, temperature=0, max_tokens=tokens)
    tiles = page(1, 2)
    image, text = image_block(Image.fromarray(tiles[0])), {"type": "text", "text": "word " * 20}
    message = HumanMessage([dict(image), text])
    ids = llm.prompt_ids([message])

    def invoke() -> None:
        llm.invoke([message])

    invoke()
    ratios, own, other = [], [], []
    for _ in range(bench.size(2 * bench.rounds + 1, 1)):
        with torch.inference_mode():
            expected = plain(model, ids, tiles, tokens)
        other.append(expected.whole)
        own.append(timed(invoke))
        require_same(backend.reply, expected.tokens)
        ratios.append(own[-1] / other[-1])
    return Result(
        ratios,
        f"1 tile, {len(ids)} + {tokens} tokens; {statistics.median(own):.2f} s, plain "
        f"{statistics.median(other):.2f} s",
        profile=invoke,
        limit=_limit(bench, model, len(ids), tokens),
    )


def _limit(bench: Bench, model: Any, prompt: int, tokens: int) -> str:
    """Least seconds of a call: the products of tile and prompt, and the weights of each step."""
    vision = sum(one.numel() for one in model.model.vision_tower.parameters())
    layers = sum(one.numel() for one in model.model.language_model.layers.parameters())
    language = sum(one.nbytes for one in model.model.language_model.parameters())
    read = 2 * (1025 * vision + prompt * layers) / bench.peaks.gemm
    steps = (tokens - 1) * language / bench.peaks.bandwidth
    return (
        f"tile and prompt {read:.2f} s at the GEMM peak, {tokens - 1} steps {steps:.2f} s at the "
        "bandwidth"
    )


STUDY = Study(
    (
        Row("together", "8 conversations x 64 tokens, ours / one by one", 0.30),
        Row("invoke", "one invoke over bare generate, same inputs", 1.00),
    ),
    measure,
)
