"""Random weights and random schemas: what is complete is valid, whatever the model says."""

import datetime as dt
import json
import random

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import TypeAdapter
from random_schemas import KEYWORDS, draw_schema

from langchain_internvl.backends.base import Request, Sampling
from langchain_internvl.backends.transformers.grammars import grammars_of
from langchain_internvl.grammars.grammar import json_grammar
from langchain_internvl.grammars.schemas import SUPPORTED, check_schema

# jsonschema's own "time" is that of an early draft, and "date-time" wants another package.
FORMATS = FormatChecker(["date", "email", "ipv4", "uuid"])


@FORMATS.checks("time", ValueError)
def is_time(value):
    return not isinstance(value, str) or TypeAdapter(dt.time).validate_python(value) is not None


@FORMATS.checks("date-time", ValueError)
def is_moment(value):
    return not isinstance(value, str) or TypeAdapter(dt.datetime).validate_python(value) is not None


COUNT, AT_ONCE, AMPLE = 200, 20, 2000


def keywords_of(schema):
    if isinstance(schema, list):
        return set().union(*map(keywords_of, schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for name, value in schema.items():
        if name in {"properties", "$defs"}:
            found |= set().union(*map(keywords_of, value.values()))
        elif name not in {"enum", "const"}:
            found |= keywords_of(value)
    return found


def ask(loop, schemas, seed):
    """What random weights say to schemas, as (ids, text, why it ended)."""
    replies = []
    for start in range(0, len(schemas), AT_ONCE):
        rows, texts, ends = [], {}, {}
        for number, schema in enumerate(schemas[start : start + AT_ONCE]):
            request = Request(
                loop.tokenizer.encode_text("A record, please."),
                stop_ids=loop.stop_ids,
                sampling=Sampling(temperature=1.5, seed=1000 * seed + start + number),
                grammar=json_grammar(check_schema(schema)),
                max_tokens=AMPLE,
            )
            row, first = loop.loop.add(request)
            rows.append(row)
            texts[row], ends[row] = first.text, first.finish_reason
        while loop.loop.sequences:
            for row, delta in loop.loop.step():
                texts[row] += delta.text
                ends[row] = delta.finish_reason
        replies += [(row.reply, texts[row], ends[row]) for row in rows]
    return replies


def is_accepted(loop, schema, ids):
    grammars = grammars_of(loop.tokenizer.token_bytes)
    state = grammars.follow(json_grammar(check_schema(schema)), loop.stop_ids)
    for token_id in ids:  # raises for one that is not in the grammar
        state.accept(token_id)
    return True


@pytest.mark.slow
def test_random_weights_give_valid_values_of_random_schemas(loops, capsys):
    chance = random.Random(7)
    schemas = [draw_schema(chance) for _ in range(COUNT)]
    assert keywords_of(schemas) == KEYWORDS <= set(SUPPORTED)
    loop = loops("qwen2")
    replies = ask(loop, schemas, seed=1)
    complete = cut = 0
    for schema, (ids, text, reason) in zip(schemas, replies, strict=True):
        if reason == "stop":
            validator = Draft202012Validator(schema, format_checker=FORMATS)
            validator.validate(json.loads(text))
            complete += 1
        else:
            assert reason == "length"
            assert len(ids) == AMPLE
            assert is_accepted(loop, schema, ids)
            cut += 1
    with capsys.disabled():
        print(f"\nrandom schemas: {complete} complete and valid, {cut} cut off of {COUNT}")
    assert complete >= 0.98 * COUNT
    again = ask(loop, schemas[:40], seed=2)
    different = sum(one[1] != other[1] for one, other in zip(replies[:40], again, strict=True))
    with capsys.disabled():
        print(f"other seed: {different} of 40 are other objects")
    assert different >= 36
