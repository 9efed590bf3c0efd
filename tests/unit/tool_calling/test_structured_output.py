"""Replies that are values of a schema."""

import asyncio
import json
from datetime import date
from enum import Enum
from typing import Annotated, Literal

import pytest
from golden import PHOTOS, checkpoint_folder
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, ai
from langchain_core.runnables.utils import add
from pydantic import BaseModel, Field
from typing_extensions import NotRequired, TypedDict

from langchain_internvl import ChatInternVL, image_block
from langchain_internvl.backends.base import Delta
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.errors import RequestError, SchemaError
from langchain_internvl.tool_calling.structured_output import ValueParser

QWEN2 = str(checkpoint_folder("qwen2"))
METHODS = ["json_schema", "function_calling", "json_mode"]


class Shop(BaseModel):
    """Where."""

    name: str = Field(description="as printed", max_length=8)
    kind: Literal["food", "fuel"]


class Receipt(BaseModel):
    """A receipt."""

    shop: Shop
    total: int = Field(ge=0, le=999)
    paid: bool | None = None
    more: list["Receipt"] = Field(default=[], max_length=1)


class Tone(Enum):
    WARM = "warm"


class Spot(TypedDict):
    """A place."""

    x: Annotated[int, ..., "from the left"]
    y: int


VALUE = {"shop": {"name": "Käse", "kind": "food"}, "total": 7, "paid": None, "more": []}


def scripted(*replies, **settings):
    return ChatInternVL(model=QWEN2, backend=ScriptedBackend(replies), **settings)


def written(value, method, name="Receipt"):
    text = json.dumps(value, ensure_ascii=False)
    if method != "function_calling":
        return text
    return f'<tool_call>\n{{"name": "{name}", "arguments": {text}}}\n</tool_call>'


def asked(llm):
    return llm.backend.requests[-1]


@pytest.mark.parametrize("method", METHODS)
def test_classes_of_pydantic(method):
    llm = scripted(*[written(VALUE, method)] * 5)
    structured = llm.with_structured_output(Receipt, method=method)
    expected = Receipt.model_validate(VALUE)
    assert structured.invoke("?") == expected
    assert list(structured.stream("?")) == [expected]
    assert asyncio.run(structured.ainvoke("?")) == expected
    assert structured.batch(["?", "?"]) == [expected] * 2


@pytest.mark.parametrize("method", METHODS)
def test_json_schemas_grow_as_they_stream(method):
    llm = scripted(written(VALUE, method), written(VALUE, method))
    structured = llm.with_structured_output(Receipt.model_json_schema(), method=method)
    assert structured.invoke("?") == VALUE
    steps = list(structured.stream("?"))
    assert steps[-1] == VALUE
    assert len(steps) > 2
    assert all(isinstance(step, dict) for step in steps)


async def test_they_grow_in_async_streams_too():
    llm = scripted(written(VALUE, "json_schema"))
    structured = llm.with_structured_output(Receipt.model_json_schema())
    steps = [step async for step in structured.astream("?")]
    assert steps[-1] == VALUE
    assert len(steps) > 2


@pytest.mark.parametrize("method", METHODS)
def test_include_raw(method):
    llm = scripted(written(VALUE, method), "nonsense")
    structured = llm.with_structured_output(Receipt, method=method, include_raw=True)
    good, bad = structured.invoke("?"), structured.invoke("?")
    assert good["parsed"] == Receipt.model_validate(VALUE)
    assert good["parsing_error"] is None
    assert good["raw"].usage_metadata
    assert bad["parsed"] is None
    assert isinstance(bad["parsing_error"], OutputParserException)
    assert bad["raw"].content == "nonsense"


