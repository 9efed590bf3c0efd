"""Rope that depends on the length: which sequences may share a batch."""

import json

import pytest
from engine_support import solo, words
from golden import checkpoint_folder
from support import decode

from langchain_internvl.backends.base import Request
from langchain_internvl.backends.transformers.rope import batch_key, length_limit

LIMIT = 2048  # of the tiny checkpoints with a rope that depends on length


@pytest.mark.parametrize("name", ["internlm2", "phi3"])
def test_rows_past_the_trained_length_do_not_change_short_ones(name, loops):
    """Their rope is computed from the longest position in a batch."""
    engine = loops(name)
    requests = [
        Request(words(engine, length, length), max_tokens=6)
        for length in (20, LIMIT + 100, 300, LIMIT + 40, LIMIT - 3, LIMIT - 6)
    ]
    alone = [solo(engine, request) for request in requests]
    assert [ids for ids, _ in decode(engine.loop, *requests)] == alone


def test_batch_keys_of_dynamic_rope(loops):
    text = loops("internlm2").model.config.get_text_config()
    assert length_limit(text) == LIMIT
    assert batch_key(text, 10, 20, "a") == batch_key(text, LIMIT - 20, 20, "b") == "short"
    assert batch_key(text, LIMIT - 19, 20, "a") == ("alone", "a")
    assert batch_key(text, LIMIT + 5, 20, "b") == ("alone", "b")


def test_batch_keys_of_longrope(loops):
    text = loops("phi3").model.config.get_text_config()
    assert length_limit(text) == LIMIT
    assert batch_key(text, 10, 20, "a") == "short"
    assert batch_key(text, LIMIT - 19, 20, "a") == ("alone", "a")
    assert batch_key(text, LIMIT + 1, 20, "a") == batch_key(text, LIMIT + 900, 20, "b") == "long"


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_batch_keys_of_plain_rope(name, loops):
    text = loops(name).model.config.get_text_config()
    assert length_limit(text) is None
    assert batch_key(text, 10**6, 10**6, "a") == "short"


def test_the_limit_in_these_tests_is_the_checkpoints():
    config = json.loads((checkpoint_folder("internlm2") / "config.json").read_text("utf-8"))
    assert config["llm_config"]["max_position_embeddings"] == LIMIT
