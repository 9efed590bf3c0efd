"""What a grammar costs in each decode step, in the same loop and the same run.

    python benchmarks/grammar.py [--model FOLDER] [--tokens 200] [--rounds 5]

Decodes rows without a grammar, and rows that a grammar holds to the arguments of a call, and takes
the time of the grammar's own part: the mask of the next token and the step on. The ratio is that
part of a whole step. Also tells how long the grammar takes to compile, once for a vocabulary.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from langchain_internvl import nano
from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.backends.transformers import decoding
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.grammars import (
    Grammars,
    GrammarState,
    apply_masks,
    grammars_of,
)
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.checkpoint import read_checkpoint
from langchain_internvl.grammars.grammar import Grammar, compact_json, only_calls, tag
from langchain_internvl.grammars.schemas import check_schema
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.template_choice import choose_template

ITEM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 20, "maxLength": 40},
        "kind": {"enum": ["food", "fuel", "other"]},
        "price": {"type": "number", "minimum": 0, "maximum": 1000},
        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    },
    "required": ["name", "kind", "price"],
}
RECEIPT = {
    "type": "object",
    "properties": {"shop": {"type": "string"}, "items": {"type": "array", "items": ITEM}},
    "required": ["shop", "items"],
}


def main() -> None:
    """Time both and print what a grammar adds to a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=nano.FOLDER)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    checkpoint, tokenizer = read_checkpoint(arguments.model), load_tokenizer(arguments.model)
    model = load_model(checkpoint, tokenizer.image_context_id, LoadOptions(dtype="float32"))
    stop_ids = frozenset({tokenizer.stop_id(choose_template(checkpoint, tokenizer).stop)})
    prompt = tokenizer.encode_text("What is on the receipt? " * 5)
    form = only_calls(
        [tag("<tool_call>\n", compact_json(check_schema(RECEIPT), (", ", ": ")), "</tool_call>")],
        "\n",
        single_call=False,
    )
    fresh = Grammars(tokenizer.token_bytes)
    compile_ms = 1000 * timed(lambda: fresh.compile(form))
    grammars_of(tokenizer.token_bytes).compile(form)

    def run(grammar: Grammar | None, seed: int) -> tuple[float, float]:
        """Seconds of a step, and of the grammar's part in it."""
        loop = DecodeLoop(model, tokenizer.token_bytes)
        sampling = Sampling(temperature=1.0, seed=seed)
        ends = frozenset() if grammar is None else stop_ids
        row, _ = loop.add(
            Request(
                prompt,
                sampling=sampling,
                max_tokens=arguments.tokens,
                stop_ids=ends,
                grammar=grammar,
            )
        )

        def decode() -> None:
            while loop.sequences:
                loop.step()

        with watched() as spent:
            whole = timed(decode)
        steps = len(row.reply) - 1
        return whole / steps, sum(spent) / steps

    run(None, 0), run(form, 0)  # the first steps of all are slower
    pairs = [(run(None, seed), run(form, seed)) for seed in range(1, arguments.rounds + 1)]
    free = statistics.median(pair[0][0] for pair in pairs)
    part = statistics.median(pair[1][1] for pair in pairs)
    held = statistics.median(pair[1][0] for pair in pairs)
    print(f"{arguments.model.name}: {model.device}, {torch.get_num_threads()} threads")
    print(f"vocabulary {len(tokenizer.token_bytes)}, compiled once in {compile_ms:.0f} ms")
    print(f"a step without a grammar {1e6 * free:9.0f} us")
    print(f"a step with one          {1e6 * held:9.0f} us   {held / free:.3f} of it")
    print(f"the grammar's own part   {1e6 * part:9.0f} us   {100 * part / free:.2f} % of it")


def timed(run: Callable[[], object]) -> float:
    """Seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def watched() -> Iterator[list[float]]:
    """Collect the seconds that grammars take."""
    spent: list[float] = []
    mask, accept = GrammarState.mask, GrammarState.accept

    def timed_mask(state: GrammarState) -> torch.Tensor:
        start = time.perf_counter()
        bits = mask(state)
        spent.append(time.perf_counter() - start)
        return bits

    def timed_apply(logits: torch.Tensor, masks: Mapping[int, torch.Tensor]) -> torch.Tensor:
        start = time.perf_counter()
        scores = apply_masks(logits, masks)
        spent.append(time.perf_counter() - start)
        return scores

    def timed_accept(state: GrammarState, token_id: int) -> None:
        spent.append(timed(lambda: accept(state, token_id)))

    with (
        patch.object(GrammarState, "mask", timed_mask),
        patch.object(decoding, "apply_masks", timed_apply),
        patch.object(GrammarState, "accept", timed_accept),
    ):
        yield spent


if __name__ == "__main__":
    main()
