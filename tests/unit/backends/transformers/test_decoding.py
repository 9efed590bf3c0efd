"""The decode loop: rows join, advance and leave without touching each other."""

import json
import random
import weakref

import numpy as np
import pytest
import torch
from golden import TINY, checkpoint_folder
from support import decode
from torch.utils._python_dispatch import TorchDispatchMode

from langchain_internvl.backends.base import Delta, Request, Sampling
from langchain_internvl.backends.transformers.decoding import DecodeLoop, Failure
from langchain_internvl.backends.transformers.memory import is_out_of_memory
from langchain_internvl.backends.transformers.rope import batch_key, length_limit
from langchain_internvl.errors import PromptError

LIMIT = 2048  # of the tiny checkpoints with a rope that depends on length


def words(engine, count, seed=0):
    """A prompt of so many random tokens."""
    chance = random.Random(seed)
    return [chance.randrange(300, 900) for _ in range(count)]


def solo(engine, request):
    ((ids, _),) = decode(engine.loop, request)
    return ids


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


@pytest.mark.parametrize("name", ["internlm2", "phi3"])
def test_rows_past_the_trained_length_do_not_change_short_ones(name, loops):
    """Their rope is computed from the longest position in a batch."""
    engine = loops(name)
    requests = [
        Request(words(engine, length, length), max_tokens=6)
        for length in (20, LIMIT + 100, 300, LIMIT + 40, LIMIT - 3, LIMIT - 6)
    ]
    alone = [solo(engine, request) for request in requests]
    assert [ids for ids, _ in decode(engine.loop, *requests)] == alone


def test_batch_keys_of_dynamic_rope(loops):
    text = loops("internlm2").model.config.get_text_config()
    assert length_limit(text) == LIMIT
    assert batch_key(text, 10, 20, "a") == batch_key(text, LIMIT - 20, 20, "b") == "short"
    assert batch_key(text, LIMIT - 19, 20, "a") == ("alone", "a")
    assert batch_key(text, LIMIT + 5, 20, "b") == ("alone", "b")


def test_batch_keys_of_longrope(loops):
    text = loops("phi3").model.config.get_text_config()
    assert length_limit(text) == LIMIT
    assert batch_key(text, 10, 20, "a") == "short"
    assert batch_key(text, LIMIT - 19, 20, "a") == ("alone", "a")
    assert batch_key(text, LIMIT + 1, 20, "a") == batch_key(text, LIMIT + 900, 20, "b") == "long"


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_batch_keys_of_plain_rope(name, loops):
    text = loops(name).model.config.get_text_config()
    assert length_limit(text) is None
    assert batch_key(text, 10**6, 10**6, "a") == "short"


def test_stop_tokens_end_a_reply_without_their_text(loops):
    engine = loops("qwen2")
    ids, text = decode(engine.loop, Request([5, 6, 7], max_tokens=9))[0]
    stop = ids[3]
    first = ids.index(stop)
    ended, said = decode(engine.loop, Request([5, 6, 7], max_tokens=9, stop_ids=frozenset([stop])))[
        0
    ]
    assert ended == ids[: first + 1]
    assert text.startswith(said)


def test_stop_texts_reach_across_tokens(loops):
    engine = loops("qwen2")
    request = Request(words(engine, 30, 3), max_tokens=24)
    ids, text = decode(engine.loop, request)[0]
    middle = len(text) // 2
    stop = text[middle - 2 : middle + 3]
    ended, said = decode(engine.loop, Request(words(engine, 30, 3), max_tokens=24, stop=[stop]))[0]
    assert said == text[: text.index(stop)].rstrip()
    assert ended == ids[: len(ended)]
    assert len(ended) < len(ids)


