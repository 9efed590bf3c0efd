"""The decode loop: rows join, advance and leave without touching each other."""

import numpy as np
import pytest
import torch
from engine_support import Reads, solo, words
from golden import TINY
from support import decode

from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.backends.transformers.decoding import DecodeLoop

LIMIT = 2048  # of the tiny checkpoints with a rope that depends on length


def test_rows_that_share_a_batch_say_what_they_say_alone(tiny, loops):
    engine = loops(tiny)
    requests = [Request(words(engine, 5 + 37 * n, n), max_tokens=6 + 5 * n) for n in range(5)]
    alone = [solo(engine, request) for request in requests]
    together = [ids for ids, _ in decode(engine.loop, *requests)]
    assert together == alone
    assert [len(ids) for ids in together] == [6, 11, 16, 21, 26]


def test_sequences_are_removed_when_they_end_and_their_slots_are_free(loops):
    engine = loops("qwen2")
    long, short = Request(words(engine, 400), max_tokens=2), Request([1, 2, 3], max_tokens=9)
    begun = [engine.loop.add(request)[0] for request in (long, short)]
    assert engine.loop.kv_bytes == (402 + 12) * engine.loop._slots.shape.token_bytes
    engine.loop.step()
    assert engine.loop.sequences == (begun[1],)
    assert engine.loop.kv_bytes == 12 * engine.loop._slots.shape.token_bytes
    while engine.loop.sequences:
        engine.loop.step()
    assert begun[1].reply == solo(engine, short)
    assert engine.loop.kv_bytes == 0


@pytest.mark.parametrize("slots", [2, 8])
def test_sequences_that_share_blocks_say_what_they_say_alone(slots, tiny, loops):
    """As on accelerators: some begin and end while others go on, and leave free slots behind."""
    engine = loops(tiny)
    shared = DecodeLoop(engine.model, engine.tokenizer.token_bytes, shared_slots=slots)
    requests = [
        Request(words(engine, 5 + 29 * (n % 4), n), max_tokens=4 + 7 * (n % 3), top_logprobs=1)
        for n in range(9)
    ]
    alone = [solo(engine, request) for request in requests]
    replies = {}
    waiting = list(enumerate(requests))
    blocks = set()
    while waiting or shared.sequences:
        for _ in range(2):
            if waiting:
                index, request = waiting.pop(0)
                replies[index], _ = shared.add(request)
        if len(shared.sequences) == 5:
            shared.remove(shared.sequences[2])  # whose reply is cut, and whose slot another gets
        blocks |= {one.slot.block.slots for one in shared.sequences}
        shared.step()
    assert 1 < max(blocks) <= slots
    cut = 0
    for index, sequence in replies.items():
        assert sequence.reply == alone[index][: len(sequence.reply)]
        cut += sequence.reply != alone[index]
    assert cut < 4
    shared.clear()
    assert shared._slots.nbytes == 0


def test_a_step_writes_one_column_for_each_sequence(loops):
    """And asks for no memory for keys, however many others begin and end."""
    engine = loops("qwen2")
    begun = [engine.loop.add(Request(words(engine, 200, n), max_tokens=9))[0] for n in range(4)]
    before = [
        [tensor.clone() for layer in one.slot.block.layers for tensor in layer] for one in begun
    ]
    places = [[t.data_ptr() for layer in one.slot.block.layers for t in layer] for one in begun]
    engine.loop.remove(engine.loop.add(Request(words(engine, 50), max_tokens=9))[0])
    engine.loop.step()
    for one, copies, pointers in zip(begun, before, places, strict=True):
        now = [tensor for layer in one.slot.block.layers for tensor in layer]
        assert [tensor.data_ptr() for tensor in now] == pointers
        for tensor, copy in zip(now, copies, strict=True):
            assert torch.equal(tensor[:, :, :200], copy[:, :, :200])
    engine.loop.clear()


def test_a_removed_row_leaves_the_others_as_they_were(loops):
    engine = loops("internlm2")
    requests = [Request(words(engine, 10 + 50 * n, n), max_tokens=8) for n in range(3)]
    alone = [solo(engine, request) for request in requests]
    begun = [engine.loop.add(request)[0] for request in requests]
    engine.loop.remove(begun[2])
    engine.loop.remove(begun[2])
    while engine.loop.sequences:
        engine.loop.step()
    assert [begun[0].reply, begun[1].reply] == alone[:2]
    assert begun[2].reply == alone[2][:1]


def test_another_model_that_is_being_loaded_changes_nothing(tiny, loops):
    """Transformers sets torch's default dtype for the whole process meanwhile."""
    engine = loops(tiny)
    context = engine.tokenizer.image_context_id
    tiles = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), np.uint8)
    prompt = [*words(engine, 30), *[context] * 256, *words(engine, LIMIT - 256)]
    sampled = Sampling(temperature=1.0, top_p=0.9, top_k=50, repetition_penalty=1.2, seed=1)
    requests = [
        Request(prompt, [tiles], max_tokens=8, top_logprobs=2),
        Request(words(engine, 20), sampling=sampled, max_tokens=8),
    ]
    expected = decode(engine.loop, *requests)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert decode(engine.loop, *requests) == expected
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", TINY)
def test_greedy_ids_equal_transformers_generate(name, loops):
    """Text of many lengths against transformers' own loop on the same model."""
    engine = loops(name)
    for length in (1, 7, 60):
        prompt = words(engine, length, length)
        with torch.inference_mode():
            expected = engine.model.generate(
                input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=10,
                eos_token_id=None, pad_token_id=0,
            )[0, length:].tolist()  # fmt: skip
        assert solo(engine, Request(prompt, max_tokens=10)) == expected


@pytest.mark.parametrize("slots", [1, 8])
def test_a_greedy_step_reads_nothing_but_its_tokens(slots, tiny, loops):
    """`tolist` of the tensor of results is the only read of the device, for 8 sequences too."""
    engine = loops(tiny)
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, shared_slots=slots)
    for n in range(8):
        loop.add(Request(words(engine, 20 + n, n), max_tokens=5))
    with Reads() as reads:
        assert len(loop.step()) == 8
    assert reads.count == 0
