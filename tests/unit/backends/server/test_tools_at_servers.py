"""Tools, records and choices of the chat model, at servers by messages and by ids."""

import json

import pytest
from fault_server import FaultServer, chunk, data, ids, lines, words
from golden import checkpoint_folder
from pydantic import BaseModel

from langchain_internvl import ChatInternVL
from langchain_internvl.errors import RequestError

OTHER = ({"id": "vl", "owned_by": "vllm"},)


class Zoom(BaseModel):
    """Look closer."""

    factor: int


class Look(BaseModel):
    """Look elsewhere."""

    where: str


def call(name, arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return chunk({"tool_calls": [{"index": 0, "id": "x", "function": function}]})


@pytest.fixture
def at_server():
    """A model at a server that gives an answer, asked by messages."""
    opened = []

    def connect(*answers):
        server = FaultServer(*answers, models=OTHER)
        running = server.running()
        llm = ChatInternVL(model="vl", base_url=running.__enter__(), max_retries=0)
        opened.append((running, llm))
        return server, llm

    yield connect
    for running, llm in opened:
        llm.close()
        running.__exit__(None, None, None)


ALLOWED = {"type": "allowed_tools", "tools": [{"type": "function", "name": "Look"}]}


@pytest.mark.parametrize(
    ("choice", "told", "names"),
    [
        (None, "auto", ["Zoom", "Look"]),
        ("any", "required", ["Zoom", "Look"]),
        ("Look", "required", ["Look"]),
        ("none", "none", ["Zoom", "Look"]),
        ({**ALLOWED, "mode": "auto"}, "auto", ["Look"]),
        ({**ALLOWED, "mode": "required"}, "required", ["Look"]),
    ],
)
def test_the_server_is_told_of_tools_by_messages(at_server, choice, told, names):
    """A name is told as the only tool: servers do not hold a model to a name."""
    server, llm = at_server(lines(*words("Hello")))
    llm.bind_tools([Zoom, Look], tool_choice=choice).invoke("Look closer.", stop=["x"])
    asked = server.asked[-1]
    assert asked["tool_choice"] == told
    assert [tool["function"]["name"] for tool in asked["tools"]] == names
    assert "Zoom" not in json.dumps(asked["messages"])  # the server's template tells the model


def test_calls_of_a_server_are_calls_here(at_server):
    answer = lines(chunk({"content": "I zoom."}), call("Zoom", {"factor": 2}), chunk({}, "stop"))
    _, llm = at_server(answer)
    reply = llm.bind_tools([Zoom]).invoke("Look closer.")
    assert reply.content == "I zoom."
    assert [(one["name"], one["args"]) for one in reply.tool_calls] == [("Zoom", {"factor": 2})]
    streamed = list(llm.bind_tools([Zoom]).stream("Look closer."))
    assert sum(bool(one.tool_call_chunks) for one in streamed) >= 1
    whole = streamed[0]
    for one in streamed[1:]:
        whole += one
    assert whole.tool_calls[0]["args"] == {"factor": 2}


def test_records_by_messages(at_server):
    server, llm = at_server(lines(*words('{"factor"', ":3}")))
    assert llm.with_structured_output(Zoom).invoke("Look closer.") == Zoom(factor=3)
    asked = server.asked[-1]
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["factor"]
    assert '"factor"' in asked["messages"][0]["content"]
    assert asked["messages"][0]["role"] == "system"
    forced = lines(call("Zoom", {"factor": 4}), chunk({}, "tool_calls"))
    server, llm = at_server(forced)
    by_call = llm.with_structured_output(Zoom, method="function_calling")
    assert by_call.invoke("Look closer.") == Zoom(factor=4)
    assert server.asked[-1]["tool_choice"] == "required"


def test_what_no_server_holds_a_reply_to_is_refused_before_it_is_asked(at_server):
    server, llm = at_server(lines(*words("Hello")))
    with pytest.raises(RequestError, match="cannot weigh choices"):
        llm.invoke("Yes or no?", choices=["yes", "no"])
    form = {"type": "json_schema", "json_schema": {"name": "z", "schema": Zoom.model_json_schema()}}
    with pytest.raises(RequestError, match=r"not both; .* use a backend in this process"):
        llm.bind_tools([Look], response_format=form).invoke("Look closer.")
    assert server.attempts == 0


@pytest.fixture
def by_ids():
    server = FaultServer(lines(*ids(5)))
    with server.running() as url:
        llm = ChatInternVL(
            model=str(checkpoint_folder("qwen2")), served_model="vl", base_url=url, max_retries=0
        )
        yield server, llm
        llm.close()


def test_a_forced_call_by_ids_is_a_schema_of_calls(by_ids):
    server, llm = by_ids
    llm.bind_tools([Zoom, Look], tool_choice="Zoom", max_tokens=1).invoke("Look closer.")
    asked = server.asked[-1]
    schema = asked["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["name"] == {"const": "Zoom"}
    assert "tools" not in asked
    assert asked["input_ids"] == llm.prompt_ids("Look closer.", tools=[Zoom, Look])


def test_a_free_choice_by_ids_is_not_held_and_records_are(by_ids):
    server, llm = by_ids
    llm.bind_tools([Zoom], max_tokens=1).invoke("Look closer.")
    assert "response_format" not in server.asked[-1]
    llm.with_structured_output(Zoom, include_raw=True, max_tokens=1).invoke("Look closer.")
    sent = server.asked[-1]["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["factor"]["type"] == "integer"
    asked = server.attempts
    with pytest.raises(RequestError, match="cannot weigh choices"):
        llm.invoke("Yes or no?", choices=["yes", "no"])
    assert server.attempts == asked


def test_tools_and_schemas_spell_no_control_token(at_server):
    name = "<|im_end|>"
    inner = {"type": "object", "properties": {"a": {"type": "string", "description": name}}}
    tool = {"name": "f", "description": name, "parameters": inner}
    server, llm = at_server(lines(*words("x")))
    llm.invoke("Hello", tools=[{"type": "function", "function": tool}])
    assert name not in json.dumps(server.asked[-1]["tools"])
    told = {"type": "json_schema", "json_schema": {"name": "x", "schema": inner}}
    server, llm = at_server(lines(*words("{}")))
    llm.invoke("Hello", response_format=told)
    assert name not in json.dumps(server.asked[-1]["messages"])


@pytest.mark.parametrize("settings", [{"parallel_tool_calls": False}, {"tool_choice": "any"}])
def test_one_call_is_asked_for_and_taken(at_server, settings):
    second = {"index": 1, "id": "y", "function": {"name": "Zoom", "arguments": "{}"}}
    server, llm = at_server(
        lines(call("Zoom", {"factor": 4}), chunk({"tool_calls": [second]}), chunk({}, "tool_calls"))
    )
    (made,) = llm.bind_tools([Zoom], **settings).invoke("Look closer.").tool_calls
    assert made["args"] == {"factor": 4}
    assert server.asked[-1]["parallel_tool_calls"] is False
    assert len(llm.bind_tools([Zoom]).invoke("Look closer.").tool_calls) == 2
    assert "parallel_tool_calls" not in server.asked[-1]


FORM = {"type": "json_schema", "json_schema": {"name": "z", "schema": Zoom.model_json_schema()}}


@pytest.mark.parametrize(
    "settings", [{"response_format": FORM}, {"tools": [Zoom], "tool_choice": "any"}]
)
def test_no_thoughts_before_what_a_server_enforces(at_server, by_ids, settings):
    for server, llm in (at_server(lines(*words("x"))), by_ids):
        with pytest.raises(RequestError, match="leave out reasoning=True"):
            llm.invoke("Look closer.", reasoning=True, **settings)
        assert server.attempts == 0


def test_tools_and_a_response_format_by_ids_say_what_helps(by_ids):
    _, llm = by_ids
    with pytest.raises(RequestError, match="Leave out the tools or the response_format"):
        llm.bind_tools([Look], response_format=FORM).invoke("Look closer.")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_that_a_server_took_out_are_kept(at_server, name):
    thoughts = [chunk({"content": "", name: text}) for text in ("Hm", ", so")]
    _, llm = at_server(lines(*thoughts, chunk({"content": "4"}), chunk({}, "stop")))
    reply = llm.invoke("2+2?")
    assert (reply.content, reply.additional_kwargs["reasoning_content"]) == ("4", "Hm, so")
    _, llm = at_server(lines(*thoughts, call("Zoom", {"factor": 4}), chunk({}, "tool_calls")))
    reply = llm.bind_tools([Zoom]).invoke("2+2?")
    assert reply.additional_kwargs["reasoning_content"] == "Hm, so"
    assert [one["name"] for one in reply.tool_calls] == ["Zoom"]


def piece(name=None, arguments=None, **fields):
    return {**fields, "function": {"name": name, "arguments": arguments}}


PIECES = {
    "no index, in one chunk": [[piece("Zoom", '{"factor": 1}'), piece("Zoom", '{"factor": 2}')]],
    "no index, in pieces": [[piece("Zoom", "{")], [piece(None, '"factor": 1}')],
                            [piece("Zoom", '{"factor": 2')], [piece(None, "}")]],
    "no index, ids in each piece": [
        [piece("Zoom", "{", id="a")], [piece(None, '"factor": 1}', id="a")],
        [piece("Zoom", '{"factor": 2}', id="b")]],
    "index 0 for all": [[piece("Zoom", '{"factor": 1}', index=0, id="a")],
                        [piece("Zoom", '{"factor": 2}', index=0, id="b")]],
    "as OpenAI": [[piece("Zoom", "", index=0, id="a")], [piece(None, '{"factor": 1}', index=0)],
                  [piece("Zoom", "", index=1, id="b")], [piece(None, '{"factor": 2}', index=1)]],
    "the name in each piece": [
        [piece("Zoom", '{"factor"', index=0, id="a")], [piece("Zoom", ": 1}", index=0, id="a")],
        [piece("Zoom", "", index=1, id="b")], [piece("Zoom", '{"factor": 2}', index=1, id="b")]],
    "the name in each piece, without ids": [
        [piece("Zoom", '{"factor"', index=0)], [piece("Zoom", ": 1}", index=0)],
        [piece("Zoom", "", index=1)], [piece("Zoom", '{"factor": 2}', index=1)],
        [piece("Zoom", "", index=1)]],
    "the name in each piece, without index": [
        [piece("Zoom", '{"factor"')], [piece("Zoom", ": 1}")], [piece("Zoom", '{"factor": 2}')]],
    "the name so far": [
        [piece("Zo", "", index=0)], [piece("Zoom", '{"factor": 1}', index=0)],
        [piece("Zoom", '{"factor": 2}', index=1)]],
    "the name in parts": [
        [piece("Zo", "", index=0)], [piece("om", '{"factor": 1}', index=0)],
        [piece("Zoom", '{"factor": 2}', index=1)]],
    "index 0 for all, without ids": [[piece("Zoom", '{"factor": 1}', index=0)],
                                     [piece("Zoom", '{"factor": 2}', index=0)]],
    "objects": [[piece("Zoom", {"factor": 1}, index=0)], [piece("Zoom", {"factor": 2}, index=1)]],
    "the name in each piece, and braces at its end": [
        [piece("Zoom", '{"factor": 1, "a": {"b": {}}', index=0)], [piece("Zoom", "}", index=0)],
        [piece("Zoom", '{"factor": 2, "a": {"b": {}', index=1)], [piece("Zoom", "}}", index=1)]],
    "in another order": [[piece("Zoom", '{"factor": 2}', index=1, id="b")],
                         [piece("Zoom", '{"factor": 1}', index=0, id="a")]],
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_calls_of_servers_that_number_them_otherwise(at_server, name):
    chunks = [chunk({"tool_calls": pieces}) for pieces in PIECES[name]]
    _, llm = at_server(lines(*chunks, chunk({}, "tool_calls")))
    reply = llm.bind_tools([Zoom]).invoke("x")
    assert [one["args"]["factor"] for one in reply.tool_calls] == [1, 2]
    assert {one["name"] for one in reply.tool_calls} == {"Zoom"}
    assert not reply.invalid_tool_calls


def test_another_name_is_another_call_though_the_index_is_0_for_all(at_server):
    pieces = [piece("Zoom", '{"factor": 1}', index=0), piece("Look", '{"where": "up"}', index=0)]
    chunks = [chunk({"tool_calls": [one]}) for one in pieces]
    _, llm = at_server(lines(*chunks, chunk({}, "tool_calls")))
    reply = llm.bind_tools([Zoom, Look]).invoke("x")
    assert [one["name"] for one in reply.tool_calls] == ["Zoom", "Look"]


def test_the_field_before_tool_calls_is_a_call(at_server):
    pieces = [{"name": "Zoom", "arguments": ""}, {"arguments": '{"factor"'}, {"arguments": ": 3}"}]
    chunks = [chunk({"function_call": one}) for one in pieces]
    _, llm = at_server(lines(*chunks, chunk({}, "function_call")))
    (call_,) = llm.bind_tools([Zoom]).invoke("x").tool_calls
    assert (call_["name"], call_["args"]) == ("Zoom", {"factor": 3})


def test_other_replies_do_not_mix_in(at_server):
    """A server that sends two replies."""
    both = data({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"},
                             {"index": 0, "delta": {"content": "3"}}]})  # fmt: skip
    other = chunk({"content": "no"}, index=1)
    sent = lines(chunk({"content": "12"}), other, both, chunk({}, "stop"))
    _, llm = at_server(sent)
    assert llm.invoke("x").content == "123"


@pytest.mark.parametrize("number", [1, "0", "1", None])
def test_the_first_index_is_that_of_the_reply(at_server, number):
    other = chunk({"content": "no"}, index=7)
    sent = [chunk({"content": one}, index=number) for one in "12"]
    end = chunk({}, "stop", index=number)
    _, llm = at_server(lines(sent[0], other, data({"choices": []}), sent[1], other, end))
    assert llm.invoke("x").content == "12"


def test_a_refusal_is_text(at_server):
    _, llm = at_server(lines(chunk({"refusal": "I can"}), chunk({"refusal": "not."}, "stop")))
    assert llm.invoke("x").content == "I cannot."
