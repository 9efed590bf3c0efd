"""Copies of ChatInternVL, stored and pickled ones too."""

import copy
import json
import pickle

import httpx
import pytest
from chat_support import MODEL
from golden import checkpoint_folder
from langchain_core.load import dumpd, load

from langchain_internvl import ChatInternVL, MediaPolicy
from langchain_internvl.backends.scripted import ScriptedBackend


def test_serialisation():
    policy = MediaPolicy(max_bytes=1000)
    llm = ChatInternVL(model=MODEL, temperature=0.5, max_tiles=3, media_policy=policy, stop=["x"])
    again = load(
        json.loads(json.dumps(dumpd(llm))),
        valid_namespaces=["langchain_internvl"],
        allowed_objects=[ChatInternVL],
    )
    assert again._identifying_params == llm._identifying_params
    assert again.media_policy == policy


def test_copies_share_what_is_loaded(llm):
    llm = ChatInternVL(model=MODEL)
    tokenizer = llm._renderer(llm).tokenizer
    for copied in (llm.model_copy(), copy.copy(llm), copy.deepcopy(llm), llm.bind(seed=1).bound):
        assert copied._renderer(copied).tokenizer is tokenizer


def test_copies_are_validated():
    llm = ChatInternVL(model=MODEL)
    assert llm.model_copy(update={"api_key": " k "}).api_key.get_secret_value() == "k"
    assert llm.model_copy(update={"model": checkpoint_folder("qwen2")}).model.endswith("qwen2")
    assert llm.model_copy(update={"stop": "x"}, deep=True).stop == ["x"]
    client = httpx.AsyncClient()
    served = ChatInternVL(model="a", base_url="http://h/v1", http_client=client)
    for copied in (
        copy.deepcopy(served), served.model_copy(deep=True),
        served.model_copy(update={"api_key": "k"}, deep=True),
    ):  # fmt: skip
        assert copied.http_client is client
    for wrong in ({"engine_options": {"max_row": 3}}, {"base_url": "h"}, {"served_model": "a"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            llm.model_copy(update=wrong)


def test_a_copy_with_another_engine_needs_no_settings_of_the_first():
    llm = ChatInternVL(model=MODEL, dtype="float32", engine_options={"max_rows": 2})
    backend = ScriptedBackend(lambda _request: "Hello")
    for copied in (
        llm.model_copy(update={"backend": backend}),
        llm.model_copy(update={"backend": backend}).model_copy(update={"seed": 1}),
    ):
        assert copied.invoke("x").content == "Hello"
        assert copied.dtype == "float32"
    with pytest.raises(ValueError, match="dtype: a backend object"):
        llm.model_copy(update={"backend": backend, "dtype": "float16"})


def test_pickling_keeps_settings_and_loads_anew():
    llm = ChatInternVL(model=MODEL, max_tiles=3)
    llm.prompt_ids("x")
    again = pickle.loads(pickle.dumps(llm))
    assert again.max_tiles == 3
    assert again.prompt_ids("x") == llm.prompt_ids("x")


def test_pickling_a_scripted_model():
    llm = ChatInternVL(model=MODEL, backend=ScriptedBackend(["one", "two"]))
    again = pickle.loads(pickle.dumps(llm))
    assert [again.invoke("x").content, again.invoke("x").content] == ["one", "two"]
    assert llm.invoke("x").content == "one"
