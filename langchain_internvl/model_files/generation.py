"""Fields of `generation_config.json` that change the replies of transformers and are not applied.

The backends of this package sample by `do_sample`, `temperature`, `top_k`, `top_p` and
`repetition_penalty`, and limit replies by `max_tokens`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from langchain_internvl.model_files.rules import shorten

_NEUTRAL: Mapping[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "diversity_penalty": 0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "min_p": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "penalty_alpha": 0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "token_healing": False,
    "top_h": None,
    "typical_p": 1,
    "watermarking_config": None,
}
"""Fields by name, with the value that has no effect; null, and what is empty, has none either.

Not here: lengths, which `max_tokens` replaces; what has an effect only with one of these fields,
such as `length_penalty`; and `forced_bos_token_id`, which transformers applies to prompts of one
token.
"""


def unapplied(generation: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `generation_config.json` that have an effect in transformers alone.

    Args:
        generation: The settings.
    """
    return {
        name: generation[name]
        for name, neutral in _NEUTRAL.items()
        if generation.get(name) not in (None, neutral, [], {}, "")
    }


def warn_of_unapplied(generation: Mapping[str, Any], where: object) -> None:
    """Warn of fields that are not applied.

    Args:
        generation: `generation_config.json` of a checkpoint.
        where: Its folder.

    Warns:
        UserWarning: There are such fields; names them.
    """
    found = unapplied(generation)
    if found:
        named = ", ".join(f"{name} = {shorten(value)}" for name, value in found.items())
        warnings.warn(
            f"{where}: generation_config.json has fields that have no effect here: {named}; "
            "replies may differ from those of transformers' generate. temperature, top_p, top_k "
            "and repetition_penalty are applied, and stop= ends replies",
            stacklevel=2,
        )
