"""The engine beside transformers' own InternVL, on one random model and in one run.

    python benchmarks/engine.py [--scale 0.25] [--turns 4] [--tokens 32] [--rounds 2]

The model has the proportions of InternViT-300M and a 0.5B Qwen2; `--scale` is the part of their
layers that it gets. The plain way is transformers' `generate` with the pixels in every turn. Greedy
tokens of both have to be the same, else the run fails. Prints ratios with their spread over the
rounds and writes `benchmarks/results/engine.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig
from transformers.models.qwen2 import Qwen2Config

from langchain_internvl.backends.base import Delta, Request, Sampling
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.sampling import SamplerState, sample
from langchain_internvl.backends.transformers.vision import normalise_on_device

RESULTS = Path(__file__).parent / "results" / "engine.json"
VOCABULARY, CONTEXT, PER_TILE = 151_674, 151_667, 256
Report = dict[str, dict[str, Any]]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    model = make_model(arguments.scale)
    report: Report = {}
    with torch.inference_mode():
        turns(model, arguments.turns, arguments.rounds, report)
        conversations(model, report)
        together(model, arguments.tokens, arguments.rounds, report)
        single(model, arguments.tokens, arguments.rounds, report)
        pauses(model, report)
        columns(model, report)
        sampling(model, report)
    arguments.output.parent.mkdir(exist_ok=True)
    machine = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "scale": arguments.scale,
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps({"machine": machine, "results": report}, indent=2)
    arguments.output.write_text(text + "\n", "utf-8")
    print(f"{machine['processor']}, {machine['threads']} threads, scale {arguments.scale}")
    for name, row in report.items():
        print(f"{name:58}{row['value']:9.3f}  (goal {row['goal']}; {row['note']})")


def make_model(scale: float) -> Any:
    """A random model of realistic proportions, with a part of the layers."""
    torch.manual_seed(0)
    layers = max(1, round(24 * scale))
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=layers,
            num_attention_heads=16,
            image_size=[448, 448],
            patch_size=[14, 14],
        ),
        text_config=Qwen2Config(
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=layers,
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
    return model.to(torch.float32).eval()


def loop_of(model: Any, **limits: Any) -> DecodeLoop:
    """An engine with nothing kept."""
    return DecodeLoop(model, {}, Limits(**limits))


def words(count: int, seed: int) -> list[int]:
    """A text of random tokens."""
    ids: list[int] = np.random.default_rng(seed).integers(1000, 150_000, count).tolist()
    return ids


def page(tiles: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random tiles."""
    return np.random.default_rng(seed).integers(0, 256, (tiles, 448, 448, 3), np.uint8)


def decode(loop: DecodeLoop, request: Request) -> tuple[list[int], float]:
    """A reply, and seconds to its first token."""
    start = time.perf_counter()
    sequence = loop.begin(request)
    first = 0.0
    while sequence in loop.sequences:
        for _ in loop.step():
            first = first or time.perf_counter() - start
    return sequence.reply, first


def plain(model: Any, ids: list[int], tiles: Any, tokens: int) -> list[int]:
    """The reply of transformers, pixels and all."""
    pixels = None if tiles is None else normalise_on_device(tiles, model.device)
    output = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        pixel_values=pixels,
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    reply: list[int] = output[0, len(ids) :].tolist()
    return reply


def timed(run: Callable[[], object]) -> float:
    """Seconds that a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def note(report: Report, name: str, goal: str, values: list[float], what: str) -> None:
    """Add a row: the median, and the spread over the rounds."""
    report[name] = {
        "value": statistics.median(values),
        "goal": goal,
        "spread": [min(values), max(values)],
        "note": what,
    }
    print(
        f"... {name}: {statistics.median(values):.3f} {[round(one, 3) for one in values]}",
        flush=True,
    )


def require_same(ours: list[int], theirs: list[int]) -> None:
    """Fail if the tokens differ."""
    if ours != theirs:
        raise SystemExit(f"OTHER TOKENS: {ours} instead of {theirs}")


@dataclass
class Seconds:
    """Times of the turns of a conversation: to the first token, and to the last."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def conversation(model: Any, tiles: Any, count: int, seed: int) -> tuple[Seconds, Seconds]:
    """A conversation by the engine and by `generate`, turn by turn."""
    loop, tokens = loop_of(model), 8
    prompt = [*words(20, seed), *[CONTEXT] * (13 * PER_TILE), *words(12, 100 + seed)]
    ours, theirs = Seconds(), Seconds()
    for turn in range(count):
        request = Request(prompt, [tiles], max_tokens=tokens)
        start = time.perf_counter()
        reply, first = decode(loop, request)
        ours.first.append(first)
        ours.whole.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = plain(model, prompt, tiles, tokens)
        theirs.whole.append(time.perf_counter() - start)
        start = time.perf_counter()
        plain(model, prompt, tiles, 1)
        theirs.first.append(time.perf_counter() - start)
        require_same(reply, expected)
        prompt = [*prompt, *reply, *words(15, 200 + turn)]
    return ours, theirs


def turns(model: Any, count: int, rounds: int, report: Report) -> None:
    """Turns of a conversation about one image of 12 tiles and its thumbnail."""
    tiles = page(13, 0)
    later, total = [], []
    for number in range(rounds):
        ours, theirs = conversation(model, tiles, count, number)
        later.append(sum(ours.first[1:]) / sum(theirs.first[1:]))
        total.append(sum(ours.whole) / sum(theirs.whole))
    note(report, "first token of later turns, ours / plain", "<= 0.05", later, "13 tiles")
    note(report, f"{count} turns over one image, ours / plain", "<= 0.25", total, "13 tiles")


