"""Channels of gpt-oss, as they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.reply_text.channels import HARMONY, ChannelStream, without_thoughts

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"


def split(*pieces):
    stream = ChannelStream(HARMONY)
    shown = [stream.push(piece) for piece in pieces]
    shown.append(stream.push("", last=True))
    return "".join(one for one, _ in shown), "".join(other for _, other in shown)


@pytest.mark.parametrize(
    ("reply", "thoughts", "answer"),
    [
        (f"{ANALYSIS}Hm. \n{NEXT}{FINAL}\nYes.", "Hm.", "Yes."),
        (f"{FINAL}Yes.", "", "Yes."),
        ("Yes.", "", "Yes."),  # the prompt has opened the channel
        (f"Yes. {NEXT}{FINAL}No.", "", "Yes. \n\nNo."),
        (f"{ANALYSIS}One.{NEXT}{ANALYSIS} Two.{NEXT}{FINAL}Yes.", "One.\n\n Two.", "Yes."),
        (f"{ANALYSIS}{NEXT}{FINAL}Yes.", "", "Yes."),
        (f"{ANALYSIS}Hm.<|channel|>final<|message|>Yes.", "Hm.", "Yes."),  # `<|end|>` left out
        (f"{ANALYSIS}endless", "endless", ""),
        (f"{ANALYSIS}Hm.{NEXT}", "Hm.", ""),
        (f"{ANALYSIS}Hm.{NEXT}<|channel|>fin", "Hm.", ""),
        ("<|channel|>final json<|message|>{}", "", "{}"),
        ("<|channel|>commentary<|message|>I look.<|end|>", "", "I look."),
        (f"{FINAL}<think>Hm.</think>\n\nYes.", "Hm.", "Yes."),  # asked to by the system text
        (f"{ANALYSIS}A.{NEXT}{FINAL}\n<think>B.</think>Yes.", "A.\n\nB.", "Yes."),
        (f"{FINAL}a < b <| c", "", "a < b <| c"),
        ("", "", ""),
    ],
)
def test_parts(reply, thoughts, answer):
    assert split(reply) == (thoughts, answer)
    assert split(*reply) == (thoughts, answer)


PIECES = st.lists(
    st.sampled_from(
        [*HARMONY.marks, "analysis", "final", "assistant", "<think>", "</think>", "<|", " ", "a\n"]
    ),
    max_size=12,
)


@given(pieces=PIECES)
def test_pieces_do_not_matter(pieces):
    assert split(*pieces) == split("".join(pieces)) == split(*"".join(pieces))


def test_a_thought_is_shown_while_it_comes():
    stream = ChannelStream(HARMONY)
    assert stream.push(ANALYSIS) == ("", "")
    assert stream.push("Hm, a") == ("Hm, a", "")
    assert stream.is_thinking
    assert stream.push(NEXT + FINAL + "Yes") == ("", "Yes")
    assert not stream.is_thinking


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (f"{ANALYSIS}Hm.{NEXT}{FINAL}Yes.", "Yes."),
        (f"{FINAL}Yes.", "Yes."),
        (f"{ANALYSIS}Hm.", f"{ANALYSIS}Hm."),
        ("<|channel|> is a token", "<|channel|> is a token"),
        ("<think>Hm.</think>Yes.", "Yes."),
        ("<think>Hm.", "<think>Hm."),
    ],
)
def test_whole_replies_without_thoughts(reply, answer):
    assert without_thoughts(reply) == answer
