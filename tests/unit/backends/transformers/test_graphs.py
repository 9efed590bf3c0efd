"""Decode steps that are captured and replayed give what steps without graphs give.

CUDA graphs need a GPU. Here a tape of operations is in their place, which repeats nothing of
Python, and fails where a capture would (`graph_tape.py`).
"""

import logging
import weakref

import pytest
import torch
from engine_support import FOLDER, solo, words
from graph_tape import Pure, TapeRecorder
from support import decode, load_loop

from langchain_internvl.backends.base import Delta, Request, Sampling
from langchain_internvl.backends.transformers import graphs
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.grammars.grammar import json_grammar
from langchain_internvl.grammars.schemas import check_schema

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "count": {"type": "integer"}},
    "required": ["name", "count"],
}


def loop_of(engine, slots=8, recorder=None, model=None, **limits):
    return DecodeLoop(
        model or engine.model, engine.tokenizer.token_bytes, Limits(**limits),
        shared_slots=slots, recorder=recorder or TapeRecorder(),
    )  # fmt: skip


def run(loop):
    while loop.sequences:
        assert all(isinstance(event, Delta) for _, event in loop.step())


@pytest.mark.parametrize("name", ["internlm2", "qwen2", "llama"])
@pytest.mark.parametrize("slots", [1, 2, 8])
def test_rows_that_join_and_leave(slots, name, loops):
    engine = loops(name)
    loop = loop_of(engine, slots, prefix_cache=False)
    requests = [
        Request(words(engine, 5 + 29 * (n % 4), n), max_tokens=9 + 11 * (n % 3)) for n in range(10)
    ]
    alone = [solo(engine, request) for request in requests]
    begun, waiting = [], list(requests)
    while waiting or loop.sequences:
        if waiting and loop.steps >= 5 * len(begun):
            begun.append(loop.begin(waiting.pop(0)))
        if len(begun) == 7 and begun[5] in loop.sequences:
            loop.remove(begun[5])
        loop.step()
    assert [one.reply for n, one in enumerate(begun) if n != 5] == alone[:5] + alone[6:]
    assert begun[5].reply == alone[5][: len(begun[5].reply)]
    assert loop.graphs.replays > loop.steps / 3
    loop.clear()
    assert loop._slots.nbytes == 0


def test_the_logits_are_those_of_steps_without_graphs(loops):
    engine = loops("qwen2")
    found = []
    for recorder in (TapeRecorder(), None):
        loop = DecodeLoop(
            engine.model, engine.tokenizer.token_bytes, shared_slots=4, recorder=recorder
        )
        for n in range(5):
            loop.add(Request(words(engine, 200 + 17 * n, n), max_tokens=80, top_logprobs=3))
        numbers = []
        while loop.sequences:
            for _, event in loop.step():
                numbers += [event.logprob, *(one.logprob for one in event.top_logprobs)]
        found.append(torch.tensor(numbers))
    assert len(found[0]) == 5 * 79 * 4
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


def test_a_reply_that_outgrows_its_view_gets_a_wider_one(loops):
    engine, recorder = loops("internlm2"), TapeRecorder()
    request = Request(words(engine, 250), max_tokens=300)
    loop = loop_of(engine, recorder=recorder)
    assert decode(loop, request)[0][0] == solo(engine, request)
    assert recorder.captures == 3  # 256, 512 and, since one slot has no more, 576 tokens
    assert loop.graphs.replays == 299 - 3 * 3


def test_sampling_and_grammars_are_outside_of_graphs(loops):
    engine = loops("qwen2")
    hot = [
        Request(words(engine, 20 + n, n), max_tokens=30,
                sampling=Sampling(temperature=1.3, top_p=0.9, seed=n, repetition_penalty=1.2))
        for n in range(3)
    ]  # fmt: skip
    grammar = json_grammar(check_schema(SCHEMA))
    held = Request(words(engine, 30), max_tokens=40, stop_ids=engine.stop_ids, grammar=grammar)
    loop = loop_of(engine)
    together = [ids for ids, _ in decode(loop, *hot, held)]
    assert together == [solo(engine, request) for request in (*hot, held)]
    assert loop.graphs.replays > 10


