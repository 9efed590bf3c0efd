"""Fields of `generation_config.json` that transformers applies and this package does not."""

import json
import re
import warnings

import pytest
from golden import TINY, checkpoint_folder
from transformers import GenerationConfig

from langchain_internvl import nano
from langchain_internvl.model_files.generation import _NEUTRAL, unapplied, warn_of_unapplied

ORDINARY = [
    # As transformers 4 derives them from a config, as Qwen2.5's, and as gpt-oss's.
    {"_from_model_config": True, "eos_token_id": [92542, 92543], "transformers_version": "4.37.2"},
    {"bos_token_id": 151643, "do_sample": True, "eos_token_id": [151645, 151643],
     "pad_token_id": 151643, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20,
     "top_p": 0.8, "max_new_tokens": 2048},
    {"bos_token_id": 199998, "do_sample": True, "eos_token_id": [200002, 199999]},
    GenerationConfig._get_default_generation_params(),
    dict.fromkeys(_NEUTRAL),
    *(json.loads((folder / "generation_config.json").read_text("utf-8"))
      for folder in (nano.FOLDER, *map(checkpoint_folder, TINY))),
]  # fmt: skip


@pytest.mark.parametrize("settings", ORDINARY)
def test_ordinary_checkpoints_have_none(settings):
    assert not unapplied(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unapplied(settings, "folder")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_p", 0.05), ("no_repeat_ngram_size", 3), ("typical_p", 0.9), ("num_beams", 4),
        ("bad_words_ids", [[5]]), ("suppress_tokens", [7]), ("forced_eos_token_id", 2),
        ("sequence_bias", [[[5], 2.0]]), ("guidance_scale", 1.5), ("min_new_tokens", 4),
        ("exponential_decay_length_penalty", [10, 1.1]), ("stop_strings", "END"),
    ],
)  # fmt: skip
def test_fields_that_change_replies_are_named(name, value):
    words = f"have no effect here: {name} = {value!r};"
    with pytest.warns(UserWarning, match=re.escape(words)):
        warn_of_unapplied({"do_sample": True, "top_k": 20, name: value}, "folder")


def test_every_field_is_one_of_transformers():
    assert not _NEUTRAL.keys() - vars(GenerationConfig()).keys()
    defaults = GenerationConfig._get_default_generation_params()
    assert {name: one for name, one in _NEUTRAL.items() if name in defaults} == {
        name: one for name, one in defaults.items() if name in _NEUTRAL
    }
