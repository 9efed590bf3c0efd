"""The types of arguments are those of the fields, and the snippets run as they are typed."""

from pathlib import Path

import pytest
import typed_snippets
from golden import PHOTOS

from langchain_internvl import ChatInternVL, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend
from langchain_internvl.media.policy import PolicyArguments
from langchain_internvl.settings.arguments import CallArguments, ChatArguments, ModelArguments
from langchain_internvl.settings.call import CallSettings
from langchain_internvl.settings.model import ModelSettings


def test_arguments_are_the_fields():
    assert CallArguments.__annotations__.keys() == CallSettings.model_fields.keys()
    known = ModelArguments.__annotations__.keys() - {"model_name"}
    assert known == ModelSettings.model_fields.keys()
    known = ChatArguments.__annotations__.keys() - {"model_name"}
    assert known == ChatInternVL.model_fields.keys()
    assert PolicyArguments.__annotations__.keys() == MediaPolicy.model_fields.keys()


def test_the_adapter_of_a_path():
    assert ChatInternVL(model="m", adapter=Path("a/b")).adapter == "a/b"


@pytest.mark.filterwarnings("ignore:ChatInternVL")
def test_snippets_run():
    assert typed_snippets.policies()[0].roots == (".",)
    models = typed_snippets.models(ScriptedBackend(["x"]))
    assert [llm.model for llm in models[:3]] == ["folder", "a/b", "a/b"]
    assert models[2].stop == ["x"]
    assert models[4].default_headers["X-A"].get_secret_value() == "b"
    text, calls, answer, chunks, temperature = typed_snippets.talk(PHOTOS / "chelsea.png")
    assert (text, calls, answer) == ('{"yes": true}', [], typed_snippets.Answer(yes=True))
    assert "".join(chunks) == text
    assert temperature == 0