@pytest.mark.parametrize("slots", [1, 4])
def test_kept_sequences_and_prompts_in_reading_are_not_touched(slots, loops):
    """Their slots are dummy rows of the same blocks."""
    engine = loops("qwen2")
    loop = loop_of(engine, slots, prefill_chunk=8)
    cold = DecodeLoop(engine.model, engine.tokenizer.token_bytes, Limits(prefix_cache=False))
    start = [words(engine, 60, n) for n in range(3)]
    first = decode(loop, *(Request(one, max_tokens=12) for one in start))
    other = loop.begin(Request(words(engine, 70, 9), max_tokens=60))
    while len(other.reply) < 20:
        loop.step()
    late = loop.begin(Request(words(engine, 66, 10), max_tokens=20))
    run(loop)
    assert loop.graphs.replays > 30
    assert other.reply == solo(engine, other.request)
    assert late.reply == solo(engine, late.request)
    for prompt, (reply, _) in zip(start, first, strict=True):
        again = Request([*prompt, *reply, 7], max_tokens=15)
        (sequence, _) = loop.add(again)
        assert sequence.cached == 71
        run(loop)
        assert sequence.reply == decode(cold, again)[0][0]


def test_what_a_failed_neighbour_left_behind_does_not_spread(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 4)
    begun = [loop.add(Request(words(engine, 40 + n, n), max_tokens=30))[0] for n in range(4)]
    bad = begun.pop(2)
    with torch.inference_mode():
        for tensors in bad.slot.block.layers:
            for tensor in tensors:
                tensor[bad.slot.index] = float("nan")
    loop.remove(bad)
    run(loop)
    assert [one.reply for one in begun] == [solo(engine, one.request) for one in begun]
    assert loop.graphs.replays > 10


def test_graphs_of_freed_blocks_are_dropped_at_once(loops):
    engine = loops("qwen2")
    loop = loop_of(engine, 1, prefix_cache=False)
    short = loop.begin(Request(words(engine, 30), max_tokens=10))
    long = loop.begin(Request(words(engine, 30, 1), max_tokens=30))
    for _ in range(6):
        loop.step()
    block = weakref.ref(short.slot.block)
    assert len(loop.graphs._graphs) == 1
    assert block() is not None
    while short in loop.sequences:
        loop.step()
    assert not loop.graphs._graphs
    assert block() is None
    run(loop)
    assert long.reply == solo(engine, long.request)
    assert not loop.graphs._graphs


def test_only_steady_steps_are_captured_and_larger_graphs_serve(loops):
    engine, recorder = loops("qwen2"), TapeRecorder()
    loop = loop_of(engine, 1, recorder, prefix_cache=False)
    base = [loop.add(Request(words(engine, 20, n), max_tokens=500))[0] for n in range(2)]
    for n in range(6):  # another one for two steps each
        brief, _ = loop.add(Request(words(engine, 20, n), max_tokens=300))
        loop.step()
        loop.step()
        loop.remove(brief)
    assert recorder.captures == 0
    for _ in range(4):
        loop.step()
    assert (recorder.captures, loop.graphs.replays) == (1, 1)
    third, _ = loop.add(Request(words(engine, 20, 3), max_tokens=300))
    for _ in range(4):
        loop.step()
    assert (recorder.captures, loop.graphs.replays) == (2, 2)
    before = third.slot.block
    kept = loop.add(Request(words(engine, 20, 4), max_tokens=300))[0]  # not in a graph
    loop.step()
    assert loop.graphs.replays == 2
    loop.remove(kept)
    loop._keys.pop(base[1])  # two of the three blocks: the graph of two was captured first
    loop.step()
    assert (recorder.captures, loop.graphs.replays) == (2, 3)
    assert before in loop.graphs._graphs[next(reversed(loop.graphs._graphs))].step.widths
    loop.clear()
    assert not loop.graphs._graphs


def test_the_number_of_graphs_is_bounded(loops, monkeypatch):
    monkeypatch.setattr(graphs, "_MOST_GRAPHS", 2)
    engine, recorder = loops("qwen2"), TapeRecorder()
    loop = loop_of(engine, 1, recorder)
    loop.begin(Request(words(engine, 250), max_tokens=900))
    most = 0
    while loop.sequences:
        loop.step()
        most = max(most, len(loop.graphs._graphs))
    assert recorder.captures == 4
    assert most == 2


