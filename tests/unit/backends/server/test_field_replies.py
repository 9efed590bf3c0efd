"""Replies of servers and gateways in other forms than OpenAI's protocol has."""

import warnings

import pytest
from fault_server import DONE, FaultServer, Host, body, chunk, data, ids, lines
from golden import checkpoint_folder

from langchain_internvl import ChatInternVL
from langchain_internvl.errors import BrokenReplyError

OTHER = ({"id": "vl", "owned_by": "somebody"},)
HELLO = chunk({"content": "Hello"})
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.fixture(scope="module")
def hosted():
    host = Host(FaultServer(models=OTHER))
    with host.running() as url:
        llm = ChatInternVL(model="vl", base_url=url, max_retries=0)
        yield host, llm
        llm.close()


@pytest.fixture
def answered(hosted):
    """The reply of the chat model to what a server sends, without a warning."""
    host, llm = hosted

    def run(answer, **settings):
        host.server = FaultServer(answer, models=OTHER)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return llm.invoke("Hello", **settings)

    return run


def reason_of(reply):
    return reply.response_metadata["finish_reason"]


def whole(message, **choice):
    return body(
        {"object": "chat.completion", "choices": [{"index": 0, "message": message, **choice}]}
    )


REASONS = {
    "stop": "stop tool_calls function_call eos eos_token stop_sequence end_turn tool_use STOP "
    "COMPLETE",
    "length": "length max_tokens MAX_TOKENS maxTokens model_length max-output-tokens "
    "model_context_window_exceeded",
    "content_filter": "content_filter SAFETY sensitive refusal guardrail_intervened",
    "repetition": "repetition",
}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(one, reason) for reason, spelled in REASONS.items() for one in spelled.split()],
)
def test_finish_reasons_in_other_spellings(answered, sent, expected):
    for answer in (lines(HELLO, chunk({}, sent), DONE), lines(chunk({"content": "Hello"}, sent)),
                   whole({"content": "Hello"}, finish_reason=sent)):  # fmt: skip
        reply = answered(answer)
        assert (reply.content, reason_of(reply)) == ("Hello", expected)


def test_a_finish_reason_may_be_an_object(answered):
    assert reason_of(answered(lines(HELLO, chunk({}, {"type": "length", "length": 3})))) == "length"


def test_an_unknown_finish_reason_stays_with_the_reply(hosted):
    host, llm = hosted
    host.server = FaultServer(lines(HELLO, chunk({}, "pause_turn"), DONE), models=OTHER)
    with pytest.warns(UserWarning, match="'pause_turn'"):
        reply = llm.invoke("Hello")
    assert (reply.content, reason_of(reply)) == ("Hello", "pause_turn")
    with pytest.warns(UserWarning, match="'pause_turn'"):
        *_, last = llm.stream("Hello")
    assert (reason_of(last), last.chunk_position) == ("pause_turn", "last")


@pytest.mark.parametrize("sent", ["abort", "error", "ERROR", "cancelled", "network_error"])
def test_a_reply_that_the_server_gave_up_is_an_error(answered, sent):
    with pytest.raises(BrokenReplyError, match=f"gave up the reply: {sent}"):
        answered(lines(HELLO, chunk({}, sent), DONE))


@pytest.mark.parametrize("sent", [None, "", "null", "None"])
def test_reasons_of_parts_before_the_last(answered, sent):
    parts = [chunk({"content": one}, sent) for one in ("Hel", "lo")]
    assert answered(lines(*parts, chunk({}, "length"))).content == "Hello"


COUNTS = data({"choices": [], "usage": USAGE})
WITHOUT_REASON = {
    "the end marker": lines(HELLO, DONE),
    "token counts": lines(HELLO, COUNTS),
    "token counts, then an event that says nothing": lines(HELLO, COUNTS, "event: ping\ndata: {}"),
    "token counts without choices, and the marker": lines(HELLO, data({"usage": USAGE}), DONE),
    "a whole reply": whole({"content": "Hello"}),
    "a whole reply with counts": body({"choices": [{"message": {"content": "Hello"},
                                                    "finish_reason": None}], "usage": USAGE}),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_REASON)