def test_finish_reasons(loops):
    engine = loops("qwen2")

    def last(**settings):
        row, first = engine.loop.add(Request([5, 6, 7], **settings))
        events = [first]
        while engine.loop.sequences:
            events += [event for _, event in engine.loop.step()]
        assert all(event.finish_reason is None for event in events[:-1])
        assert len(events) == len(row.reply)
        return events[-1].finish_reason

    assert last(max_tokens=3) == "length"
    ids = solo(engine, Request([5, 6, 7], max_tokens=3))
    assert last(max_tokens=9, stop_ids=frozenset(ids[:1])) == "stop"
    # The stop token in the last place is a stop, not a cut.
    assert last(max_tokens=1, stop_ids=frozenset(ids[:1])) == "stop"


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_a_seed_says_the_same_whatever_else_runs(temperature, loops):
    engine = loops("llama")

    def request(seed, length=12):
        sampling = Sampling(temperature=temperature, top_p=0.9, top_k=50, seed=seed)
        return Request(words(engine, length), sampling=sampling, max_tokens=12)

    alone = solo(engine, request(7))
    assert solo(engine, request(7)) == alone
    others = [request(seed, 20 + seed) for seed in range(4)]
    assert decode(engine.loop, *others, request(7))[-1][0] == alone
    assert solo(engine, request(8)) != alone
    free = [solo(engine, request(None)) for _ in range(4)]
    assert any(ids != free[0] for ids in free)


def test_greedy_replies_with_a_seed_share_the_batch(loops):
    """Their seed changes nothing, also where sequences with a seed decode alone."""
    engine = loops("qwen2")
    loop = DecodeLoop(engine.model, engine.tokenizer.token_bytes)
    loop._rules.rounds = True  # as in 16 bits
    for n in range(3):
        loop.add(Request(words(engine, 9, n), sampling=Sampling(seed=n), max_tokens=9))
    loop.step()
    assert loop.steps == 1
    for n in range(2):
        loop.add(Request(words(engine, 9, n), sampling=Sampling(1.0, seed=n), max_tokens=9))
    loop.step()
    assert loop.steps == 4


def test_repetition_penalty_sees_the_reply_only(loops):
    engine = loops("llama")
    prompt = words(engine, 20)
    plain = solo(engine, Request(prompt, max_tokens=12))
    strict = Sampling(repetition_penalty=50.0)
    varied = solo(engine, Request(prompt, sampling=strict, max_tokens=12))
    assert varied[0] == plain[0]
    assert len(set(varied)) == len(varied)


def test_log_probabilities(loops):
    engine = loops("qwen2")
    request = Request([5, 6, 7], max_tokens=3, top_logprobs=5)
    row, first = engine.loop.add(request)
    for delta in (first, *(engine.loop.step()[0][1] for _ in range(2))):
        likeliest = delta.top_logprobs
        assert len(likeliest) == 5
        assert likeliest[0].token_id == delta.token_id
        assert likeliest[0].logprob == pytest.approx(delta.logprob, abs=1e-5)
        assert [one.logprob for one in likeliest] == sorted(
            (one.logprob for one in likeliest), reverse=True
        )
        assert delta.logprob < 0
    assert engine.loop.sequences == ()
    assert row.reply == solo(engine, Request([5, 6, 7], max_tokens=3))


def test_log_probabilities_are_those_before_temperature(loops):
    engine = loops("qwen2")

    def first(temperature):
        sampling = Sampling(temperature=temperature, seed=1)
        request = Request([5, 6, 7], sampling=sampling, max_tokens=1, top_logprobs=3)
        _, delta = engine.loop.add(request)
        return delta.top_logprobs

    assert first(0) == first(2.0)


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
    long, _ = engine.loop.add(Request(words(engine, LIMIT + 5), max_tokens=3))
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


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_errors_that_say_memory_is_full(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


def test_very_low_temperatures_are_greedy(loops):
    engine = loops("qwen2")
    prompt = words(engine, 20)
    greedy = solo(engine, Request(prompt, max_tokens=6))
    for temperature in (1e-40, 1e-12, 1e-6):
        sampling = Sampling(temperature=temperature)
        assert solo(engine, Request(prompt, sampling=sampling, max_tokens=6)) == greedy


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


def test_the_limit_in_these_tests_is_the_checkpoints():
    config = json.loads((checkpoint_folder("internlm2") / "config.json").read_text("utf-8"))
    assert config["llm_config"]["max_position_embeddings"] == LIMIT
