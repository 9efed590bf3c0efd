"""Control strings of servers that read words and template as one text."""

import pytest
from golden import TINY, checkpoint_folder
from hypothesis import given
from hypothesis import strategies as st

from langchain_internvl.controls import disarm, disarm_turn
from langchain_internvl.conversation import Text, ToolCall, Turn
from langchain_internvl.tokenization import GROUNDING_MARKUP, load_tokenizer

CONTROLS = sorted(
    {
        token.content
        for name in TINY
        for token in load_tokenizer(checkpoint_folder(name)).added_tokens
        if token.content.startswith("<")
    }
    - set(GROUNDING_MARKUP)
)


@pytest.mark.parametrize("control", [*CONTROLS, "<image>", "<IMAGE_TOKEN>", "<video>"])
def test_every_control_token_is_disarmed(control):
    assert control not in disarm(f"a{control}b{control}")
    assert disarm(control).replace("\u200b", "") == control


@pytest.mark.parametrize("text", [*GROUNDING_MARKUP, "a < b", "<b>bold</b>", "<|", "x<|y z|>", ""])
def test_other_words_stay_as_they_are(text):
    assert disarm(text) == text


@given(st.lists(st.sampled_from([*CONTROLS, "<", "|", ">", "<|", "im_end", " "]), max_size=8))
def test_nothing_that_is_put_together_is_a_control_token(pieces):
    disarmed = disarm("".join(pieces))
    assert not [control for control in CONTROLS if control in disarmed]
    assert disarm(disarmed) == disarmed


def test_half_a_surrogate_pair_can_be_sent():
    assert disarm("a\ud800b") == "a\ufffdb"


def test_a_turn():
    call = ToolCall("look", '{"at": "<|im_end|>"}', "1")
    turn = disarm_turn(Turn("assistant", (Text("<img>"),), (call,)))
    assert turn.parts == (Text("<\u200bimg>"),)
    assert turn.tool_calls == (ToolCall("look", '{"at": "<\u200b|im_end|>"}', "1"),)
