"""Random models of realistic proportions, and both ways to run them: ours and the plain one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig
from transformers.generation.streamers import BaseStreamer
from transformers.models.qwen2 import Qwen2Config

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.cpu_products import CPULinear, use_cpu_products
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.vision import normalise_on_device

VOCABULARY, CONTEXT, PER_TILE = 151_674, 151_667, 256

Tiles = NDArray[np.uint8]


def make_model(vision_layers: int, language_layers: int) -> Any:
    """A random float32 model in the shapes of InternViT-300M and a 0.5B Qwen2 (24 layers each).

    Its linear layers are those of a model that the package has loaded.
    """
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=vision_layers,
            num_attention_heads=16,
            image_size=[448, 448],
            patch_size=[14, 14],
        ),
        text_config=Qwen2Config(
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=language_layers,
            num_attention_heads=14,
            num_key_value_heads=2,
            vocab_size=VOCABULARY,
            tie_word_embeddings=True,
            max_position_embeddings=32_768,
        ),
        image_token_id=CONTEXT,
        image_seq_length=PER_TILE,
        tie_word_embeddings=True,
    )
    model: Any = InternVLForConditionalGeneration(config)
    use_cpu_products(model.to(torch.float32))
    return model.eval()


def loop_of(model: Any, **limits: Any) -> DecodeLoop:
    """An engine for a model, with empty caches."""
    return DecodeLoop(model, {}, Limits(**limits))


def words(count: int, seed: int) -> list[int]:
    """A text of random tokens."""
    ids: list[int] = np.random.default_rng(seed).integers(1000, 150_000, count).tolist()
    return ids


def page(tiles: int, seed: int) -> Tiles:
    """Random tiles."""
    return np.random.default_rng(seed).integers(0, 256, (tiles, 448, 448, 3), np.uint8)


@dataclass(frozen=True)
class Timed:
    """A reply with its times.

    Attributes:
        tokens: Token ids.
        first: Seconds to the first token.
        whole: Seconds to the last token.
    """

    tokens: list[int]
    first: float
    whole: float


def ours(loop: DecodeLoop, request: Request) -> Timed:
    """The reply of the engine."""
    start = time.perf_counter()
    sequence = loop.begin(request)
    first = 0.0
    while sequence in loop.sequences:
        for _ in loop.step():
            first = first or time.perf_counter() - start
    return Timed(sequence.reply, first, time.perf_counter() - start)


class _Clock(BaseStreamer):
    """Notes when `generate` has its first token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:  # noqa: ARG002 - by the base class
        """Note the time; the first call passes the prompt."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing."""


@contextmanager
def _plain_layers(model: Any) -> Iterator[None]:
    """Context in which a model's linear layers are torch's own."""
    layers: list[nn.Module] = [one for one in model.modules() if type(one) is CPULinear]
    for one in layers:
        one.__class__ = nn.Linear
    try:
        yield
    finally:
        for one in layers:
            one.__class__ = CPULinear


def plain(model: Any, ids: list[int], tiles: Tiles | None, tokens: int) -> Timed:
    """The reply of transformers' `generate`, with the pixels of the whole conversation."""
    clock = _Clock()
    with _plain_layers(model):
        start = time.perf_counter()
        output = model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            **({} if tiles is None else {"pixel_values": normalise_on_device(tiles, model.device)}),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=None,
            pad_token_id=0,
            streamer=clock,
        )
        whole = time.perf_counter() - start
    reply: list[int] = output[0, len(ids) :].tolist()
    return Timed(reply, clock.times[1] - start, whole)
