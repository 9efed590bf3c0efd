"""Replies of the decode loop: where they end, how they are sampled, what is reported."""

import pytest
from engine_support import solo, words
from support import decode

from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.backends.transformers.decoding import DecodeLoop


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


def test_very_low_temperatures_are_greedy(loops):
    engine = loops("qwen2")
    prompt = words(engine, 20)
    greedy = solo(engine, Request(prompt, max_tokens=6))
    for temperature in (1e-40, 1e-12, 1e-6):
        sampling = Sampling(temperature=temperature)
        assert solo(engine, Request(prompt, sampling=sampling, max_tokens=6)) == greedy
