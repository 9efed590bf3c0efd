"""Texts of errors."""

import os
import pickle
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from langchain_internvl import ChatInternVL, InternVLImageParser, InternVLLoader, image_block
from langchain_internvl.documents import answer_with_citations
from langchain_internvl.documents.clear_images import ClearImagesMiddleware
from langchain_internvl.documents.docling import describe_pictures
from langchain_internvl.errors import MediaError, MessageError, RequestError, check_chat_model
from langchain_internvl.evaluation import evaluate


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.png"), "\ud83d.png"])
def test_a_name_that_is_no_unicode_can_be_printed(name):
    with pytest.raises(MediaError, match=r"\\ud[0-9a-f]{3}.png: no such file") as caught:
        image_block(name)
    assert str(caught.value).encode().decode() == str(caught.value)
    assert caught.value.source == name
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_other_characters_stay():
    assert str(MessageError("größer 猫 😀\n")) == "größer 猫 😀\n"


@pytest.mark.parametrize("wrong", ["nano", Path("nano"), ChatInternVL])
@pytest.mark.parametrize(
    "use",
    [
        lambda llm: InternVLLoader([], llm=llm),
        InternVLImageParser,
        lambda llm: answer_with_citations(llm, lambda question: []),
        lambda llm: ClearImagesMiddleware(llm, trigger_tokens=1),
        lambda llm: describe_pictures(None, llm),
        lambda llm: list(evaluate(llm, [], "exact")),
    ],
)
def test_a_name_or_a_class_is_no_model(use, wrong):
    with pytest.raises(RequestError, match=r"llm is a chat model, such as ChatInternVL\(model"):
        use(wrong)


def test_a_double_of_a_model_is_one():
    """Also one that has all special methods, such as that of paths."""
    check_chat_model(MagicMock())