def test_a_failure_to_capture_is_logged_once_and_steps_go_on_without(loops, caplog):
    engine = loops("qwen2")
    recorder = TapeRecorder(RuntimeError("operation not permitted when stream is capturing"))
    loop = loop_of(engine, recorder=recorder)
    requests = [Request(words(engine, 20 + n, n), max_tokens=20) for n in range(3)]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = [ids for ids, _ in decode(loop, *requests)]
            assert found == [solo(engine, request) for request in requests]
    assert recorder.captures == 1
    assert loop.graphs.replays == 0
    (record,) = caplog.records
    assert "without CUDA graphs: capturing one failed: operation not p" in record.getMessage()


def test_memory_that_is_short_in_a_capture_ends_graphs_only(loops, caplog):
    engine = loops("qwen2")
    recorder = TapeRecorder(torch.OutOfMemoryError("CUDA out of memory"))
    loop = loop_of(engine, recorder=recorder)
    request = Request(words(engine, 20), max_tokens=20)
    assert decode(loop, request)[0][0] == solo(engine, request)
    assert "without CUDA graphs" in caplog.text


def test_memory_that_is_short_before_a_capture_frees_caches_and_graphs(loops):
    """The step is repeated; its tokens are those of a step that had memory."""
    engine, recorder = loops("qwen2"), TapeRecorder()
    loop = loop_of(engine, 1, recorder)
    decode(loop, Request(words(engine, 50, 5), max_tokens=3))
    requests = [Request(words(engine, 20 + n, n), max_tokens=60) for n in range(3)]
    begun = [loop.add(request)[0] for request in requests[:2]]
    for _ in range(5):
        loop.step()
    assert recorder.captures == 1
    assert loop.prefixes.nbytes
    warm_up, calls = recorder.warm_up, []

    def full(forward):
        calls.append(forward)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return warm_up(forward)

    recorder.warm_up = full
    begun.append(loop.add(requests[2])[0])
    while not calls:
        loop.step()
    assert not loop.graphs._graphs
    assert not loop.prefixes.nbytes
    run(loop)
    assert [one.reply for one in begun] == [solo(engine, request) for request in requests]
    assert recorder.captures > 1


def test_sequences_beyond_the_trained_length_run_without_graphs(loops):
    engine = loops("internlm2")  # whose rope depends on the length from there on
    loop = loop_of(engine, prefix_cache=False)
    long = Request(words(engine, 2040), max_tokens=20)
    short = Request(words(engine, 30), max_tokens=20)
    assert [ids for ids, _ in decode(loop, long, short)] == [
        solo(engine, long), solo(engine, short)
    ]  # fmt: skip
    assert loop.graphs.replays == 19 - 3


def test_reproducible_sequences_in_16_bits_run_without_graphs():
    """Dummy rows would change the size of the batch, and so the rounding."""
    engine = load_loop(FOLDER, dtype="bfloat16")
    loop = loop_of(engine)
    seeded = Request(words(engine, 20), max_tokens=20, sampling=Sampling(seed=1, temperature=1))
    decode(loop, seeded)
    assert loop.graphs.replays == 0
    decode(loop, Request(words(engine, 20), max_tokens=20))
    assert loop.graphs.replays == 19 - 3


def test_emptying_the_caches_drops_graphs(loops):
    engine, recorder = loops("qwen2"), TapeRecorder()
    loop = loop_of(engine, 1, recorder, prefix_cache=False)
    request = Request(words(engine, 20), max_tokens=30)
    sequence, _ = loop.add(request)
    for _ in range(6):
        loop.step()
    assert loop.clear_caches()
    assert not loop.clear_caches()
    run(loop)
    assert sequence.reply == solo(engine, request)
    assert recorder.captures == 2


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0, 2.0]),
        lambda x: torch.where(x > 0, x, 0),
    ],
)
def test_the_tape_fails_where_a_capture_would(operation):
    with pytest.raises(RuntimeError, match="not permitted"), Pure():
        operation(torch.ones(2))
