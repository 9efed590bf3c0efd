"""Requests in LMDeploy's terms, without LMDeploy."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.backends.base import NO_TOKEN, Request, Sampling
from langchain_internvl.backends.lmdeploy.error_mapping import to_error
from langchain_internvl.backends.lmdeploy.generation import (
    StopRule,
    response_format,
    sampling_parameters,
    schema_format,
    seed_of,
)
from langchain_internvl.backends.lmdeploy.prompts import fold
from langchain_internvl.backends.token_reply import TokenReply
from langchain_internvl.errors import BackendError, ContextOverflowError, PromptError, RequestError
from langchain_internvl.grammars.grammar import Grammar

CONTEXT = 9


def tiles(*counts):
    return [np.zeros((count, 2, 2, 3), np.uint8) for count in counts]


@given(
    st.lists(st.one_of(st.integers(0, 8), st.integers(1, 3).map(lambda count: -count)), min_size=1)
)
def test_folding_keeps_the_prompt_and_counts_tiles(parts):
    """Words, and images of one to three tiles (as negative numbers), in any order."""
    ids, counts = [], []
    for part in parts:
        if part < 0:
            ids += [CONTEXT] * (4 * -part)
            counts.append(-part)
        else:
            ids.append(part)
    folded = fold(Request(ids, tiles(*counts)), CONTEXT, 4)
    assert len(folded.tiles) == sum(counts) == folded.ids.count(CONTEXT)
    expanded = [one for token in folded.ids for one in [token] * (4 if token == CONTEXT else 1)]
    assert expanded == ids


@pytest.mark.parametrize(
    ("ids", "counts"),
    [([1, *[CONTEXT] * 3], [1]), ([CONTEXT] * 4, []), ([1], [1]), ([CONTEXT] * 8, [1])],
)
def test_tiles_that_do_not_fit(ids, counts):
    with pytest.raises(PromptError, match="context tokens"):
        fold(Request(ids, tiles(*counts)), CONTEXT, 4)


def test_greedy_is_one_token_to_choose_from():
    for sampling in (Sampling(), Sampling(temperature=1e-7), Sampling(temperature=1, top_k=1)):
        parameters = sampling_parameters(sampling)
        assert (parameters["top_k"], parameters["temperature"]) == (1, 1.0)
    assert sampling_parameters(Sampling(repetition_penalty=1.2))["repetition_penalty"] == 1.2


def test_sampling_and_seeds():
    parameters = sampling_parameters(Sampling(temperature=0.7, top_p=0.9))
    assert parameters == {
        "temperature": 0.7, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.0
    }  # fmt: skip
    with pytest.raises(RequestError, match="up to 2"):
        sampling_parameters(Sampling(temperature=2.1))
    assert [seed_of(Sampling(seed=seed)) for seed in (None, 0, 7, -1)] == [None, 0, 7, 2**64 - 1]


@pytest.mark.parametrize(
    ("stop_ids", "eos_ids", "ignores"),
    [({2}, {2}, False), ({2}, {2, 3}, True), ({2}, set(), False), (set(), {2}, True)],
)
def test_the_engine_stops_by_itself_only_where_the_reference_does(stop_ids, eos_ids, ignores):
    rule = StopRule(Request([1], stop_ids=frozenset(stop_ids)), frozenset(eos_ids))
    assert rule.ignores_eos == ignores
    assert rule.ids == stop_ids


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
COMPACT = {"type": "compact_json", "schema": SCHEMA, "separators": [",", ":"]}


def test_a_bound_reply_may_end_by_any_end_token():
    """After a JSON value a grammar lets nothing through but the tokenizer's own end token."""
    request = Request([1], stop_ids=frozenset({2}), grammar=Grammar("{}", "{}"))
    rule = StopRule(request, frozenset({3}))
    assert (rule.ids, rule.ignores_eos) == ({2, 3}, False)


def test_json_is_compact_in_this_process():
    import xgrammar  # noqa: PLC0415 - a part of an extra

    request = Request([1], grammar=Grammar(json.dumps(COMPACT), json.dumps(SCHEMA)))
    made = response_format(request)
    assert made["type"] == "structural_tag"
    grammar = xgrammar.Grammar.from_structural_tag(json.dumps(made))
    accepts = xgrammar.testing._is_grammar_accept_string
    assert accepts(grammar, '{"n":3}')
    assert not accepts(grammar, '{"n": 3}')
    assert not accepts(grammar, '{\n"n":3}')


def test_a_format_within_tags():
    import xgrammar  # noqa: PLC0415 - a part of an extra

    tag = {"type": "tag", "begin": "<x>", "content": COMPACT, "end": "</x>"}
    made = response_format(Request([1], grammar=Grammar(json.dumps(tag))))
    grammar = xgrammar.Grammar.from_structural_tag(json.dumps(made))
    assert xgrammar.testing._is_grammar_accept_string(grammar, '<x>{"n":3}</x>')


def test_servers_take_schemas_and_calls():
    bound = Request([1], grammar=Grammar("{}", json.dumps(SCHEMA)))
    assert schema_format(bound)["json_schema"]["schema"] == SCHEMA
    assert schema_format(Request([1])) is None
    tool = {"type": "function", "function": {"name": "look"}}
    assert (
        schema_format(Request([1], grammar=Grammar("{}"), tools=[tool], tool_choice="required"))
        is None
    )
    with pytest.raises(RequestError, match="one JSON value"):
        schema_format(Request([1], grammar=Grammar("{}")))


BYTES = {1: b"a", 2: b" b", 3: b"", 4: b"\xc3", 5: b"\xa4"}


def push(reply, *token_ids):
    return list(reply.push(token_ids))


def test_ids_become_deltas_as_in_the_transformers_backend():
    reply = TokenReply(Request([1], max_tokens=9), BYTES, frozenset({3}))
    deltas = push(reply, 1, 4, 5, 2, 3, 1)
    assert [delta.token_id for delta in deltas] == [1, 4, 5, 2, 3]
    assert "".join(delta.text for delta in deltas) == "aä b"
    assert [delta.finish_reason for delta in deltas] == [None] * 4 + ["stop"]
    assert reply.is_over
    assert push(reply, 1) == []


def test_a_reply_ends_at_its_length_a_stop_text_or_as_the_engine_says():
    full = push(TokenReply(Request([1], max_tokens=2), BYTES, frozenset()), 1, 1, 1)
    assert [delta.finish_reason for delta in full] == [None, "length"]
    stopped = push(TokenReply(Request([1], stop=["a b"]), BYTES, frozenset()), 1, 2, 1)
    assert [(delta.text, delta.finish_reason) for delta in stopped] == [("", None), ("", "stop")]
    reply = TokenReply(Request([1]), BYTES, frozenset())
    push(reply, 1, 4)
    last = reply.end("length")
    assert (last.token_id, last.text, last.finish_reason) == (NO_TOKEN, "\ufffd", "length")


def test_the_likeliest_tokens_of_each():
    reply = TokenReply(Request([1], top_logprobs=2), BYTES, frozenset())
    (delta,) = reply.push([1], [{1: -2.0, 2: -0.5, 3: -1.0}])
    assert delta.logprob == -2.0
    assert [(top.token_id, top.logprob) for top in delta.top_logprobs] == [(2, -0.5), (3, -1.0)]


def test_codes_are_errors():
    assert isinstance(to_error("context_length_exceeded", "x"), ContextOverflowError)
    assert type(to_error("a code of tomorrow", "x")) is BackendError
