"""Failures in the decode loop, lack of memory included, end the sequences they concern alone."""

import weakref

import pytest
import torch
from engine_support import solo, words
from graph_tape import TapeRecorder
from torch.utils._python_dispatch import TorchDispatchMode

from langchain_internvl.backends.base import Choice, Delta, Request, Sampling
from langchain_internvl.backends.transformers import next_tokens
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.next_tokens import Failure
from langchain_internvl.errors import PromptError


def test_wrong_images_are_refused_and_nothing_is_left(loops):
    engine = loops("qwen2")
    context = engine.tokenizer.image_context_id
    with pytest.raises(PromptError, match="256 context tokens, its images give 0"):
        engine.loop.add(Request([1, *[context] * 256, 2]))
    assert engine.loop.sequences == ()


def test_a_sequence_that_fails_fails_alone(loops, monkeypatch):
    engine = loops("qwen2")
    good, _ = engine.loop.add(Request([1, 2, 3], max_tokens=3))
    bad, _ = engine.loop.add(Request([1, 2, 3], max_tokens=3))
    monkeypatch.setattr(bad, "accept", lambda sampled: 1 / 0)
    events = dict(engine.loop.step())
    assert isinstance(events[bad], Failure)
    assert isinstance(events[good], Delta)
    assert engine.loop.sequences == (good,)
    while engine.loop.sequences:
        engine.loop.step()
    assert good.reply == solo(engine, Request([1, 2, 3], max_tokens=3))


def test_a_pass_that_fails_ends_its_batch_and_no_other(loops, monkeypatch):
    engine = loops("internlm2")
    short = [engine.loop.add(Request(words(engine, 5), max_tokens=4))[0] for _ in range(3)]
    long, _ = engine.loop.add(Request(words(engine, 2053), max_tokens=3))
    decode_ = engine.loop._language_model.decode
    monkeypatch.setattr(
        engine.loop._language_model,
        "decode",
        lambda sequences: 1 / 0 if len(sequences) == 3 else decode_(sequences),
    )
    events = engine.loop.step()
    failed = [one for one, event in events if isinstance(event, Failure)]
    assert failed == short
    assert engine.loop.sequences == (long,)
    while engine.loop.sequences:
        engine.loop.step()
    assert len(long.reply) == 3


class Memory(TorchDispatchMode):
    """Memory that holds so many bytes: counts the storages that are alive."""

    def __init__(self, most):
        super().__init__()
        self.most = most
        self.alive = {}

    def used(self):
        self.alive = {
            name: (ref, size) for name, (ref, size) in self.alive.items() if ref() is not None
        }
        return sum(size for _, size in self.alive.values())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                # The Python object of a storage may go while the memory stays: tensors keep it.
                self.alive[storage.data_ptr()] = weakref.ref(tensor), storage.nbytes()
        if self.used() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result


@pytest.mark.parametrize("length", [3, 300])
def test_a_sequence_that_finds_no_memory_leaves_the_others_as_they_were(length, loops):
    engine = loops("qwen2")
    requests = [Request(words(engine, 10, n), max_tokens=6) for n in range(2)]
    alone = [solo(engine, request) for request in requests]
    for most in (1_000, 30_000, 60_000):
        others = [engine.loop.add(request)[0] for request in requests]
        with Memory(most), pytest.raises(torch.OutOfMemoryError):
            engine.loop.add(Request(words(engine, length), max_tokens=600))
        assert engine.loop.sequences == tuple(others)
        while engine.loop.sequences:
            engine.loop.step()
        assert [one.reply for one in others] == alone
        assert engine.loop._slots.nbytes == 0


def test_the_youngest_end_one_by_one_when_memory_is_full(loops, monkeypatch):
    """However much is missing, those that fit say what they would have said."""
    engine = loops("qwen2")
    requests = [Request(words(engine, 10 + n, n), max_tokens=8) for n in range(16)]
    alone = [solo(engine, request) for request in requests]
    begun = [engine.loop.add(request)[0] for request in requests]
    decode_ = engine.loop._language_model.decode

    def limited(sequences):
        result = decode_(sequences)
        if len(sequences) > 11:  # after the keys were written
            for one in sequences:
                one.length -= 1
            raise RuntimeError("CUDA error: out of memory")
        return result

    monkeypatch.setattr(engine.loop._language_model, "decode", limited)
    events = engine.loop.step()
    failed = [one for one, event in events if isinstance(event, Failure)]
    assert failed == begun[:10:-1]
    assert engine.loop.sequences == tuple(begun[:11])
    while engine.loop.sequences:
        engine.loop.step()
    assert [one.reply for one in begun[:11]] == alone[:11]


