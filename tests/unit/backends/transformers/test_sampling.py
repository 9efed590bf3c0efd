"""Scores to tokens, for a whole batch."""

import itertools
from itertools import chain

import numpy as np
import pytest
import torch
from engine_support import Reads
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from langchain_internvl.backends.base import Sampling
from langchain_internvl.backends.transformers import sampling
from langchain_internvl.backends.transformers.sampling import SamplerState, sample

SIZE = 2000


def scores(rows, seed=0, spread=2.0):
    return spread * torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(seed))


def reference(logits, settings, seen):
    """Probabilities as transformers' `generate` has them."""
    steps = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    steps.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        steps.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        steps.append(TopPLogitsWarper(settings.top_p))
    return steps(torch.tensor([seen], dtype=torch.long), logits[None])[0].softmax(-1)


@pytest.mark.parametrize(
    "settings",
    [
        Sampling(1.0),
        Sampling(0.4, top_p=0.5),
        Sampling(1.0, top_p=0.9),
        Sampling(3.0, top_p=0.99),  # more tokens than are sorted first
        Sampling(0.8, top_k=5),
        Sampling(9.0, top_p=0.3),  # nearly all tokens are equally likely, and most are cut off
        Sampling(2.0, top_k=700, top_p=0.8),
        Sampling(2.0, top_k=5000, top_p=0.8),  # above the vocabulary
        Sampling(1.0, top_k=3, top_p=0.6, repetition_penalty=1.7),
        Sampling(1.0, repetition_penalty=0.5),
    ],
)
def test_tokens_are_drawn_as_often_as_transformers_would(settings, monkeypatch):
    """Inverting the distribution at evenly spaced numbers gives each token its share.

    Further numbers, if one is not enough, are spread as evenly (by the golden ratio).
    """
    logits = scores(1)[0]
    seen = logits.topk(3).indices.tolist()
    expected = reference(logits, settings, seen)
    count = 4000
    states = [SamplerState(settings) for _ in range(count)]
    counter = itertools.count(1)
    further = (0.618034 * n % 1 for n in counter)
    for index, state in enumerate(states):
        for token in seen:
            state.see(token)
        numbers = chain([(index + 0.5) / count], further)
        monkeypatch.setattr(state, "draw", lambda numbers=numbers: next(numbers))
    drawn = [one.token_id for one in sample(logits.expand(count, -1), states)]
    shares = torch.bincount(torch.tensor(drawn), minlength=SIZE) / count
    was_one_enough = next(counter) == 1
    assert (shares - expected).abs().max() <= (2 if was_one_enough else 5) / count
    assert not (shares > 0)[expected == 0].any()


def test_the_ends_of_the_unit_interval(monkeypatch):
    logits = torch.full((2, 8), float("-inf"))
    logits[:, 2:5] = 0
    states = [SamplerState(Sampling(1.0)), SamplerState(Sampling(1.0, top_p=0.99))]
    for draw, ends in ((0.0, (2, 2)), (1 - 1e-16, (4, 4)), (np.nextafter(1, 0), (4, 4))):
        for state in states:
            monkeypatch.setattr(state, "draw", lambda draw=draw: draw)
        first, second = sample(logits, states)
        assert first.token_id == ends[0]
        assert second.token_id in {2, 3, 4}