@pytest.mark.parametrize("wanted", [Receipt, Receipt.model_json_schema()])
@pytest.mark.parametrize("method", METHODS)
async def test_include_raw_streams(method, wanted):
    good = written(VALUE, method)
    llm = scripted(*[reply for reply in (good, "nonsense", good[:60]) for _ in range(2)])
    structured = llm.with_structured_output(wanted, method=method, include_raw=True)
    for is_good in (True, False, False):
        steps = list(structured.stream("?")), [step async for step in structured.astream("?")]
        for chunks in steps:
            whole = add(chunks)
            assert set(whole) == {"raw", "parsed", "parsing_error"}
            assert whole["raw"].usage_metadata
            assert sum("raw" in chunk for chunk in chunks) > (1 if is_good else 0)
            if is_good:
                assert whole["parsing_error"] is None
                expected = Receipt.model_validate(VALUE) if wanted is Receipt else VALUE
                assert whole["parsed"] == expected
            else:
                assert isinstance(whole["parsing_error"], OutputParserException)
                assert whole["parsed"] is None


def test_what_the_model_is_told():
    schema = json.dumps(Receipt.model_json_schema(), ensure_ascii=False)
    for method, tells in zip(METHODS, (True, False, False), strict=True):
        llm = scripted(written(VALUE, method))
        llm.with_structured_output(Receipt, method=method).invoke("?")
        told = llm.get_text(asked(llm).prompt_ids)
        assert (f"It fits this JSON schema:\n{schema}" in told) is tells
        assert ("# Tools" in told) is (method == "function_calling")


def test_the_grammar_tells_backends_the_schema():
    llm = scripted(written(VALUE, "json_schema"))
    llm.with_structured_output(Receipt).invoke("?")
    grammar = asked(llm).grammar
    assert json.loads(grammar.schema)["$defs"]["Receipt"]["properties"]["total"]["maximum"] == 999
    assert json.loads(grammar.format)["separators"] == [",", ":"]
    assert asked(llm).stop == ()
    llm = scripted(written(VALUE, "json_schema"))
    llm.with_structured_output(Receipt).invoke("?", reasoning=True)
    assert asked(llm).grammar.schema is None  # thoughts come first


def test_stop_texts_do_not_end_a_value():
    llm = scripted(written(VALUE, "json_schema"), stop=["food", "}"])
    assert llm.with_structured_output(Receipt).invoke("?").total == 7


class Exact(BaseModel, strict=True):
    """What a strict class takes from JSON."""

    day: date
    tone: Tone
    spot: tuple[int, int]


@pytest.mark.parametrize("method", METHODS)
def test_strict_classes(method):
    reply = written({"day": "2024-02-29", "tone": "warm", "spot": [1, 2]}, method, "Exact")
    llm = scripted(reply, reply)
    structured = llm.with_structured_output(Exact, method=method)
    expected = Exact(day=date(2024, 2, 29), tone=Tone.WARM, spot=(1, 2))
    assert structured.invoke("?") == expected
    assert list(structured.stream("?")) == [expected]


def test_arguments_that_are_no_json_are_read_all_the_same():
    args = {"day": date(2024, 2, 29), "tone": Tone.WARM, "spot": (1, 2)}
    message = AIMessage("", tool_calls=[{"name": "Exact", "args": args, "id": "1"}])
    assert ValueParser(wanted=Exact, is_call=True).read(message) == Exact(**args)


@pytest.mark.parametrize("name", ["any", "auto", "none", "required"])
def test_a_record_named_like_a_choice(name):
    schema = {"title": name, "type": "object", "properties": {"a": {"type": "integer"}}}
    llm = scripted(f'<tool_call>\n{{"name": "{name}", "arguments": {{"a": 1}}}}\n</tool_call>')
    structured = llm.with_structured_output(schema, method="function_calling")
    assert structured.invoke("?") == {"a": 1}
    assert json.loads(asked(llm).grammar.format)["type"] == "tags_with_separator"


def test_any_object():
    llm = scripted('{"a": 1}')
    assert llm.with_structured_output(None, method="json_mode").invoke("?") == {"a": 1}


