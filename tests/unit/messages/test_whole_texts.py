"""Texts that are wholes of their own, such as files, do not go on in the text beside them."""

import base64

import pytest
from golden import GOLDEN
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.content import create_plaintext_block

from langchain_internvl import ChatInternVL, image_block, video_block
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.messages.conversation import Text
from langchain_internvl.messages.convert import to_turns
from langchain_internvl.messages.references import normalise_messages

IMAGE = GOLDEN / "images/rgb_1344x896.png"
QUESTION = {"type": "text", "text": "3 rows?"}
TABLE = base64.b64encode(b"a,b\n1,2").decode()
SAME = {"type": "text", "text": "a,b\n1,2"}

WHOLES = {
    "plain text": create_plaintext_block("a,b\n1,2"),
    "text file": {"type": "file", "base64": TABLE, "mime_type": "text/csv"},
    "text file with a line end": {
        "type": "file", "source_type": "text", "text": "a,b\n1,2\n", "mime_type": "text/csv",
    },
    "bedrock": {"document": {"format": "csv", "name": "t", "source": {"bytes": b"a,b\n1,2"}}},
    "anthropic, text": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "a,b\n1,2"},
    },
    "anthropic, parts": {"type": "document", "source": {"type": "content", "content": [SAME]}},
    "search result": {"type": "search_result", "content": [SAME]},
}  # fmt: skip


@pytest.fixture
def llm():
    return ChatInternVL(model="nano", backend=ScriptedBackend([]))


def text_of(message):
    """The text of a message as the model gets it, in the form that LangChain's runs record too."""
    messages = normalise_messages([message], MediaPolicy())
    (turn,) = to_turns(messages)
    assert to_turns(normalise_messages(messages, MediaPolicy())) == [turn]
    assert all(isinstance(part, Text) for part in turn.parts)
    return "".join(part.text for part in turn.parts)


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_a_question_is_no_part_of_the_last_line(whole):
    assert text_of(HumanMessage([whole, QUESTION])) == "a,b\n1,2\n3 rows?"
    assert text_of(HumanMessage([QUESTION, whole])).rstrip("\n") == "3 rows?\na,b\n1,2"
    assert text_of(HumanMessage([whole])).rstrip("\n") == "a,b\n1,2"


def test_results_of_a_search_are_apart():
    found = [
        {
            "type": "search_result",
            "title": title,
            "source": "https://a.b/c",
            "content": [{"type": "text", "text": f"found {title}"}],
        }
        for title in "AB"
    ]
    expected = "A\nhttps://a.b/c\nfound A\nB\nhttps://a.b/c\nfound B"
    assert text_of(ToolMessage(found, tool_call_id="1")) == expected


def test_values_of_a_tool_are_apart():
    values = [{"text": "Two:"}, {"json": {"a": 1}}, {"json": {"a": 2}}]
    assert text_of(ToolMessage(values, tool_call_id="1")) == 'Two:\n{"a": 1}\n{"a": 2}'


def test_an_image_that_is_gone_is_no_part_of_the_question():
    gone = {"type": "image", "id": "sha256:0", "mime_type": "image/png"}
    with pytest.warns(UserWarning, match="does not have its bytes"):
        said = text_of(HumanMessage([gone, QUESTION]))
    assert said == "[An image was here. It is no longer available.]\n3 rows?"


def test_the_number_of_an_image_is_no_part_of_the_last_line(llm):
    """Nor is that of a frame."""
    image = image_block(IMAGE, max_tiles=1)
    table = WHOLES["text file"]
    for parts, expected in (
        ([image, table, image], "Image-1: *\na,b\n1,2\nImage-2: *\n"),
        ([table, video_block([IMAGE]), QUESTION], "a,b\n1,2\nFrame1: *\n3 rows?"),
        ([WHOLES["text file with a line end"], image, QUESTION], "a,b\n1,2\n*\n3 rows?"),
        ([table, image], "*\na,b\n1,2"),  # media are moved to the front
        ([QUESTION, image, QUESTION], "3 rows?*\n3 rows?"),
    ):
        prompt = llm.render([HumanMessage(parts)])
        assert f"user\n{expected}<|im_end|>" in prompt.replace("<image>", "*")


def test_texts_of_a_message_are_one_text():
    pieces = [{"type": "text", "text": "3 "}, "rows", {"type": "text", "text": "?"}]
    assert text_of(HumanMessage(pieces)) == "3 rows?"
    assert text_of(AIMessage(pieces)) == "3 rows?"
