"""Values of runs without media."""

import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.prompts import ChatPromptTemplate

from langchain_internvl.tracing import without_media

ENCODED = "A" * 4000
MESSAGE = HumanMessage([{"type": "text", "text": "hi"}, {"type": "image", "base64": ENCODED}])
VALUES = {
    "message": MESSAGE,
    "prompt": ChatPromptTemplate([MESSAGE]).invoke({}),
    "document": Document(f"hi {ENCODED}"),
    "result": LLMResult(generations=[[ChatGeneration(message=MESSAGE)]]),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_media_are_replaced_in_all_that_holds_messages_or_text(value):
    before = repr(value)
    found = without_media({"output": value})["output"]
    assert type(found) is type(value)
    assert ENCODED not in repr(found)
    assert "<base64 of 3000 bytes>" in repr(found)
    assert "hi" in repr(found)
    assert repr(value) == before