def test_replies_that_are_cut_off_say_so():
    deltas = [Delta(0, '{"shop":{"name":"Kä'), Delta(0, "", "length")]
    llm = scripted(deltas, deltas, deltas)
    with pytest.raises(OutputParserException, match="raise max_tokens"):
        llm.with_structured_output(Receipt).invoke("?")
    with pytest.raises(OutputParserException, match="raise max_tokens"):
        llm.with_structured_output(Receipt, method="function_calling").invoke("?")
    with pytest.raises(OutputParserException, match="raise max_tokens"):
        list(llm.with_structured_output(Receipt.model_json_schema()).stream("?"))


def test_a_reply_that_comes_whole_in_a_stream_says_so_too():
    """As from a chain with a step that does not stream."""
    about = {"finish_reason": "length"}
    for parser, message in (
        (ValueParser(wanted=Receipt), AIMessage('{"shop":', response_metadata=about)),
        (ValueParser(wanted=Receipt, is_call=True), AIMessage("", response_metadata=about)),
    ):
        with pytest.raises(OutputParserException, match="raise max_tokens"):
            list(parser.transform(iter([message])))
    filtered = AIMessage('{"shop":', response_metadata={"finish_reason": "content_filter"})
    with pytest.raises(OutputParserException, match="cut off by the server's content filter"):
        list(ValueParser(wanted=Receipt).transform(iter([filtered])))
    args = {"name": "K", "address": "x"}
    whole = AIMessage("", tool_calls=[{"name": "Receipt", "args": args, "id": "1"}])
    parser = ValueParser(wanted=Receipt.model_json_schema(), is_call=True)
    assert list(parser.transform(iter([whole])))[-1] == args


def test_deep_nonsense_is_an_error_and_no_crash():
    with pytest.raises(OutputParserException, match="no JSON"):
        scripted("[" * 100_000).with_structured_output(Receipt).invoke("?")