def test_a_number_that_is_always_rejected_ends_in_the_sorted_vocabulary(monkeypatch):
    logits = scores(2, spread=0.1)
    last = int(logits[0].argmin())
    share = float(logits[0].softmax(-1)[: last + 1].sum()) - 1e-5
    states = [SamplerState(Sampling(1.0, top_p=0.5)) for _ in range(2)]
    for state in states:
        monkeypatch.setattr(state, "draw", lambda: share)
    half = logits.sort(-1, descending=True).indices[:, : SIZE // 2 + 50].tolist()
    found = sample(logits, states)
    assert found[0].token_id in half[0]
    assert found[1].token_id in half[1]


@pytest.mark.parametrize("size", [500, 513, 151_674])
def test_numbers_are_inverted_as_by_one_sum(size):
    """In blocks, also where whole blocks have no probability."""
    chance = torch.Generator().manual_seed(0)
    weights = torch.rand(300, size, generator=chance) ** 30
    weights[:, size // 3 : size // 3 * 2] = 0
    draws = torch.rand(300, 1, generator=chance, dtype=torch.float64)
    found = sampling._invert(weights, draws)
    total = weights.cumsum(-1, dtype=torch.float64)
    expected = torch.searchsorted(total, draws * total[:, -1:], right=True)[:, 0]
    assert (found != expected).sum() <= 3  # numbers at the limit of two entries
    assert bool((weights.gather(-1, found[:, None]) > 0).all())


def mixed(seed):
    return [
        Sampling(),
        Sampling(1.0, seed=seed),
        Sampling(0.7, top_p=0.8, seed=seed),
        Sampling(2.5, top_p=0.999, seed=seed),
        Sampling(1.0, top_k=40, seed=seed, repetition_penalty=1.3),
        Sampling(repetition_penalty=1.5, seed=seed),
    ]


def run(logits, samplings):
    """What is sampled in five steps from the same scores."""
    states = [SamplerState(one) for one in samplings]
    replies = [[] for _ in states]
    for _ in range(5):
        for reply, state, one in zip(replies, states, sample(logits, states), strict=True):
            state.see(one.token_id)
            reply.append(one.token_id)
    return replies


@pytest.mark.parametrize("seed", range(4))
def test_each_sequence_gets_what_it_gets_alone(seed):
    logits = scores(6, seed)
    samplings = mixed(seed)
    alone = [run(logits[n : n + 1], [one])[0] for n, one in enumerate(samplings)]
    assert run(logits, samplings) == alone
    order = [3, 0, 5, 1]
    assert run(logits[order], [samplings[n] for n in order]) == [alone[n] for n in order]


def test_rows_beyond_the_sorted_tokens_get_what_they_get_alone():
    """By `top_k` and by `top_p`, each in its own way."""
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5000, generator=chance)
    settings = [{"top_k": 600}, {"top_p": 0.9}, {"top_k": 5}, {"top_k": 900}, {"top_p": 0.8}, {}]
    samplings = [Sampling(1, seed=n, **one) for n, one in enumerate(settings)]
    alone = [run(logits[n : n + 1], [one])[0] for n, one in enumerate(samplings)]
    assert run(logits, samplings) == alone


def test_scores_that_are_no_numbers_are_found_in_their_row_alone():
    logits = scores(5)
    logits[1, 7], logits[2], logits[3, 5] = float("nan"), float("-inf"), float("inf")
    states = [SamplerState(Sampling(temperature, seed=1)) for temperature in (0, 1, 0, 1, 1)]
    found = sample(logits, states)
    assert [one.is_finite for one in found] == [True, False, False, False, True]
    assert found[0].token_id == int(logits[0].argmax())


@pytest.mark.parametrize("temperature", [0.0, 1e-5, 1.0, 1e39, 1e308])
@pytest.mark.parametrize("penalty", [5e-324, 1e-37, 1.0, 1e39, 1e308])
@pytest.mark.parametrize("cut", [{}, {"top_k": 2}, {"top_p": 0.5}], ids=str)
def test_extreme_settings_sample_a_permitted_token(temperature, penalty, cut):
    logits = torch.full([1, SIZE], float("-inf"))
    permitted = torch.tensor([3, 50, 700, 1999])
    logits[0, permitted] = torch.tensor([2.0, 0.0, -1.5, 30.0])
    state = SamplerState(Sampling(temperature, repetition_penalty=penalty, seed=1, **cut), 0)
    for token_id in (3, 50, 700):
        state.see(token_id)
    for _ in range(20):
        (found,) = sample(logits, [state])
        assert found.is_finite
        assert found.token_id in permitted
        if penalty > 1e30 and temperature < 1e30:
            assert found.token_id == 1999
        elif penalty < 1e-30 and temperature < 1e30:
            assert found.token_id == 3


def test_log_probabilities_of_those_that_ask():
    logits = scores(3)
    states = [SamplerState(Sampling(), report) for report in (None, 0, 4)]
    none, own, top = sample(logits, states)
    expected = logits.log_softmax(-1)
    assert (none.logprob, none.top) == (None, ())
    assert own.top == ()
    assert own.logprob == pytest.approx(float(expected[1].max()), abs=1e-6)
    assert [one.token_id for one in top.top] == expected[2].topk(4).indices.tolist()
    assert [one.logprob for one in top.top] == pytest.approx(expected[2].topk(4).values.tolist())


@pytest.mark.parametrize("rows", [1, 8])
def test_a_step_reads_the_device_once(rows, monkeypatch):
    """`tolist` of the one tensor of results is the only read, whatever the number of rows."""
    logits = scores(rows)
    states = [SamplerState(Sampling(1.0, seed=n), 3) for n in range(rows)]
    for state in states:  # on the host
        monkeypatch.setattr(state, "draw", lambda: 0.5)
    with Reads() as reads:
        sample(logits, states)
    assert reads.count == 0