def test_a_reply_that_ends_without_a_reason_is_whole(answered, name):
    reply = answered(WITHOUT_REASON[name])
    assert (reply.content, reason_of(reply)) == ("Hello", "stop")


def test_token_counts_say_that_the_limit_was_reached(answered):
    assert reason_of(answered(lines(HELLO, COUNTS, DONE), max_tokens=3)) == "length"
    assert reason_of(answered(lines(HELLO, COUNTS, DONE), max_tokens=4)) == "stop"


def test_a_call_may_end_without_a_reason(answered):
    function = {"name": "look", "arguments": '{"n": 1}'}
    reply = answered(lines(chunk({"tool_calls": [{"index": 0, "function": function}]}), DONE))
    assert '"look"' in reply.content


CUT = {
    "no end": lines(HELLO),
    "a cut connection": lines(HELLO, cut=True),
    "a cut connection after counts": lines(HELLO, COUNTS, cut=True),
    "counts beside each part": lines(chunk({"content": "Hello"}), data({"choices": [
        {"index": 0, "delta": {"content": "x"}}], "usage": USAGE})),
    "counts before the last part": lines(COUNTS, HELLO),
    "counts of another choice": lines(HELLO, data({"choices": [{"index": 1, "delta": {}}],
                                                   "usage": USAGE})),
    "the end marker alone": lines(DONE),
    "counts alone": lines(COUNTS, DONE),
    "a role alone": lines(chunk({"role": "assistant", "content": ""}), DONE),
    "messages of a stream": lines(data({"object": "chat.completion.chunk", "choices": [
        {"message": {"content": "Hel"}}]})),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_stream_that_was_cut_is_an_error(answered, name):
    with pytest.raises(BrokenReplyError, match="broke off"):
        answered(CUT[name])


def text(said):
    return {"type": "text", "text": said}


CONTENTS = {
    "a part": [text("Hello")],
    "parts": [text("Hel"), text("lo")],
    "parts without a type": [{"text": "Hello"}],
    "the Responses API's": [{"type": "output_text", "text": "Hello", "annotations": []}],
    "texts": ["Hel", "lo"],
    "one part alone": text("Hello"),
    "an object in place of text": [{"type": "text", "text": {"value": "Hello", "annotations": []}}],
    "a part that is null": [None, text("Hello"), text("")],
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_in_parts(answered, name):
    content = CONTENTS[name]
    assert answered(whole({"content": content}, finish_reason="stop")).content == "Hello"
    assert answered(lines(chunk({"content": content}), chunk({}, "stop"))).content == "Hello"
    both = lines(chunk({"content": content}), chunk({"content": content}), chunk({"content": None}),
                 chunk({"content": []}, "stop"))  # fmt: skip
    assert answered(both).content == "HelloHello"


THOUGHTS = {
    "reasoning_content": {"reasoning_content": [text("Hm")], "content": "Hello"},
    "reasoning": {"reasoning_content": None, "reasoning": [{"type": "text", "text": "Hm"}],
                  "content": [text("Hello")]},
    "both": {"reasoning_content": "Hm", "reasoning": "Hm", "content": "Hello"},
    "Mistral's": {"content": [{"type": "thinking", "thinking": [text("Hm")]}, text("Hello")]},
    "Claude's": {"content": [{"type": "thinking", "thinking": "Hm", "signature": "x"},
                             {"type": "redacted_thinking", "data": "x"}, text("Hello")]},
    "the Responses API's": {"content": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}, text("Hello")]},
    "an open model's": {"content": [{"type": "reasoning", "summary": [], "content": [
        {"type": "reasoning_text", "text": "Hm"}]}, text("Hello")]},
}  # fmt: skip


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts_in_parts(answered, name):
    for answer in (whole(THOUGHTS[name], finish_reason="stop"),
                   lines(chunk(THOUGHTS[name]), chunk({}, "stop"))):  # fmt: skip
        reply = answered(answer)
        assert reply.content == "Hello"
        assert reply.additional_kwargs["reasoning_content"] == "Hm"