def conversations(model: Any, report: Report) -> None:
    """Eight conversations that begin otherwise and show one image."""
    loop, tiles = loop_of(model), page(1, 1)
    for number in range(8):
        ids = [*words(20, number), *[CONTEXT] * PER_TILE, *words(5, 9)]
        decode(loop, Request(ids, [tiles], max_tokens=1))
    runs = [float(loop.images.cache.misses)]
    note(report, "encoder runs, one image in 8 conversations", "1", runs, "counted")


def together(model: Any, tokens: int, rounds: int, report: Report) -> None:
    """Eight conversations at once and one by one."""
    requests = [Request(words(100 + 20 * n, n), max_tokens=tokens) for n in range(8)]
    ratios = []
    for _ in range(rounds):
        loop = loop_of(model, prefix_cache=False)
        start = time.perf_counter()
        alone = [decode(loop, one)[0] for one in requests]
        one_by_one = time.perf_counter() - start
        start = time.perf_counter()
        begun = [loop.begin(one) for one in requests]
        while loop.sequences:
            loop.step()
        ratios.append((time.perf_counter() - start) / one_by_one)
        for one, reply in zip(begun, alone, strict=True):
            require_same(one.reply, reply)
    note(report, "8 conversations, together / one by one", "<= 0.30", ratios, f"{tokens} tokens")


def single(model: Any, tokens: int, rounds: int, report: Report) -> None:
    """One call, with one tile, over `generate` with the same inputs."""
    tiles = page(1, 2)
    ids = [*words(20, 1), *[CONTEXT] * PER_TILE, *words(30, 2)]
    ratios = []
    for _ in range(rounds + 1):
        loop = loop_of(model, prefix_cache=False, feature_cache_bytes=0)
        start = time.perf_counter()
        reply, _ = decode(loop, Request(ids, [tiles], max_tokens=tokens))
        ours = time.perf_counter() - start
        start = time.perf_counter()
        expected = plain(model, ids, tiles, tokens)
        theirs = time.perf_counter() - start
        require_same(reply, expected)
        ratios.append(ours / theirs)
    note(report, "one call / generate", "<= 1.00", ratios[1:], f"1 tile, {tokens} tokens")


def pauses(model: Any, report: Report) -> None:
    """The longest pause of a running reply while a prompt of 13 tiles is encoded and read."""
    loop = loop_of(model)
    running, _ = loop.add(Request(words(30, 1), max_tokens=4000))
    steps, last = [], time.perf_counter()
    for _ in range(12):
        loop.step()
        steps.append(time.perf_counter() - last)
        last = time.perf_counter()
    step = statistics.median(steps)
    ids = [*words(20, 1), *[CONTEXT] * (13 * PER_TILE), *words(30, 2)]
    long = loop.begin(Request(ids, [page(13, 3)], max_tokens=4))
    gaps, last, late_steps = [], time.perf_counter(), 0
    late = None
    while long.is_reading:
        if late is None and long.length > len(ids) // 2:
            late = loop.begin(Request(words(16, 5), max_tokens=2))
        late_steps += late is not None and late.is_reading
        if any(one is running and isinstance(event, Delta) for one, event in loop.step()):
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()
    loop.clear()
    note(report, "longest pause while 13 tiles are read, in own steps", "<= 4",
         [max(gaps) / step], f"a step is {1000 * step:.0f} ms")  # fmt: skip
    note(report, "steps to a late short request's first token", "<= 2",
         [float(late_steps)], "16 tokens")  # fmt: skip


def columns(model: Any, report: Report) -> None:
    """What a decode step of 16 sequences of 2,000 tokens changes in the KV cache."""
    loop = loop_of(model, prefix_cache=False)
    begun = [loop.add(Request(words(2000, n), max_tokens=4))[0] for n in range(16)]
    tensors = [
        tensor for one in begun if one.slot for layer in one.slot.block.layers for tensor in layer
    ]
    before = [tensor[:, :, :2002].clone() for tensor in tensors]
    places = [tensor.data_ptr() for tensor in tensors]
    loop.step()
    changed = sum(
        int((tensor[:, :, :2002] != copy).sum()) * tensor.element_size()
        for tensor, copy in zip(tensors, before, strict=True)
    )
    if places != [tensor.data_ptr() for tensor in tensors]:
        raise SystemExit("the KV cache has moved")
    column = 16 * loop._slots.shape.token_bytes  # noqa: SLF001
    loop.clear()
    note(report, "bytes changed in a step / bytes of a column", "<= 1.1",
         [changed / column], "16 sequences x 2,000 tokens")  # fmt: skip


def sampling(model: Any, report: Report) -> None:
    """Sampling of 16 sequences, of a step's time scaled to all layers of a 0.5B model."""
    logits = torch.randn(16, VOCABULARY) * 3
    settings = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.1, seed=1)
    states = [SamplerState(settings) for _ in range(16)]
    for state in states:
        for token in words(200, 3):
            state.see(token)
    sample(logits, states)
    spent = statistics.median(timed(lambda: sample(logits, states)) for _ in range(10))
    loop = loop_of(model, prefix_cache=False)
    for number in range(16):
        loop.add(Request(words(200, number), max_tokens=9))
    step = statistics.median(timed(loop.step) for _ in range(6))
    loop.clear()
    note(report, "sampling / a decode step of 16 sequences", "<= 0.05",
         [spent / step], f"{1000 * spent:.1f} of {1000 * step:.0f} ms, of this model")  # fmt: skip


def processor() -> str:
    """The machine's name of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((one.partition(":")[2].strip() for one in lines if "model name" in one), "unknown")


if __name__ == "__main__":
    main()
