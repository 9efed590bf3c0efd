"""Tokens a second of the decode loop, with transformers' `generate` as the peer in the same run.

    python benchmarks/decode.py [--model FOLDER] [--rows 8] [--tokens 64]

The same prompts on the same weights: one after the other through `generate`, through `generate`
in one padded batch, and as rows of the decode loop that join one by one.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.prompting.tokenization import load_tokenizer

TINY = Path(__file__).parent.parent / "tests" / "data" / "golden" / "tiny-internvl2-qwen2"


def main() -> None:
    """Time the three ways and print them with their ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=TINY)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.model)
    model = load_model(
        read_checkpoint(arguments.model), tokenizer.image_context_id, LoadOptions(dtype="float32")
    )
    chance = random.Random(0)  # noqa: S311 - nothing secret
    prompts = [
        [chance.randrange(300, 900) for _ in range(20 + 30 * row)] for row in range(arguments.rows)
    ]
    count = arguments.tokens

    def one_by_one() -> list[list[int]]:
        return [generate(model, [prompt], count)[0] for prompt in prompts]

    def padded() -> list[list[int]]:
        return generate(model, prompts, count)

    def loop() -> list[list[int]]:
        decoding = DecodeLoop(model, tokenizer.token_bytes)
        rows = [decoding.add(Request(prompt, max_tokens=count))[0] for prompt in prompts]
        while decoding.sequences:
            decoding.step()
        return [row.reply for row in rows]

    print(f"{arguments.model.name}: {len(prompts)} rows, {count} tokens each, {model.device}")
    base, expected = measure(one_by_one)
    print(f"{'generate, one by one':28}{base:9.0f} tokens/s   1.00")
    for name, run in (("generate, one padded batch", padded), ("decode loop", loop)):
        speed, replies = measure(run)
        same = "same tokens" if replies == expected else "OTHER TOKENS"
        print(f"{name:28}{speed:9.0f} tokens/s  {speed / base:5.2f}   {same}")


def measure(run: Callable[[], list[list[int]]], times: int = 3) -> tuple[float, list[list[int]]]:
    """Best tokens a second of several runs, and what was said."""
    run()
    best, replies = 0.0, []
    for _ in range(times):
        start = time.perf_counter()
        replies = run()
        best = max(best, sum(map(len, replies)) / (time.perf_counter() - start))
    return best, replies


@torch.inference_mode()
def generate(model: Any, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy replies of transformers, left-padded."""
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = torch.tensor([[0] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    replies: list[list[int]] = output[:, longest:].tolist()
    return replies


if __name__ == "__main__":
    main()