@pytest.mark.parametrize(
    ("schema", "options", "error", "message"),
    [
        (None, {}, RequestError, "needs a schema"),
        (Receipt, {"method": "xml"}, RequestError, "method is json_schema"),
        (Receipt, {"nonsense": 1}, RequestError, "takes no nonsense"),
        (Receipt, {"temperature": -1}, RequestError, "temperature"),
        ({"type": "array"}, {"method": "function_calling"}, RequestError, "are an object"),
        ({"properties": {"a": {"contains": {}}}}, {}, SchemaError, r"\$\.properties\.a\.contains"),
        (
            {"properties": {"a": {"contains": {}}}},
            {"method": "function_calling"}, SchemaError, r"\$\.properties\.a\.contains",
        ),
        (3, {}, RequestError, "3 is no schema"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_raises_at_once(schema, options, error, message):
    with pytest.raises(error, match=message):
        scripted().with_structured_output(schema, **options)


def test_strict_false_leaves_out_what_cannot_be_guaranteed():
    schema = {
        "title": "a",
        "type": "object",
        "properties": {"a": {"type": "array", "contains": {}}},
    }
    for method in METHODS:
        reply = '{"a": []}'
        if method == "function_calling":
            reply = f'<tool_call>{{"name": "a", "arguments": {reply}}}</tool_call>'
        llm = scripted(reply)
        structured = llm.with_structured_output(schema, method=method, strict=False)
        assert structured.invoke("?") == {"a": []}
        assert "contains" not in asked(llm).grammar.format


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["qwen2", "internlm2"])
def test_random_weights_about_a_picture(models, name, method):
    llm = models(name, temperature=1.5, seed=3, max_tokens=500, max_tiles=1)
    question = {"type": "text", "text": "What was bought?"}
    message = HumanMessage([image_block(PHOTOS / "coffee.png"), question])
    seen = {
        llm.with_structured_output(Receipt, method=method, seed=seed).invoke([message]).total
        for seed in range(3)
    }
    assert len(seen) > 1
    spot = llm.with_structured_output(Spot, method=method).invoke([message])
    assert {type(value) for value in spot.values()} == {int}
    assert set(spot) == {"x", "y"}


def test_typed_dicts_that_langchain_cannot_read():
    class Loose(TypedDict):
        a: int
        b: NotRequired[int]

    llm = scripted('{"a": 1}')
    assert llm.with_structured_output(Loose).invoke("?") == {"a": 1}
    assert json.loads(asked(llm).grammar.schema)["required"] == ["a"]


def test_response_format_in_the_words_of_openai():
    schema = {"name": "spot", "schema": {"type": "object", "properties": {"x": {"type": "null"}}}}
    form = {"type": "json_schema", "json_schema": schema}
    llm = scripted('{"x":null}', "words", "{}")
    assert llm.invoke("?", response_format=form).content == '{"x":null}'
    assert asked(llm).grammar is not None
    assert llm.invoke("?", response_format={"type": "text"}).content == "words"
    assert asked(llm).grammar is None
    llm.invoke("?", response_format={"type": "json_object"})
    assert json.loads(asked(llm).grammar.schema)["type"] == "object"
    for wrong in ({"type": "xml"}, "json", {"type": "json_schema"}):
        with pytest.raises(RequestError, match="response_format is"):
            llm.invoke("?", response_format=wrong)


@pytest.mark.parametrize("method", METHODS)
def test_a_long_reply_is_parsed_once_as_it_streams(method, monkeypatch):
    """Counted in characters: LangChain parses a call anew whenever two chunks of it are added."""
    parsed = 0
    parse = ai.parse_partial_json

    def counting(text, **options):
        nonlocal parsed
        parsed += len(text)
        return parse(text, **options)

    value = {**VALUE, "items": [{"name": f"item {n}", "price": n} for n in range(200)]}
    llm = scripted(written(value, method))
    structured = llm.with_structured_output(Receipt.model_json_schema(), method=method)
    monkeypatch.setattr(ai, "parse_partial_json", counting)
    steps = list(structured.stream("?"))
    assert len(steps) > 100
    assert steps[-1]["items"][-1] == {"name": "item 199", "price": 199}
    assert parsed < 5 * len(json.dumps(value))


def calls_of(*names):
    """A reply that calls tools by name; servers may call others than they are asked to."""
    calls = [{"name": one, "args": {"name": one, "legs": 4}, "id": one} for one in names]
    return AIMessage("", tool_calls=calls)


class Beast(BaseModel):
    name: str
    legs: int


@pytest.mark.parametrize("schema", [Beast, Beast.model_json_schema()])
def test_the_arguments_are_those_of_the_tool_that_was_asked_for(schema):
    def answer(*names):
        reply = calls_of(*names)
        return scripted(reply, reply).with_structured_output(schema, method="function_calling")

    (beast,) = list(answer("Other", "Beast").stream("x"))[-1:]
    assert dict(beast)["name"] == "Beast"
    assert dict(answer("Other", "Beast").invoke("x"))["name"] == "Beast"
    for ask in (answer("Other").invoke, lambda text: list(answer("Other").stream(text))):
        with pytest.raises(OutputParserException, match="the reply calls Other, not Beast"):
            ask("x")


def test_a_message_that_comes_whole_gives_no_value_of_another_call():
    parser = ValueParser(wanted=Beast.model_json_schema(), is_call=True)
    values = list(parser.transform(iter([calls_of("Other", "Beast")])))
    assert values == [{"name": "Beast", "legs": 4}]


@pytest.mark.parametrize(
    "text", ['```json\n{"name": "cat", "legs": 4}\n```', ' ```\n{"name": "cat", "legs": 4}```\n']
)
@pytest.mark.parametrize("schema", [Beast, Beast.model_json_schema()])
def test_a_value_in_a_markdown_fence(schema, text):
    llm = scripted(text, text).with_structured_output(schema)
    assert dict(llm.invoke("x")) == {"name": "cat", "legs": 4}
    assert dict(list(llm.stream("x"))[-1]) == {"name": "cat", "legs": 4}