def full_for(times, function):
    """The function, for whose first calls there is no memory."""
    left = iter(range(times))

    def call(*arguments):
        if next(left, None) is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*arguments)

    return call


def begin_to_end(loop, request):
    """The sequence of a request, and its events, within a number of steps that suffices."""
    sequence = loop.begin(request)
    events = []
    for _ in range(20):
        if not loop.sequences:
            break
        events += loop.step()
    return sequence, [event for _, event in events]


@pytest.mark.parametrize("choices", [(), (Choice("a", (5, 7)), Choice("b", (6, 7)))])
def test_the_first_token_is_chosen_again_once_there_is_memory(choices, loops, monkeypatch):
    """The prompt is read to its end by then, and no other event would come."""
    engine = loops("qwen2")
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes)
    request = Request(words(engine, 60), max_tokens=4, choices=choices)
    alone = begin_to_end(loop, request)[0].reply
    assert loop.prefixes.nbytes  # the next shortage of memory clears it
    monkeypatch.setattr(next_tokens, "sample", full_for(1, next_tokens.sample))
    language_model = loop._language_model
    monkeypatch.setattr(language_model, "weigh", full_for(1, language_model.weigh))
    assert begin_to_end(loop, request)[0].reply == alone
    monkeypatch.setattr(next_tokens, "sample", full_for(9, next_tokens.sample))
    monkeypatch.setattr(language_model, "weigh", full_for(9, language_model.weigh))
    _, events = begin_to_end(loop, request)
    assert [type(event) for event in events] == [Failure]
    assert loop.sequences == ()


def test_the_numbers_of_a_seed_do_not_depend_on_lack_of_memory(loops, monkeypatch):
    """It is found after they were drawn, and the step is repeated."""
    engine = loops("qwen2")
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes)
    sampling = Sampling(temperature=1.0, seed=5)
    request = Request(words(engine, 60), max_tokens=6, sampling=sampling)
    alone = begin_to_end(loop, request)[0].reply
    sample, calls = next_tokens.sample, iter(range(100))

    def fill(logits, states):
        drawn = sample(logits, states)
        if next(calls) in {0, 3}:  # of the first token, and of another one
            raise torch.OutOfMemoryError("CUDA out of memory")
        return drawn

    monkeypatch.setattr(next_tokens, "sample", fill)
    monkeypatch.setattr(loop, "clear_caches", lambda: True)  # there is something to free
    assert begin_to_end(loop, request)[0].reply == alone
    assert next(calls) == 2 + len(alone)


@pytest.mark.parametrize("recorder", [None, TapeRecorder()])
def test_a_sequence_that_became_nan_leaves_none_to_the_next_in_its_slot(loops, recorder):
    """In a block that others use too; a mask does not hide NaN."""
    engine = loops("qwen2")
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes, shared_slots=4, recorder=recorder)
    requests = [Request(words(engine, 60, n), max_tokens=20) for n in range(6)]
    begun = [loop.add(request)[0] for request in requests[:4]]
    bad = begun.pop()
    slot = bad.slot
    with torch.inference_mode():
        for tensors in slot.block.layers:
            for tensor in tensors:
                tensor[slot.index] = float("nan")
    failure = dict(loop.step())[bad]
    assert "no numbers" in str(failure.error)
    late, _ = loop.add(Request(words(engine, 10), max_tokens=20))
    late_slot = late.slot
    while loop.sequences:
        assert all(isinstance(event, Delta) for _, event in loop.step())
    assert (late_slot.block, late_slot.index) == (slot.block, slot.index)
    assert late.reply == solo(engine, late.request)
    assert [one.reply for one in begun] == [solo(engine, one.request) for one in begun]
