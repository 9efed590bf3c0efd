"""Thoughts before the answer, as they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.reply_text.reasoning import THINKING_SYSTEM, ThoughtStream


def split(*pieces):
    stream = ThoughtStream()
    shown = [stream.push(piece) for piece in pieces]
    shown.append(stream.push("", last=True))
    return "".join(one for one, _ in shown), "".join(other for _, other in shown)


@pytest.mark.parametrize(
    ("reply", "thoughts", "answer"),
    [
        ("<think>\nHm. \n</think>\n\nYes.", "Hm.", "Yes."),
        ("<think></think>Yes.", "", "Yes."),
        ("<think>\n\n</think>\n\nYes.\n\nNo.", "", "Yes.\n\nNo."),
        ("Yes.", "", "Yes."),
        ("", "", ""),
        ("<", "", "<"),
        ("<think", "", "<think"),
        ("<thinking>Yes.", "", "<thinking>Yes."),
        ("Yes <think>no</think>", "", "Yes <think>no</think>"),
        ("<think>endless", "endless", ""),
        ("<think>almost </thin", "almost </thin", ""),
        ("<think>a </ b </think>c</think>", "a </ b", "c</think>"),
        ("<think>", "", ""),
    ],
)
def test_parts(reply, thoughts, answer):
    assert split(reply) == (thoughts, answer)
    assert split(*reply) == (thoughts, answer)


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "/", "think>", " ", "\n", "a", "b c"]), max_size=12
)


@given(pieces=PIECES)
def test_pieces_do_not_matter(pieces):
    assert split(*pieces) == split("".join(pieces)) == split(*"".join(pieces))


@given(pieces=PIECES)
def test_nothing_is_lost_but_tags_and_space_between(pieces):
    reply = "".join(pieces)
    thoughts, answer = split(reply)
    if not reply.startswith("<think>"):
        assert (thoughts, answer) == ("", reply.strip())
    else:
        thought, _, rest = reply.removeprefix("<think>").partition("</think>")
        assert (thoughts, answer) == (thought.strip(), rest.strip())


def test_the_system_text_is_the_model_cards():
    assert THINKING_SYSTEM.startswith("You are an AI assistant that rigorously follows this")
    assert "within <think> and </think> tags." in THINKING_SYSTEM
    assert THINKING_SYSTEM.count("\n\n") == 3
