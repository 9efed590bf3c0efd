"""Grammars in the decode loop: rows that are held to one, beside rows that are free."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from patience import PATIENCE
from support import decode

from langchain_internvl.backends.base import Choice, Request, Sampling
from langchain_internvl.backends.transformers.grammars import Grammars, apply_masks, grammars_of
from langchain_internvl.errors import BackendError, SchemaError
from langchain_internvl.grammars.grammar import (
    Grammar,
    call_or_words,
    compact_json,
    json_grammar,
    only_calls,
    tag,
    words_without,
)
from langchain_internvl.grammars.schemas import check_schema

RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 8},
        "kind": {"enum": ["food", "fuel"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["name", "kind", "count"],
}
HOT = Sampling(temperature=1.5, seed=3)


def grammar_of(schema=RECORD, **options):
    return json_grammar(check_schema(schema), **options)


def request(loop, text, sampling=HOT, **settings):
    ids = loop.tokenizer.encode_text(text)
    return Request(ids, stop_ids=loop.stop_ids, sampling=sampling, **settings)


def allowed_by(state, scores):
    return apply_masks(scores[None], {0: state.mask()})[0]


def calls_of(*names, **options):
    calls = [tag(f'<call>{{"name": "{name}", ', compact_json(RECORD), "}</call>") for name in names]
    return only_calls(calls, "\n", **{"single_call": False, **options})


def test_a_reply_is_a_value_of_the_schema(loops, tiny):
    loop = loops(tiny)
    for seed in range(6):
        sampling = Sampling(temperature=1.5, seed=seed)
        asked = request(loop, "A record?", sampling, grammar=grammar_of(), max_tokens=120)
        ((ids, text),) = decode(loop.loop, asked)
        value = json.loads(text)
        assert list(value) == ["name", "kind", "count"]
        assert 2 <= len(value["name"]) <= 8
        assert value["kind"] in {"food", "fuel"}
        assert 1 <= value["count"] <= 99
        assert ids[-1] in loop.stop_ids
        assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":")) or "\\" in text


def test_four_held_and_four_free_rows_together(loops):
    loop = loops("qwen2")
    held = [
        request(loop, "One", grammar=grammar_of(), max_tokens=60),
        request(loop, "Another", grammar=calls_of("f", "g"), max_tokens=60),
        request(loop, "Greedy", Sampling(), grammar=grammar_of(), max_tokens=60),
        request(loop, "A list", grammar=grammar_of({"type": "array"}), max_tokens=60),
    ]
    free = [
        request(loop, text, sampling, max_tokens=60)
        for text, sampling in (
            ("Hello", HOT), ("Hello there", Sampling()), ("Who", HOT), ("Why is that so?", HOT),
        )
    ]  # fmt: skip
    mixed = [one for pair in zip(held, free, strict=True) for one in pair]
    together = decode(loop.loop, *mixed)
    for asked, reply in zip(mixed, together, strict=True):
        (alone,) = decode(loop.loop, asked)
        assert reply == alone
    assert json.loads(together[0][1])


def test_it_may_only_end_where_the_grammar_does(loops):
    loop = loops("qwen2")
    asked = request(loop, "Long", grammar=grammar_of({"type": "string", "minLength": 40}))
    ((ids, text),) = decode(loop.loop, asked)
    assert len(json.loads(text)) >= 40
    assert set(ids[:-1]).isdisjoint(loop.stop_ids)


def test_words_and_a_call_where_one_is_begun(loops):
    loop = loops("qwen2")
    held = call_or_words(
        [tag('<call>{"n": ', compact_json({"type": "integer"}), "}</call>")],
        "<call>",
        single_call=True,
    )
    state = grammars_of(loop.tokenizer.token_bytes).follow(held, loop.stop_ids)
    (stop,) = loop.stop_ids
    begun = loop.tokenizer.encode_text("Well, <call>")
    flat = torch.zeros(len(loop.loop._model.get_output_embeddings().weight))
    assert allowed_by(state, flat)[stop] == 0
    for token in begun:
        state.accept(token)
    allowed = allowed_by(state, flat)
    assert allowed[stop] == float("-inf")
    table = loop.tokenizer.token_bytes
    may_follow = {table[token] for token in torch.nonzero(allowed == 0).flatten().tolist()}
    assert may_follow
    assert all('{"n": '.startswith(data.decode()) for data in may_follow)


def test_words_without_a_call(loops):
    loop = loops("qwen2")
    state = grammars_of(loop.tokenizer.token_bytes).follow(words_without("<call>"), loop.stop_ids)
    for token in loop.tokenizer.encode_text("a <call"):
        state.accept(token)
    with pytest.raises(BackendError, match="not in the grammar"):
        state.accept(loop.tokenizer.encode_text(">")[0])


def test_thoughts_may_come_first(loops):
    loop = loops("qwen2")
    state = grammars_of(loop.tokenizer.token_bytes).follow(grammar_of(thinks=True), loop.stop_ids)
    for token in loop.tokenizer.encode_text('<think>Hm, {"a": <b></think>\n\n{"name":"'):
        state.accept(token)


def test_probabilities_are_of_what_the_grammar_leaves(loops):
    """A token that is forced has probability 1, and what is forbidden is no alternative."""
    loop = loops("qwen2")
    asked = request(loop, "One", Sampling(), max_tokens=1, top_logprobs=20)
    free = loop.loop.add(asked)[1]
    for form, allowed in ((grammar_of(), 1), (grammar_of({"type": "boolean"}), 2)):
        held = loop.loop.add(replace(asked, grammar=form))[1]
        assert len(held.top_logprobs) <= 4
        total = sum(math.exp(one.logprob) for one in held.top_logprobs)
        assert total == pytest.approx(1, abs=1e-5)
        assert held.logprob == held.top_logprobs[0].logprob
        if allowed == 1:
            assert (held.text, held.logprob) == ("{", 0.0)
    assert free.logprob < -0.01


def test_a_grammar_is_compiled_once_for_a_vocabulary(loops):
    table = {**loops("qwen2").tokenizer.token_bytes, 5000: b"one more"}
    grammars = grammars_of(table)
    assert grammars_of(dict(reversed(table.items()))) is grammars
    assert grammars_of({**table, 5000: b"another"}) is not grammars
    for _ in range(3):
        grammars.follow(grammar_of(), [1002])
        grammars.follow(grammar_of({"type": "array"}), [1002])
    assert grammars.compilations == 2


def test_those_whose_grammar_is_there_do_not_wait_for_another(monkeypatch):
    grammars = Grammars({0: b"[", 1: b"]", 2: b"null"})
    grammars.compile(grammar_of({"type": "array"}))
    begun, go_on = threading.Event(), threading.Event()
    compile_ = Grammars._compile

    def slow(self, form):
        begun.set()
        assert go_on.wait(PATIENCE)
        return compile_(self, form)

    monkeypatch.setattr(Grammars, "_compile", slow)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(grammars.compile, grammar_of({"type": "null"})) for _ in range(3)]
        assert begun.wait(PATIENCE)
        assert grammars.follow(grammar_of({"type": "array"}), [])
        assert not any(one.done() for one in waiting)
        go_on.set()
        assert len({id(one.result(PATIENCE)) for one in waiting}) == 1
    assert grammars.compilations == 2


def test_engines_compile_once_too(models, monkeypatch):
    compiled = []
    compile_ = Grammars._compile
    monkeypatch.setattr(
        Grammars, "_compile", lambda self, form: compiled.append(form) or compile_(self, form)
    )
    schema = {"title": "Once", "type": "object", "properties": {"once": {"type": "boolean"}}}
    llm = models("qwen2").with_structured_output(schema)
    llm.batch(["a", "b", "c"])
    llm.invoke("d")
    assert len(compiled) == 1


def test_what_cannot_be_compiled_says_where(loops):
    loop = loops("qwen2")
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a)\\1"}}}
    with pytest.raises(SchemaError, match=r"\$\.properties\.a\.pattern"):
        loop.loop.add(request(loop, "One", grammar=grammar_of(schema)))
    with pytest.raises(SchemaError):
        loop.loop.add(request(loop, "One", grammar=Grammar('{"type": "nonsense"}')))
    assert loop.loop.sequences == ()


def test_markup_is_part_of_the_reply(loops):
    loop = loops("internlm2")
    markup = loop.tokenizer.special_bytes("<|action_start|><|plugin|>", "<|action_end|>")
    assert sorted(markup.values()) == [b"<|action_end|>", b"<|action_start|>", b"<|plugin|>"]
    held = only_calls(
        [tag("<|action_start|><|plugin|>\n", compact_json({"type": "boolean"}), "<|action_end|>")],
        "",
        single_call=True,
    )
    asked = request(loop, "Act", grammar=held, markup=markup)
    ((_, text),) = decode(loop.loop, asked)
    assert text in {
        f"<|action_start|><|plugin|>\n{value}<|action_end|>" for value in ("true", "false")
    }


@pytest.mark.parametrize("name", ["qwen2", "internlm2"])
def test_choices_are_weighed_as_the_model_would_say_them(loops, name):
    loop = loops(name)
    (stop,) = loop.stop_ids
    prompt = loop.tokenizer.encode_text("Which one is it?")
    texts = ("cat", "cat food", "a dog")
    choices = [Choice(text, (*loop.tokenizer.encode_text(text), stop)) for text in texts]
    _, delta = loop.loop.add(Request(prompt, stop_ids=loop.stop_ids, choices=choices))
    expected = []
    for choice in choices:
        ids = torch.tensor([[*prompt, *choice.ids]])
        with torch.inference_mode():
            scores = loop.model(input_ids=ids).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, ids.shape[1] - 1)
        expected.append(sum(float(scores[at, ids[0, at + 1]]) for at in places))
    assert delta.choice_logprobs == pytest.approx(expected, abs=1e-3)
    assert delta.text == texts[expected.index(max(expected))]
    assert delta.finish_reason == "stop"
    assert loop.loop.sequences == ()


def test_choices_disturb_nobody(loops):
    loop = loops("qwen2")
    free = request(loop, "Hello", max_tokens=20)
    (alone,) = decode(loop.loop, free)
    row, _ = loop.loop.add(free)
    loop.loop.step()
    (stop,) = loop.stop_ids
    loop.loop.add(Request([400, 401], choices=[Choice("a", (402, stop)), Choice("b", (403, stop))]))
    while loop.loop.sequences:
        loop.loop.step()
    assert row.reply == alone[0]