@pytest.mark.parametrize(
    "reasoning", [None, "", [], [{"type": "reasoning.encrypted", "data": "x"}]]
)
def test_no_thoughts(answered, reasoning):
    delta = {"reasoning_content": reasoning, "reasoning": reasoning, "content": "Hello"}
    reply = answered(lines(chunk(delta), chunk({}, "stop")))
    assert (reply.content, reply.additional_kwargs) == ("Hello", {})


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I cannot."},
        {"content": [], "refusal": "I cannot."},
        {"content": [text("")], "refusal": "I cannot."},
        {"content": [{"type": "refusal", "refusal": "I cannot."}]},
        {"content": None, "refusal": [text("I cannot.")]},
    ],
)
def test_refusals(answered, message):
    assert answered(whole(message, finish_reason="stop")).content == "I cannot."
    assert answered(lines(chunk(message, "content_filter"))).content == "I cannot."


def test_a_part_that_is_no_text_is_named(hosted):
    host, llm = hosted
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    host.server = FaultServer(whole({"content": [text("Hello"), image]}, finish_reason="stop"),
                              models=OTHER)  # fmt: skip
    with pytest.warns(UserWarning, match="part of type 'image_url'"):
        assert llm.invoke("Hello").content == "Hello"


@pytest.mark.parametrize("content", [7, [7], [[[[[[[[[["x"]]]]]]]]]]])
def test_content_that_is_none(answered, content):
    with pytest.raises(BrokenReplyError, match="which is no text"):
        answered(lines(chunk({"content": content}), chunk({}, "stop")))


@pytest.mark.parametrize("payload", [{"choices": None}, {"choices": None, "error": None}])
def test_chunks_that_say_nothing(answered, payload):
    reply = answered(lines(data(payload), HELLO, data(payload), chunk({}, "stop"), DONE))
    assert reply.content == "Hello"


def test_text_as_completions_have_it(answered):
    """A reply of that form was empty without a word."""
    texts = [data({"choices": [{"index": 0, "text": text}]}) for text in ("He", "llo")]
    end = data({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    assert answered(lines(*texts, end, DONE)).content == "Hello"


def test_two_objects_as_arguments_are_no_call(answered):
    """The first was called, and the second dropped."""
    function = {"name": "f", "arguments": '{"a": 1}{"a": 2}'}
    call = chunk({"tool_calls": [{"index": 0, "id": "1", "function": function}]}, "tool_calls")
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {}}}]
    reply = answered(lines(call, DONE), tools=tools)
    assert reply.tool_calls == []
    assert [one["name"] for one in reply.invalid_tool_calls] == ["f"]


def test_the_first_of_several_choices(answered):
    other = {"index": 1, "message": {"content": "Bye"}, "finish_reason": "abort"}
    first = {"index": 0, "message": {"content": [text("Hello")]}, "finish_reason": "eos_token"}
    reply = answered(body({"choices": [first, other]}))
    assert (reply.content, reason_of(reply)) == ("Hello", "stop")


def test_replies_of_ids_may_end_without_a_reason():
    *parts, _, done = ids(40, 41)
    server = FaultServer(lines(*parts, done))
    with server.running() as url:
        folder = str(checkpoint_folder("qwen2"))
        llm = ChatInternVL(model=folder, served_model="vl", base_url=url, max_retries=0)
        reply = llm.invoke("Hello")
        assert (reply.usage_metadata["output_tokens"], reason_of(reply)) == (2, "stop")
        server.answers = (lines(*parts),)
        with pytest.raises(BrokenReplyError, match="without a finish reason"):
            llm.invoke("Hello")
        llm.close()
