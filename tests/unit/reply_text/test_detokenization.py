"""Token ids to text: cut, stripped, and never taken back."""

import pytest
from golden import TINY, by_id, chat_cases, expected_reply, load
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.errors import UnsupportedCheckpointError
from langchain_internvl.prompting.templates import get_template
from langchain_internvl.reply_text.detokenization import TextStream, piece_bytes

BYTES = {index: bytes([index]) for index in range(256)}


def stream(tokens, stop=(), table=BYTES):
    text = TextStream(table, stop)
    pieces = [text.push(token) for token in tokens]
    pieces.append(text.finish())
    return pieces, text.stopped_at


def say(text, stop=()):
    pieces, _ = stream(text.encode(), stop)
    return "".join(pieces)


@pytest.mark.golden
@pytest.mark.parametrize("case", **by_id(load("prompts.json")["trim_cases"]))
def test_replies_are_trimmed_as_recorded(case):
    assert say(case["decoded"], [get_template(case["template"]).stop]) == case["response"]


@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in TINY if name in {"internlm2", "qwen2"}])
def test_recorded_ids_are_the_recorded_text(name, tokenizers):
    """Of Llama's and Phi3's, transformers 4 recorded the spacing of its slow decoders."""
    tokenizer = tokenizers(name)
    rows = [row for case in chat_cases(name) for row in case.get("rows", [case]) if "tokens" in row]
    assert rows
    for row in rows:
        pieces, _ = stream(
            row["tokens"][: row["num_tokens_until_stop"]], table=tokenizer.token_bytes
        )
        assert expected_reply("".join(pieces)) == row["response"]


def test_a_character_arrives_when_it_is_whole():
    pieces, _ = stream("aé你😀b".encode())
    assert pieces == ["a", "", "é", "", "", "你", "", "", "", "😀", "b", ""]


def test_broken_bytes_become_replacement_characters():
    pieces, _ = stream(b"a\xff\xe4\xbdb\xe4")
    assert "".join(pieces) == b"a\xff\xe4\xbdb\xe4".decode("utf-8", "replace")


def test_white_space_is_held_until_words_follow():
    pieces, _ = stream(b" \n a  b \n")
    assert pieces == ["", "", "", "a", "", "", "  b", "", "", ""]


def test_what_may_become_a_stop_is_held():
    pieces, stopped = stream(b"ab<en<end>c", ["<end>"])
    assert pieces == ["a", "b", "", "", "", "<en", "", "", "", "", "", ""]
    assert stopped == "<end>"
    pieces, stopped = stream(b"ab<en", ["<end>"])
    assert "".join(pieces) == "ab<en"
    assert stopped is None


def test_the_first_stop_wins():
    assert say("one two three", ["three", "two"]) == "one"
    assert say("aab", ["ab", "aab"]) == ""
    assert say("one", [""]) == "one"


def test_a_stop_of_white_space():
    assert say("\n\nhello\n\nworld", ["\n\n"]) == ""
    assert say("hello \n\n world", [" \n\n "]) == "hello"


def test_nothing_follows_a_stop():
    text = TextStream(BYTES, ["x"])
    assert [text.push(token) for token in b"axb"] == ["a", "", ""]
    assert text.finish() == ""


@given(
    text=st.text(alphabet="ab \n<é", max_size=30),
    stop=st.lists(st.text(alphabet="ab \n<é", max_size=4), max_size=3),
)
def test_the_pieces_are_the_reply(text, stop):
    """The reference cuts the whole text and strips it; pieces may be taken at any time."""
    pieces, stopped = stream(text.encode(), stop)
    found = [(text.find(one), one) for one in stop if one and one in text]
    if not found:
        assert stopped is None
        assert "".join(pieces) == text.strip()
    else:
        # As in a stream: the stop that is complete first ends the reply.
        ends = min(place + len(one) for place, one in found)
        read = text[:ends]
        start = min(read.find(one) for one in stop if one and one in read)
        assert "".join(pieces) == text[:start].strip()


def test_decoders_that_are_unknown_are_refused():
    with pytest.raises(UnsupportedCheckpointError, match="WordPiece"):
        piece_bytes({}, {"type": "WordPiece"})


def test_pieces_of_both_kinds():
    fallback = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]}
    assert piece_bytes({"▁a": 0, "<0x0A>": 1, "é": 2}, fallback) == {
        0: b" a",
        1: b"\n",
        2: "é".encode(),
    }
    assert piece_bytes({"Ġa": 0, "Ċ": 1}, {"type": "ByteLevel"}) == {0: b" a", 1: b"\n"}
