"""Replies that are JSON values."""

import pytest

from langchain_internvl.reply_text.json_replies import read_json


@pytest.mark.parametrize(
    "reply",
    ['{"a": "```"}', ' {"a": "```"}\n', '```json\n{"a": "```"}\n```', '```JSON\n{"a": "```"}```\n',
     '\n``` {"a": "```"} ```'],
)  # fmt: skip
def test_a_value_alone_or_in_a_fence(reply):
    assert read_json(reply) == {"a": "```"}


@pytest.mark.parametrize(
    "reply", ["", "a", "```json\n```", '```json\n{"a": 1}', '```python\n{"a": 1}```', "[" * 200_000]
)
def test_what_is_none(reply):
    with pytest.raises(ValueError, match=r"Expecting|Extra data|recursion"):
        read_json(reply)
