"""What an agent is told of a reply."""

import pytest
from langchain_core.messages import AIMessage

from langchain_internvl.tools.answers import answer_of


@pytest.mark.parametrize(
    ("reason", "is_complete"),
    [("stop", True), (None, True), ("pause_turn", True), ("length", False),
     ("content_filter", False), ("repetition", False)],
)  # fmt: skip
def test_replies_that_were_cut_off_say_so(reason, is_complete):
    answer = answer_of(AIMessage(" A cat ", response_metadata={"finish_reason": reason}))
    assert answer.is_complete == is_complete
    assert answer.cut_off == (None if is_complete else reason)
    assert answer.for_agent == "A cat" + ("" if is_complete else "\n(The answer was cut off here.)")
