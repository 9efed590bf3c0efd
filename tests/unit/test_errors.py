"""Texts of errors."""

import os
import pickle

import pytest

from langchain_internvl import image_block
from langchain_internvl.errors import MediaError, MessageError


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.png"), "\ud83d.png"])
def test_a_name_that_is_no_unicode_can_be_printed(name):
    with pytest.raises(MediaError, match=r"\\ud[0-9a-f]{3}.png: no such file") as caught:
        image_block(name)
    assert str(caught.value).encode().decode() == str(caught.value)
    assert caught.value.source == name
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_other_characters_stay():
    assert str(MessageError("größer 猫 😀\n")) == "größer 猫 😀\n"
