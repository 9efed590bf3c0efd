"""Arguments of ChatInternVL and of its calls."""

import pytest
from golden import checkpoint_folder
from langchain_core.language_models import BaseChatModel
from pydantic import ValidationError

from langchain_internvl import ChatInternVL
from langchain_internvl.errors import (
    CheckpointNotFoundError,
    RequestError,
)


def test_unknown_arguments_of_a_call_are_refused(llm):
    with pytest.raises(RequestError, match=r"takes no functions; it takes .*tools"):
        llm.invoke("x", functions=[])


def test_construction_loads_nothing_and_checks_arguments():
    ChatInternVL(model="/no/such/folder")
    with pytest.raises(CheckpointNotFoundError):
        ChatInternVL(model="/no/such/folder").invoke("x")
    with pytest.raises(ValidationError, match="never runs code"):
        ChatInternVL(trust_remote_code=True)
    with pytest.raises(ValidationError, match="backend is"):
        ChatInternVL(backend="vllm")
    with pytest.raises(ValidationError, match="internvl2_5"):
        ChatInternVL(chat_template="vicuna")
    for wrong in ({"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_k": 0.5}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            ChatInternVL(**wrong)


def test_typing_errors_are_warned_of():
    with pytest.warns(UserWarning, match=r"'max_token'; did you mean 'max_tokens'\?"):
        ChatInternVL(max_token=5)


def test_a_warning_points_at_the_line_that_is_wrong():
    with pytest.warns(UserWarning, match="max_token") as warned:
        ChatInternVL(max_token=5)
    assert warned[0].filename == __file__


def test_the_model_by_path_or_by_its_other_name(recwarn):
    assert ChatInternVL(model=checkpoint_folder("qwen2")).model == str(checkpoint_folder("qwen2"))
    assert ChatInternVL(model_name="a/b").model == "a/b"
    assert ChatInternVL(model="c/d", model_name="a/b").model == "c/d"
    assert not recwarn.list


def test_fields_are_described():
    own = ChatInternVL.model_fields.keys() - BaseChatModel.model_fields.keys()
    assert not [name for name in own if not ChatInternVL.model_fields[name].description]


def test_standard_arguments_of_other_providers_are_fine(recwarn):
    ChatInternVL(max_retries=2, streaming=True, timeout=60, stop=[])
    assert not recwarn.list
